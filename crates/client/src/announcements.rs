//! The names that the router is to know: what it was told, and what it has said.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::control::Outcome;
use crate::error::Error;
use crate::status::{Announcement, NameKind, Refused};

/// Who waits to hear whether the router knows a name.
pub(crate) type Waiter = oneshot::Sender<Outcome>;

type Key = (NameKind, String);

/// The names that are to be known at the router, ordered, so that they are restored in the same order
/// each time.
///
/// A name that was never confirmed is forgotten when it is refused: whoever asks for it is told. From
/// then on, or when nobody can be asked, it is kept until it is taken back, and restored.
#[derive(Debug, Default)]
pub(crate) struct Announcements {
    items: BTreeMap<Key, Item>,
    retries: BTreeSet<(Instant, Key)>,
    /// How many are waiting or asked for.
    open: usize,
    serial: u64,
}

/// A name that the router is to be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) kind: NameKind,
    pub(crate) name: String,
    /// Tells it from others with the same name, before and after.
    pub(crate) serial: u64,
}

#[derive(Debug)]
struct Item {
    serial: u64,
    state: State,
    /// Whoever asked for it was told that it is there.
    is_kept: bool,
    refusals: u32,
    waiting: Vec<Waiter>,
}

#[derive(Debug)]
enum State {
    /// To be asked for when there is a connection.
    Waiting,
    /// The router has not answered yet.
    Asked,
    Confirmed,
    Refused {
        error: Error,
        retry_in: Duration,
        retry_at: Instant,
    },
}

impl State {
    fn is_open(&self) -> bool {
        matches!(self, State::Waiting | State::Asked)
    }
}

/// What became of an answer.
#[derive(Debug, Default)]
pub(crate) struct Answered {
    /// To be told the outcome.
    pub(crate) waiting: Vec<Waiter>,
    /// The name is kept and asked for again later.
    pub(crate) is_retried: bool,
}

impl Announcements {
    /// A name is to be known. Returns what to ask for, if that is to be asked now, and what comes of it.
    pub(crate) fn add(
        &mut self,
        kind: NameKind,
        name: &str,
        is_connected: bool,
    ) -> (Option<Ask>, oneshot::Receiver<Outcome>) {
        let (waiter, outcome) = oneshot::channel();
        let key = (kind, name.to_owned());
        if let Some(item) = self.items.get_mut(&key) {
            match &item.state {
                State::Asked if !item.is_kept => item.waiting.push(waiter),
                State::Refused { error, .. } => drop(waiter.send(Err(error.clone()))),
                _ => drop(waiter.send(Ok(()))),
            }
            return (None, outcome);
        }
        self.serial += 1;
        self.open += 1;
        let serial = self.serial;
        let state = if is_connected { State::Asked } else { State::Waiting };
        let mut item =
            Item { serial, state, is_kept: !is_connected, refusals: 0, waiting: Vec::new() };
        match is_connected {
            true => item.waiting.push(waiter),
            false => drop(waiter.send(Ok(()))),
        }
        self.items.insert(key, item);
        let ask = is_connected.then(|| Ask { kind, name: name.to_owned(), serial });
        (ask, outcome)
    }

    /// A name is not to be known any more; `true` if the router has to be told. Whoever waits to hear of it
    /// is left alone.
    pub(crate) fn remove(&mut self, kind: NameKind, name: &str) -> bool {
        let key = (kind, name.to_owned());
        let Some(item) = self.items.remove(&key) else {
            return false;
        };
        self.open -= usize::from(item.state.is_open());
        match item.state {
            State::Asked | State::Confirmed => true,
            State::Waiting => false,
            State::Refused { retry_at, .. } => {
                self.retries.remove(&(retry_at, key));
                false
            }
        }
    }

