use std::collections::BTreeSet;
use std::time::Duration;

use gsb_proto::{Address, ServiceId};

use super::*;
use crate::encoding::EncodingError;

/// How many variants there are.
pub(crate) const VARIANTS: usize = 25;

/// A number for each variant. A new one does not compile until it is entered here; then it lacks a row.
fn variant(error: &Error) -> usize {
    match error {
        Error::Address(_) => 0,
        Error::Connect { .. } => 1,
        Error::Name(_) => 2,
        Error::NameRefused { .. } => 3,
        Error::AlreadyRegistered { .. } => 4,
        Error::NoSuchService { .. } => 5,
        Error::BadRequest { .. } => 6,
        Error::Busy { .. } => 7,
        Error::ServiceFailure { .. } => 8,
        Error::UnknownCode { .. } => 9,
        Error::Timeout { .. } => 10,
        Error::Encoding { .. } => 11,
        Error::Decoding { .. } => 12,
        Error::IsStream { .. } => 13,
        Error::Overflow { .. } => 14,
        Error::Missed { .. } => 15,
        Error::TooLarge { .. } => 16,
        Error::NotSent(_) => 17,
        Error::ConnectionLost(_) => 18,
        Error::ShutDown => 19,
        Error::Unfinished { .. } => 20,
        Error::TooManyUnanswered { .. } => 21,
        Error::Thread(_) => 22,
        Error::Unsupported { .. } => 23,
        Error::Cancelled { .. } => 24,
    }
}

/// Every kind of error, whether its request was delivered, and whether it may be made again.
fn table() -> Vec<(Error, Delivered, bool)> {
    use Delivered::{No, Unknown, Yes};
    let text = || "x".to_owned();
    let unix = Address::Unix("/run/gsb.sock".into());
    let not_an_address = "unix:".parse::<Address>().unwrap_err();
    let after = Duration::from_secs(1);
    vec![
        (Error::Address(not_an_address), No, false),
        (Error::Connect { address: unix, problem: text() }, No, true),
        (Error::Thread(text()), No, true),
        (Error::Name(ServiceId::new("").unwrap_err()), No, false),
        (Error::NameRefused { name: text(), message: text() }, No, false),
        (Error::AlreadyRegistered { service_id: text(), message: text() }, No, true),
        (Error::NoSuchService { address: text(), message: text() }, No, true),
        (Error::BadRequest { target: text(), message: text() }, Unknown, false),
        (Error::Unsupported { target: text(), message: text() }, No, false),
        (Error::Busy { address: text(), message: text() }, No, true),
        (Error::ServiceFailure { address: text(), message: text() }, Unknown, false),
        (Error::Cancelled { address: text(), message: text() }, Unknown, false),
        (Error::UnknownCode { address: text(), code: 9, message: text() }, Unknown, false),
        (Error::Timeout { target: text(), after }, Unknown, false),
        (Error::Encoding { what: text(), error: EncodingError::new("x") }, No, false),
        (Error::Decoding { from: text(), error: EncodingError::new("x") }, Yes, false),
        (Error::IsStream { address: text() }, Yes, false),
        (Error::Overflow { limit: 1, missed: 1 }, Yes, false),
        (Error::Missed { count: 1 }, Unknown, false),
        (Error::TooLarge { length: 2, limit: 1 }, No, false),
        (Error::TooManyUnanswered { address: text(), calls: 1 }, No, true),
        (Error::NotSent(LostReason::NotYet), No, true),
        (Error::NotSent(LostReason::Stopping), No, true),
        (Error::NotSent(LostReason::RuntimeEnded), No, false),
        (Error::ConnectionLost(LostReason::HungUp), Unknown, false),
        (Error::ShutDown, No, false),
        (Error::Unfinished { running: 1, after }, Unknown, false),
    ]
}

#[test]
fn every_error_says_what_became_of_its_request() {
    for (error, delivered, retryable) in table() {
        assert_eq!(error.was_delivered(), delivered, "{error:?}");
        assert_eq!(error.is_retryable(), retryable, "{error:?}");
        assert!(!retryable || delivered == Delivered::No, "{error:?} might be handled twice");
    }
}

#[test]
fn every_error_has_a_row() {
    let rows: BTreeSet<_> = table().iter().map(|(error, ..)| variant(error)).collect();
    assert_eq!(rows, (0..VARIANTS).collect());
}

#[test]
fn every_error_is_equal_to_itself_alone_and_shows_its_variant() {
    let rows = table();
    for (index, (error, ..)) in rows.iter().enumerate() {
        let same: Vec<_> = (0..rows.len()).filter(|&other| rows[other].0 == *error).collect();
        assert_eq!(same, [index], "{error:?}");
        assert_ne!(format!("{error:?}"), error.to_string());
    }
    assert_eq!(
        format!("{:?}", Error::IsStream { address: "/x".into() }),
        r#"IsStream { address: "/x" }"#
    );
}
