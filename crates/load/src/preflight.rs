//! Checks that are made before a load starts.

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::failure::Failure;
use crate::limits::{LARGEST_BACKLOG, LARGEST_PAYLOAD};

/// The approximate cost of a message in bytes without its payload: names, ids, and bookkeeping.
const MESSAGE_OVERHEAD: u64 = 256;

/// The approximate number of descriptors that a load needs beside those of its connections.
const OTHER_DESCRIPTORS: u64 = 64;

/// Checks the size of a payload, and of all `messages` that are in flight at the same time.
///
/// # Errors
/// [`Failure::Payload`] or [`Failure::Backlog`] if a size exceeds its limit.
pub(crate) fn check_backlog(messages: u64, payload: usize) -> Result<(), Failure> {
    if payload > LARGEST_PAYLOAD {
        return Err(Failure::Payload(payload));
    }
    let bytes = messages.saturating_mul(payload as u64 + MESSAGE_OVERHEAD);
    if bytes > LARGEST_BACKLOG {
        return Err(Failure::Backlog { messages, payload, bytes });
    }
    Ok(())
}

/// Raises the limit of open files to the highest value that the system allows this process, and returns the limit.
/// Child processes inherit it. If raising it fails, the old limit stays.
pub fn raise_descriptor_limit() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // A failure shows in the limit that is returned.
    let _ = setrlimit(Resource::Nofile, limit);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Raises the limit of open files so that this process can open `count` connections.
///
/// # Errors
/// [`Failure::Connections`] if the system allows fewer.
pub(crate) fn allow_connections(count: u64) -> Result<(), Failure> {
    let allowed = raise_descriptor_limit().saturating_sub(OTHER_DESCRIPTORS);
    if count > allowed { Err(Failure::Connections { count, allowed }) } else { Ok(()) }
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
    fn failures_name_the_value_and_the_remedy() {
        let failure = check_backlog(1 << 40, 64).expect_err("too much");
        assert_eq!(
            failure.to_string(),
            "1099511627776 messages of 64 bytes in flight need 327680 GiB, and the limit is 512 MiB: ask for fewer \
             or smaller ones"
        );
        // Where the system sets no limit, none can be exceeded.
        if let Err(failure) = allow_connections(u64::MAX) {
            let text = failure.to_string();
            assert!(text.starts_with("18446744073709551615 connections exceed the "), "{text}");
            assert!(text.contains("ulimit -Hn"), "{text}");
        }
    }
}
