//! The texts of all errors, on their own and composed.

use std::collections::BTreeSet;

use gsb_proto::{MessageKind, ServiceId};

use super::*;
use crate::engine::refusal::{Refusal, too_many_bytes, too_many_calls};
use crate::failure::Failure;

/// How many reasons there are.
const REASONS: usize = 14;

/// A number for each reason. A new one does not compile until it is added here, and then its row is missing.
fn number(reason: &LostReason) -> usize {
    match reason {
        LostReason::NotYet => 0,
        LostReason::Unreachable { .. } => 1,
        LostReason::NoAnswer(_) => 2,
        LostReason::NotConnected(_) => 3,
        LostReason::NothingTaken(_) => 4,
        LostReason::Unanswered => 5,
        LostReason::HungUp => 6,
        LostReason::Io(_) => 7,
        LostReason::Violation(_) => 8,
        LostReason::UnexpectedReply(_) => 9,
        LostReason::Stopping => 10,
        LostReason::Silent(_) => 11,
        LostReason::RuntimeEnded => 12,
        LostReason::Closed => 13,
    }
}

fn address() -> Address {
    "tcp://127.0.0.1:7464".parse().unwrap()
}

fn unreachable(reason: &LostReason) -> LostReason {
    LostReason::Unreachable { address: address(), problem: reason.to_string() }
}

/// Each reason and its text, which follows a colon in an error.
fn reasons() -> Vec<(LostReason, String)> {
    let time = Duration::from_millis(1500);
    let refused = "Connection refused (os error 111); is a router running there?";
    let violation = Violation::WrongDirection(MessageKind::RegisterRequest);
    let not_yet =
        "the bus is not connected to a router yet; `wait_for_router` waits for the connection";
    let rows = [
        (LostReason::NotYet, not_yet),
        (LostReason::NoAnswer(time), "the router did not answer within 1.5 s (connect_timeout)"),
        (LostReason::NotConnected(refused.to_owned()), refused),
        (
            LostReason::NothingTaken(time),
            "the outbox is full, and the router has read nothing for 1.5 s",
        ),
        (
            LostReason::Unanswered,
            "the router has not answered earlier requests, which hold 64 MiB, the limit; is it alive?",
        ),
        (LostReason::HungUp, "the router closed the connection"),
        (LostReason::from(io::Error::other("broken pipe")), "the socket failed: broken pipe"),
        (LostReason::UnexpectedReply("Pong"), "the router sent an unexpected Pong"),
        (LostReason::Stopping, "the router is shutting down"),
        (LostReason::Silent(time), "the router was silent for 1.5 s"),
        (LostReason::RuntimeEnded, "the tokio runtime of the bus has ended"),
        (LostReason::Closed, "this program has closed the bus"),
        (
            unreachable(&LostReason::NoAnswer(time)),
            "cannot connect to tcp://127.0.0.1:7464: the router did not answer within 1.5 s (connect_timeout)",
        ),
        (
            unreachable(&LostReason::HungUp),
            "cannot connect to tcp://127.0.0.1:7464: the router closed the connection",
        ),
    ];
    let mut rows = rows.map(|(reason, text)| (reason, text.to_owned())).to_vec();
    let text = format!("the router broke the protocol: {violation}");
    rows.push((LostReason::Violation(violation), text));
    rows
}