    /// The router has answered for a name; `delay` says how long to wait after so many refusals.
    pub(crate) fn answered(
        &mut self,
        asked: &Ask,
        outcome: &Outcome,
        now: Instant,
        delay: impl FnOnce(u32) -> Duration,
    ) -> Answered {
        let key = (asked.kind, asked.name.clone());
        let found = self.items.get_mut(&key);
        // It may have been taken back meanwhile, and asked for anew.
        let Some(item) = found.filter(|item| item.serial == asked.serial && item.state.is_open())
        else {
            return Answered::default();
        };
        self.open -= 1;
        let waiting = std::mem::take(&mut item.waiting);
        match outcome {
            Ok(()) => {
                item.state = State::Confirmed;
                item.is_kept = true;
                item.refusals = 0;
            }
            Err(error) if item.is_kept => {
                let retry_in = delay(item.refusals);
                let retry_at = now + retry_in;
                item.refusals = item.refusals.saturating_add(1);
                item.state = State::Refused { error: error.clone(), retry_in, retry_at };
                self.retries.insert((retry_at, key));
                return Answered { waiting, is_retried: true };
            }
            Err(_) => drop(self.items.remove(&key)),
        }
        Answered { waiting, is_retried: false }
    }

    /// There is a connection: returns all that is to be asked for.
    pub(crate) fn connected(&mut self) -> Vec<Ask> {
        let items = self.items.iter_mut();
        items
            .map(|((kind, name), item)| {
                item.state = State::Asked;
                Ask { kind: *kind, name: name.clone(), serial: item.serial }
            })
            .collect()
    }

    /// The connection is gone, and another is to come: what is known here is kept. Returns who is to be
    /// told that it is.
    pub(crate) fn disconnected(&mut self) -> Vec<Waiter> {
        self.retries.clear();
        self.open = self.items.len();
        let mut waiting = Vec::new();
        for item in self.items.values_mut() {
            item.state = State::Waiting;
            item.is_kept = true;
            item.refusals = 0;
            waiting.append(&mut item.waiting);
        }
        waiting
    }

    /// Nothing is to be known any more. Returns who waits to hear of something.
    pub(crate) fn end(&mut self) -> Vec<Waiter> {
        let items = std::mem::take(self).items;
        items.into_values().flat_map(|item| item.waiting).collect()
    }

    /// What was refused and is to be asked for again by now.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<Ask> {
        let mut due = Vec::new();
        while let Some((at, _)) = self.retries.first()
            && *at <= now
            && let Some((_, key)) = self.retries.pop_first()
        {
            let Some(item) = self.items.get_mut(&key) else {
                continue;
            };
            item.state = State::Asked;
            self.open += 1;
            let (kind, name) = key;
            due.push(Ask { kind, name, serial: item.serial });
        }
        due
    }

    /// When something is [due](Announcements::due) next.
    pub(crate) fn next_retry(&self) -> Option<Instant> {
        self.retries.first().map(|(at, _)| *at)
    }

    /// Whether there is an answer for every name.
    pub(crate) fn is_settled(&self) -> bool {
        self.open == 0
    }

    /// What is refused now.
    pub(crate) fn refused(&self) -> Vec<Refused> {
        let items = self.retries.iter().filter_map(|(_, key)| self.items.get_key_value(key));
        items.filter_map(|((kind, name), item)| item.refused(*kind, name)).collect()
    }

    /// Whether the router knows a name.
    pub(crate) fn announcement(&self, kind: NameKind, name: &str) -> Announcement {
        match self.items.get(&(kind, name.to_owned())).map(|item| &item.state) {
            None => Announcement::Ended,
            Some(State::Waiting | State::Asked) => Announcement::Pending,
            Some(State::Confirmed) => Announcement::Confirmed,
            Some(State::Refused { error, .. }) => Announcement::Refused(error.clone()),
        }
    }

    /// All names of a kind.
    pub(crate) fn names(&self, kind: NameKind) -> Vec<String> {
        self.items.keys().filter(|key| key.0 == kind).map(|key| key.1.clone()).collect()
    }
}

impl Item {
    fn refused(&self, kind: NameKind, name: &str) -> Option<Refused> {
        match &self.state {
            State::Refused { error, retry_in, .. } => Some(Refused {
                kind,
                name: name.to_owned(),
                error: error.clone(),
                refusals: self.refusals,
                retry_in: *retry_in,
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
#[path = "announcements_tests.rs"]
mod tests;
