//! The table of all extension fields: what this project adds to the published protocol.
//!
//! A new field or message with a number of [`FIRST`] or more is entered here, in `proto/gsb_api.proto` and in the table
//! of rule FR-8 in `docs/protocol.md`; a test compares the three.

/// The highest level of the extensions that this crate implements (rule CO-18).
pub const LEVEL: u32 = 1;

/// The lowest number of an extension field. Fields below it belong to the published protocol.
pub const FIRST: u32 = 100;

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExtensionField {
    /// The message that has the field. The fields of `Packet` are whole messages.
    pub message: &'static str,
    /// The field's number.
    pub number: u32,
    /// The field's name.
    pub name: &'static str,
}

macro_rules! extension_fields {
    ($($constant:ident = $message:ident $number:literal $name:ident,)*) => {
        $(#[doc = concat!("Number of `", stringify!($message), ".", stringify!($name), "`.")]
        pub const $constant: u32 = $number;)*

        /// Every extension field, in the order of the table.
        pub const ALL: &[ExtensionField] = &[$(ExtensionField {
            message: stringify!($message),
            number: $number,
            name: stringify!($name),
        },)*];
    };
}

extension_fields! {
    HELLO_NO_ECHO = Hello 100 no_echo,
    HELLO_LEVEL = Hello 101 level,
    HELLO_MAX_FRAME = Hello 102 max_frame,
    REGISTER_REQUEST_MODE = RegisterRequest 100 mode,
    REGISTER_REQUEST_CAPACITY = RegisterRequest 101 capacity,
    CALL_REQUEST_TIMEOUT_MS = CallRequest 101 timeout_ms,
    CALL_REQUEST_HEADERS = CallRequest 102 headers,
    CALL_REQUEST_REPLY_CREDIT = CallRequest 103 reply_credit,
    CALL_REQUEST_MORE = CallRequest 104 more,
    CALL_REQUEST_AFFINITY = CallRequest 105 affinity,
    CALL_REPLY_REASON = CallReply 100 reason,
    CALL_REPLY_HEADERS = CallReply 102 headers,
    BROADCAST_REQUEST_MISSED = BroadcastRequest 100 missed,
    BROADCAST_REQUEST_HEADERS = BroadcastRequest 102 headers,
    BROADCAST_REPLY_RECEIVERS = BroadcastReply 100 receivers,
    PACKET_CANCEL_CALL = Packet 100 cancel_call,
    PACKET_STREAM_CREDIT = Packet 101 stream_credit,
    PACKET_CALL_DATA = Packet 102 call_data,
    PACKET_GO_AWAY = Packet 103 go_away,
    PACKET_NAME_LOST = Packet 104 name_lost,
}

#[cfg(test)]
#[path = "extension_tests.rs"]
mod tests;
