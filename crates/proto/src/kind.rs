//! What a message is, and the numbers that say so.

use crate::extension;

macro_rules! message_kinds {
    (
        published { $($(#[$doc:meta])* $kind:ident = $field:literal),* $(,)? }
        extensions { $($(#[$extension_doc:meta])* $extension:ident = $extension_field:literal),* $(,)? }
    ) => {
        /// What a message is. The number is its field in `Packet`. Those of the published protocol have a classic
        /// type, too, which is two less; extensions are numbered from 100 up.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum MessageKind {
            $($(#[$doc])* $kind = $field,)*
            $($(#[$extension_doc])* $extension = $extension_field,)*
        }

        impl MessageKind {
            /// Every kind, in the order of the numbers.
            pub const ALL: &[MessageKind] =
                &[$(MessageKind::$kind,)* $(MessageKind::$extension,)*];

            /// The kind with this field number in `Packet`.
            pub fn from_field(field: u32) -> Option<MessageKind> {
                match MessageKind::published(field) {
                    None => MessageKind::extension(field),
                    published => published,
                }
            }

            /// The kind of the published protocol with this field number. Apart from the extensions, whose numbers
            /// are far away: within one range of numbers the look-up is a comparison.
            #[inline]
            pub(crate) fn published(field: u32) -> Option<MessageKind> {
                match field {
                    $($field => Some(MessageKind::$kind),)*
                    _ => None,
                }
            }

            fn extension(field: u32) -> Option<MessageKind> {
                match field {
                    $($extension_field => Some(MessageKind::$extension),)*
                    _ => None,
                }
            }

            /// The name of the message.
            pub fn name(self) -> &'static str {
                match self {
                    $(MessageKind::$kind => stringify!($kind),)*
                    $(MessageKind::$extension => stringify!($extension),)*
                }
            }
        }
    };
}

message_kinds! {
    published {
        /// Introduces a peer. Exists in the packet framing only.
        Hello = 1,
        /// Asks for a service id.
        RegisterRequest = 2,
        /// Answers a `RegisterRequest`.
        RegisterReply = 3,
        /// Gives a service id back.
        UnregisterRequest = 4,
        /// Answers an `UnregisterRequest`.
        UnregisterReply = 5,
        /// A call, on its way to the router or to the service.
        CallRequest = 6,
        /// A reply, on its way to the router or to the caller.
        CallReply = 7,
        /// Asks for the broadcasts to a topic.
        SubscribeRequest = 8,
        /// Answers a `SubscribeRequest`.
        SubscribeReply = 9,
        /// Ends a subscription.
        UnsubscribeRequest = 10,
        /// Answers an `UnsubscribeRequest`.
        UnsubscribeReply = 11,
        /// An event, on its way to the router or to a subscriber.
        BroadcastRequest = 12,
        /// Answers a `BroadcastRequest`.
        BroadcastReply = 13,
        /// Asks for a sign of life.
        Ping = 14,
        /// Answers a `Ping`.
        Pong = 15,
    }
    extensions {
        /// Ends a call whose caller wants no more replies. Exists in the packet framing only.
        CancelCall = 100,
    }
}

impl MessageKind {
    /// The field number of the message in `Packet`.
    pub fn field(self) -> u32 {
        self as u32
    }

    /// Whether it carries bytes of users, which may be many.
    pub(crate) fn has_payload(self) -> bool {
        use MessageKind::{BroadcastRequest, CallReply, CallRequest};
        matches!(self, CallRequest | CallReply | BroadcastRequest)
    }

    /// The type number in a classic header; `Hello` and the extensions have none.
    pub fn classic_type(self) -> Option<i32> {
        let has_type = self != MessageKind::Hello && self.field() < extension::FIRST;
        has_type.then(|| self as i32 - 2)
    }

    /// The kind with this type number in a classic header.
    pub fn from_classic_type(number: i32) -> Option<MessageKind> {
        let field = u32::try_from(number.checked_add(2)?).ok()?;
        MessageKind::from_field(field).filter(|kind| kind.classic_type().is_some())
    }
}
