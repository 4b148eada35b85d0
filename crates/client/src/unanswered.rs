//! Calls that were given up, and that the router holds open until their services answer.
//!
//! A router of level 0 cannot cancel a call, and allows each connection a limited number of open calls. A service
//! that never answers must not take all of them: calls to it are refused here before.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::error::Error;

/// How many unanswered calls one address may have: a small part of the 65,536 open calls that routers allow.
const MOST_OF_ADDRESS: usize = 1024;

/// How many are remembered in all. A router has no more of them open.
const MOST: usize = 65_536;

/// The calls of one connection that were given up and not cancelled.
#[derive(Debug, Default)]
pub(crate) struct Unanswered {
    /// Their addresses by their numbers, the oldest call first.
    calls: BTreeMap<u64, Arc<str>>,
    /// How many there are of each address.
    counts: HashMap<Arc<str>, usize>,
}

impl Unanswered {
    /// Whether another call may be sent to an address.
    pub(crate) fn check(&self, address: &str) -> Result<(), Error> {
        if self.calls.is_empty() {
            return Ok(());
        }
        match self.counts.get(address) {
            Some(&calls) if calls >= MOST_OF_ADDRESS => {
                Err(Error::TooManyUnanswered { address: address.to_owned(), calls })
            }
            _ => Ok(()),
        }
    }

    /// A call was given up.
    pub(crate) fn add(&mut self, number: u64, address: &str) {
        let address = match self.counts.get_key_value(address) {
            Some((address, _)) => address.clone(),
            None => Arc::from(address),
        };
        *self.counts.entry(address.clone()).or_default() += 1;
        self.calls.insert(number, address);
        if self.calls.len() > MOST
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
    fn an_address_has_its_share() {
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
        // Once is enough, and an unknown one is none.
        unanswered.answered(5);
        unanswered.answered(5000);
        for number in 0..1024 {
            unanswered.answered(number);
        }
        assert!(unanswered.calls.is_empty() && unanswered.counts.is_empty());
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut unanswered = Unanswered::default();
        for number in 0..70_000 {
            unanswered.add(number, &format!("/dead/{}", number / 1000));
        }
        assert_eq!(unanswered.calls.len(), 65_536);
        assert_eq!(unanswered.calls.keys().next(), Some(&(70_000 - 65_536)));
        assert_eq!(unanswered.counts.values().sum::<usize>(), 65_536);
    }
}