/// Each error and its text, composed errors included.
fn errors() -> Vec<(Error, String)> {
    let after = Duration::from_secs(10);
    let a = || "/a".to_owned();
    let message = || "the reason".to_owned();
    let no_address = "unix:".parse::<Address>().unwrap_err();
    let no_name = ServiceId::new("").unwrap_err();
    let (address_text, name_text) = (no_address.to_string(), no_name.to_string());
    let refused = |refusal: Refusal| {
        let reply = refusal.reply(String::new());
        String::from_utf8(reply.data.to_vec()).unwrap()
    };
    let rows = [
        (Error::Address(no_address), address_text.as_str()),
        (Error::Name(no_name), &name_text),
        (
            Error::Connect { address: address(), problem: LostReason::HungUp.to_string() },
            "cannot connect to tcp://127.0.0.1:7464: the router closed the connection",
        ),
        (
            Error::Thread("too many".to_owned()),
            "cannot start the thread of the bus: too many; is a limit on threads or descriptors reached?",
        ),
        (
            Error::NameRefused { name: a(), message: message() },
            "the router refuses the name \"/a\": the reason",
        ),
        (
            Error::AlreadyRegistered { service_id: a(), message: String::new() },
            "the service id \"/a\" is already registered",
        ),
        (Error::AlreadyRegistered { service_id: a(), message: message() }, "the reason"),
        (
            Error::NoSuchService { address: a(), message: message() },
            "there is no service at \"/a\"",
        ),
        (
            Error::BadRequest { target: a(), message: message() },
            "the request to \"/a\" was refused: the reason",
        ),
        (
            Error::BadRequest { target: a(), message: refused(Refusal::OnlyPushes) },
            "the request to \"/a\" was refused: the service takes pushes only; use `push`",
        ),
        (
            Error::Unsupported { target: a(), message: refused(Refusal::RequestStream) },
            "the request to \"/a\" is not supported: the service takes no uploads; register it with `register_upload`, or use `call`",
        ),
        (
            Error::Busy { address: a(), message: too_many_calls(8) },
            "the service at \"/a\" is busy: it is handling 8 calls, its limit (max_running or capacity); try again later",
        ),
        (
            Error::Busy { address: a(), message: too_many_bytes(64) },
            "the service at \"/a\" is busy: the calls that its process is handling hold 64 bytes, the limit \
             (max_running_bytes); try again later",
        ),
        (
            Failure::panicked().into_error("/a"),
            "the service at \"/a\" failed: its handler panicked",
        ),
        (
            Error::ServiceFailure { address: a(), message: refused(Refusal::NoReply) },
            "the service at \"/a\" failed: its handler has ended without a reply",
        ),
        (
            Failure::from(Error::NoSuchService { address: "/b".into(), message: message() })
                .into_error("/a"),
            "the service at \"/a\" failed: there is no service at \"/b\"",
        ),
        (
            Error::Cancelled { address: a(), message: refused(Refusal::Cancelled) },
            "the service at \"/a\" dropped the call: its handler was dropped before it answered, because the \
             call was cancelled or its bus was shut down",
        ),
        (
            Error::UnknownCode { address: a(), code: 9, message: message() },
            "the service at \"/a\" answered with code 9, which this client does not know: the reason",
        ),
        (Error::Timeout { target: a(), after }, "no reply for \"/a\" within 10 s"),
        (
            Error::Encoding { what: "divide".into(), error: EncodingError::new("it is too large") },
            "cannot encode \"divide\": it is too large",
        ),
        (
            Error::Decoding { from: a(), error: EncodingError::new("unknown field `x`") },
            "cannot decode the data from \"/a\": unknown field `x`",
        ),
        (
            Error::IsStream { address: a() },
            "the service at \"/a\" answers with a stream; call it with `stream`",
        ),
        (
            Error::Overflow { limit: 64, missed: 1 },
            "the consumer reads too slowly: 1 message did not fit into its buffer of 64 bytes; read faster, or raise \
             buffer_limit",
        ),
        (
            Error::Overflow { limit: 64, missed: 2 },
            "the consumer reads too slowly: 2 messages did not fit into its buffer of 64 bytes; read faster, or raise \
             buffer_limit",
        ),
        (
            Error::Missed { count: 3 },
            "this process reads too slowly: the router dropped 3 events for its subscriptions; read faster, or raise \
             --queue-limit of the router",
        ),
        (
            Error::TooLarge { length: 65, limit: 64 },
            "the message has 65 bytes, which is over the limit of 64 bytes; split it, or raise max_frame here and \
             --max-frame at the router",
        ),
        (
            Error::TooLarge { length: 65_537, limit: 65_536 },
            "the message, or its address and caller together, has 65537 bytes, which is over the limit of 65536 bytes; \
             shorten the data, the address or the caller",
        ),
        (
            Error::TooManyUnanswered { address: a(), calls: 1024 },
            "the service at \"/a\" has not answered 1024 earlier calls, which this router cannot cancel; is the \
             service alive?",
        ),
        (Error::NotSent(LostReason::Stopping), "not sent: the router is shutting down"),
        (
            Error::NotSent(unreachable(&LostReason::NoAnswer(after))),
            "not sent: cannot connect to tcp://127.0.0.1:7464: the router did not answer within 10 s (connect_timeout)",
        ),
        (
            Error::ConnectionLost(LostReason::HungUp),
            "the connection to the router was lost: the router closed the connection",
        ),
        (Error::ShutDown, "not sent: this program has shut the bus down or closed it"),
        (
            Error::Unfinished { running: 0, after },
            "the shutdown did not finish within 10 s: the router has not read, or not confirmed, all that was sent",
        ),
        (
            Error::Unfinished { running: 1, after },
            "the shutdown did not finish within 10 s: 1 call was still running",
        ),
        (
            Error::Unfinished { running: 2, after },
            "the shutdown did not finish within 10 s: 2 calls were still running",
        ),
    ];
    let mut rows = rows.map(|(error, text)| (error, text.to_owned())).to_vec();
    for (reason, text) in reasons() {
        rows.push((Error::NotSent(reason.clone()), format!("not sent: {text}")));
        let text = format!("the connection to the router was lost: {text}");
        rows.push((Error::ConnectionLost(reason), text));
    }
    rows
}

#[test]
fn every_error_has_a_text_that_reads_well() {
    for (error, text) in errors() {
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn every_error_and_every_reason_has_a_row() {
    let kinds: BTreeSet<_> = reasons().iter().map(|(reason, _)| number(reason)).collect();
    assert_eq!(kinds.len(), REASONS, "{kinds:?}");
    let shown = |(error, _): &(Error, String)| std::mem::discriminant(error);
    let errors: std::collections::HashSet<_> = errors().iter().map(shown).collect();
    assert_eq!(errors.len(), crate::delivery::tests::VARIANTS);
}
