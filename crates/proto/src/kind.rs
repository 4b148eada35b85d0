//! The kinds of messages, and their numbers in both framings.

use crate::extension;

macro_rules! message_kinds {
    (
        published { $($(#[$doc:meta])* $kind:ident = $field:literal),* $(,)? }
        extensions {
            $($(#[$extension_doc:meta])* $extension:ident = $extension_field:path, level $level:literal;)*
        }
    ) => {
        /// The kind of a message. Its number is that of the message's field in `Packet`. A message of the published
        /// protocol also has a type number in the classic framing, which is two less (`Hello` has none). The numbers
        /// of extensions begin at 100.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum MessageKind {
            $($(#[$doc])* $kind = $field,)*
            $($(#[$extension_doc])* $extension = $extension_field as u8,)*
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

            /// The kind of the published protocol with this field number. Extensions have a function of their own:
            /// without their far larger numbers this one compiles to a single comparison.
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

            /// The level that a connection needs to have for the message; 0 if it is a message of the published protocol
            /// (rule CO-18).
            pub const fn level(self) -> u32 {
                match self {
                    $(MessageKind::$kind => 0,)*
                    $(MessageKind::$extension => $level,)*
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
        /// Registers a service id.
        RegisterRequest = 2,
        /// Answers a `RegisterRequest`.
        RegisterReply = 3,
        /// Unregisters a service id.
        UnregisterRequest = 4,
        /// Answers an `UnregisterRequest`.
        UnregisterReply = 5,
        /// A call, on its way to the router or to the service.
        CallRequest = 6,
        /// A reply, on its way to the router or to the caller.
        CallReply = 7,
        /// Subscribes to a topic.
        SubscribeRequest = 8,
        /// Answers a `SubscribeRequest`.
        SubscribeReply = 9,
        /// Unsubscribes from a topic.
        UnsubscribeRequest = 10,
        /// Answers an `UnsubscribeRequest`.
        UnsubscribeReply = 11,
        /// A broadcast, on its way to the router or to a subscriber.
        BroadcastRequest = 12,
        /// Answers a `BroadcastRequest`.
        BroadcastReply = 13,
        /// Asks the other side to answer with a `Pong`.
        Ping = 14,
        /// Answers a `Ping`.
        Pong = 15,
    }
    extensions {
        /// Cancels an open call. Exists in the packet framing only, as do all extensions.
        CancelCall = extension::PACKET_CANCEL_CALL, level 1;
        /// Allows the other end of a call to send more of a stream.
        StreamCredit = extension::PACKET_STREAM_CREDIT, level 1;
        /// More data of a request that is a stream.
        CallData = extension::PACKET_CALL_DATA, level 1;
        /// The router is going to close the connection.
        GoAway = extension::PACKET_GO_AWAY, level 1;
        /// The router has taken a name away.
        NameLost = extension::PACKET_NAME_LOST, level 1;
    }
}

impl MessageKind {
    /// The field number of the message in `Packet`.
    pub fn field(self) -> u32 {
        self as u32
    }

    /// Whether the message has a payload: bytes of users, which may be many.
    pub(crate) fn has_payload(self) -> bool {
        use MessageKind::{BroadcastRequest, CallData, CallReply, CallRequest};
        matches!(self, CallRequest | CallReply | BroadcastRequest | CallData)
    }

    /// The type number in a classic header; `None` for `Hello` and the extensions.
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
