//! What a load may need of this host.

use gsb_proto::framing::LARGEST_FRAME;
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::Failure;

/// The most bytes that a message of a load may carry: those of the largest frame, less some for the names and ids
/// around them.
pub const LARGEST_PAYLOAD: usize = LARGEST_FRAME - 1024;

/// The most bytes that a load may have under way at once. This program and the router keep a few copies of them.
pub const LARGEST_BACKLOG: u64 = 512 << 20;

/// What a message costs beside the bytes that it carries, about: names, ids, and what is kept of it.
const MESSAGE: u64 = 256;

/// Descriptors that a load needs beside those of its connections, about.
const OTHER_DESCRIPTORS: u64 = 64;

/// Checks what one message carries, and what `messages` of them are together.
///
/// # Errors
/// It is more than a load may have.
pub(crate) fn check_backlog(messages: u64, payload: usize) -> Result<(), Failure> {
    if payload > LARGEST_PAYLOAD {
        return Err(Failure::Payload(payload));
    }
    let bytes = messages.saturating_mul(payload as u64 + MESSAGE);
    if bytes > LARGEST_BACKLOG {
        return Err(Failure::Backlog { messages, payload, bytes });
    }
    Ok(())
}

/// Lets this program have so many connections: most of the descriptors that the system allows are not allowed at first.
///
/// # Errors
/// The system does not allow so many.
pub(crate) fn allow_connections(count: u64) -> Result<(), Failure> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where that fails, there are as many as before.
    let _ = setrlimit(Resource::Nofile, limit);
    match getrlimit(Resource::Nofile).current {
        Some(allowed) if count.saturating_add(OTHER_DESCRIPTORS) > allowed => {
            Err(Failure::Connections { count, allowed: allowed.saturating_sub(OTHER_DESCRIPTORS) })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_bounded_in_bytes() {
        for (messages, payload) in
            [(0, LARGEST_PAYLOAD), (1, LARGEST_PAYLOAD), (1 << 20, 64), (1 << 21, 0)]
        {
            assert!(check_backlog(messages, payload).is_ok(), "{messages} of {payload}");
        }
        for (messages, payload) in
            [(5, LARGEST_PAYLOAD), (1 << 22, 0), (u64::MAX, 0), (u64::MAX, LARGEST_PAYLOAD)]
        {
            let failure = check_backlog(messages, payload);
            assert!(matches!(failure, Err(Failure::Backlog { .. })), "{messages} of {payload}");
        }
        for payload in [LARGEST_PAYLOAD + 1, usize::MAX] {
            assert!(matches!(check_backlog(0, payload), Err(Failure::Payload(_))), "{payload}");
        }
    }

    #[test]
    fn the_failures_name_the_value_and_the_remedy() {
        let failure = check_backlog(1 << 40, 64).expect_err("too much");
        assert_eq!(
            failure.to_string(),
            "1099511627776 messages of 64 bytes under way at once need 327680 GiB; a load may have 512 MiB: \
             ask for fewer or smaller ones"
        );
        let failure = allow_connections(u64::MAX).expect_err("too many").to_string();
        assert!(
            failure.starts_with("18446744073709551615 connections are more than the "),
            "{failure}"
        );
        assert!(failure.contains("ulimit -Hn"), "{failure}");
    }
}
