//! Orphaned calls: their callers have gone, but the router keeps them open until their services answer.
//!
//! A router of level 0 cannot cancel a call, and limits the open calls of a connection. A service that never answers
//! must not use up this limit: once it has too many orphaned calls, further calls to it are refused here.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::error::Error;

/// How many orphaned calls one address may have: a small part of the 65,536 open calls that routers allow.
const MAX_PER_ADDRESS: usize = 1024;

/// How many orphaned calls are recorded in all. A router has no more calls open.
const MAX: usize = 65_536;

/// The orphaned calls of one connection.
#[derive(Debug, Default)]
pub(crate) struct Unanswered {
    /// Their addresses by their numbers, the oldest call first.
    calls: BTreeMap<u64, Arc<str>>,
    /// The number of calls to each address.
    counts: HashMap<Arc<str>, usize>,
}

impl Unanswered {
    /// Fails if an address has too many orphaned calls to be sent another call.
    pub(crate) fn check(&self, address: &str) -> Result<(), Error> {
        if self.calls.is_empty() {
            return Ok(());
        }
        match self.counts.get(address) {
            Some(&calls) if calls >= MAX_PER_ADDRESS => {
                Err(Error::TooManyUnanswered { address: address.to_owned(), calls })
            }
            _ => Ok(()),
        }
    }

    /// The caller of a call has gone.
    pub(crate) fn add(&mut self, number: u64, address: &str) {
        let address = match self.counts.get_key_value(address) {
            Some((address, _)) => address.clone(),
            None => Arc::from(address),
        };
        *self.counts.entry(address.clone()).or_default() += 1;
        self.calls.insert(number, address);
        if self.calls.len() > MAX
            && let Some((&oldest, _)) = self.calls.first_key_value()
        {
            self.answered(oldest);
        }
    }

    /// A call has had its last reply.
    pub(crate) fn answered(&mut self, number: u64) {
        let Some(address) = self.calls.remove(&number) else {
            return;
        };
        if let Some(count) = self.counts.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_refused(unanswered: &Unanswered, address: &str) -> bool {
        unanswered.check(address).is_err()
    }

    #[test]
    fn the_orphaned_calls_of_an_address_are_limited() {
        let mut unanswered = Unanswered::default();
        for number in 0..1023 {
            unanswered.add(number, "/dead");
        }
        assert!(!is_refused(&unanswered, "/dead"));
        unanswered.add(1023, "/dead");
        let error = unanswered.check("/dead").unwrap_err();
        assert_eq!(error, Error::TooManyUnanswered { address: "/dead".into(), calls: 1024 });
        assert!(!is_refused(&unanswered, "/other"));
        unanswered.answered(5);
        assert!(!is_refused(&unanswered, "/dead"));
        // A second reply, or a reply to an unknown call, has no effect.
        unanswered.answered(5);
        unanswered.answered(5000);
        for number in 0..1024 {
            unanswered.answered(number);
        }
        assert!(unanswered.calls.is_empty() && unanswered.counts.is_empty());
    }

    #[test]
    fn only_the_newest_calls_are_recorded() {
        let mut unanswered = Unanswered::default();
        for number in 0..70_000 {
            unanswered.add(number, &format!("/dead/{}", number / 1000));
        }
        assert_eq!(unanswered.calls.len(), 65_536);
        assert_eq!(unanswered.calls.keys().next(), Some(&(70_000 - 65_536)));
        assert_eq!(unanswered.counts.values().sum::<usize>(), 65_536);
    }
}
