//! The names that the router is to know: what it was asked for, and how it has answered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::engine::request::{NameRequest, Outcome, OutcomeSender};
use crate::engine::terms::Terms;
use crate::error::Error;
use crate::status::{Announcement, NameKind, Refusals, Refused};

type Key = (NameKind, String);

/// The names that the router is to know, ordered, so that they are restored in the same order each time.
///
/// A name is kept from the moment its caller was told that it is registered: when the router has confirmed it, or
/// at once without a connection. A name that is kept is restored after a loss of the connection, and is asked for
/// again when the router refuses it. A name that is not kept is removed when it is refused, which its caller is told.
#[derive(Debug, Default)]
pub(crate) struct Announcements {
    items: BTreeMap<Key, Item>,
    retries: BTreeSet<(Instant, Key)>,
    /// The names that the router refuses.
    refused: Refusals,
    /// Counts the changes of `refused` that watchers are told of: a new name, a name less, a new reason.
    refusals: u64,
    /// How many names the router has not answered for.
    open: usize,
    /// How many of the names are services.
    services: usize,
    /// How many of the services the router has confirmed.
    confirmed_services: usize,
    serial: u64,
}

#[derive(Debug)]
struct Item {
    serial: u64,
    terms: Terms,
    state: State,
    /// The caller was told that the name is registered.
    is_kept: bool,
    /// The last refusal, if the last answer was one. It stands while the router is asked again.
    refusal: Option<Arc<Refused>>,
    waiting: Vec<OutcomeSender>,
}

#[derive(Debug)]
enum State {
    /// There is no connection. The router is asked when there is one.
    Waiting,
    /// The router has not answered yet.
    Asked,
    Confirmed,
    /// The router is asked again later.
    Refused {
        retry_at: Instant,
    },
}

impl Item {
    /// Whether there is no answer yet.
    fn is_open(&self) -> bool {
        matches!(self.state, State::Waiting | State::Asked) && self.refusal.is_none()
    }

    fn is_confirmed(&self) -> bool {
        matches!(self.state, State::Confirmed)
    }

    /// Adds a caller that waits for the answer. Callers that wait no longer are removed each time the list is full,
    /// so that they do not pile up when a router never answers.
    fn wait(&mut self, sender: OutcomeSender) {
        if self.waiting.len() == self.waiting.capacity() {
            self.waiting.retain(|sender| !sender.is_closed());
            self.waiting.reserve(self.waiting.len() + 1);
        }
        self.waiting.push(sender);
    }
}

/// What follows an answer.
#[derive(Debug, Default)]
pub(crate) struct Answered {
    /// The callers that wait for it.
    pub(crate) waiting: Vec<OutcomeSender>,
    /// The name is kept, and the router is asked again later.
    pub(crate) is_retried: bool,
    /// The refusal, if it has another reason than the one before, or is the first.
    pub(crate) refused: Option<Arc<Refused>>,
}

impl Announcements {
    /// Adds a name. Returns the request to send, if one is to be sent now, and the router's answer.
    pub(crate) fn add(
        &mut self,
        kind: NameKind,
        name: &str,
        terms: Terms,
        is_connected: bool,
    ) -> (Option<NameRequest>, oneshot::Receiver<Outcome>) {
        let (sender, outcome) = oneshot::channel();
        let key = (kind, name.to_owned());
        if let Some(item) = self.items.get_mut(&key) {
            match &item.refusal {
                Some(refusal) => drop(sender.send(Err(refusal.error.clone()))),
                None if item.is_kept => drop(sender.send(Ok(()))),
                None => item.wait(sender),
            }
            return (None, outcome);
        }
        self.serial += 1;
        self.open += 1;
        self.services += usize::from(kind == NameKind::Service);
        let serial = self.serial;
        let state = if is_connected { State::Asked } else { State::Waiting };
        let mut item = Item {
            serial,
            terms,
            state,
            is_kept: !is_connected,
            refusal: None,
            waiting: Vec::new(),
        };
        match is_connected {
            true => item.waiting.push(sender),
            false => drop(sender.send(Ok(()))),
        }
        self.items.insert(key, item);
        let request =
            is_connected.then(|| NameRequest { kind, name: name.to_owned(), terms, serial });
        (request, outcome)
    }

    /// Removes a name. Returns whether the router has to be told, and the callers that wait for its answer.
    pub(crate) fn remove(&mut self, kind: NameKind, name: &str) -> (bool, Vec<OutcomeSender>) {
        let key = (kind, name.to_owned());
        let Some(item) = self.items.remove(&key) else {
            return (false, Vec::new());
        };
        self.open -= usize::from(item.is_open());
        if kind == NameKind::Service {
            self.services -= 1;
            self.confirmed_services -= usize::from(item.is_confirmed());
        }
        self.accept(&key);
        let must_tell = match item.state {
            State::Asked | State::Confirmed => true,
            State::Waiting => false,
            State::Refused { retry_at } => {
                self.retries.remove(&(retry_at, key));
                false
            }
        };
        (must_tell, item.waiting)
    }

    /// Takes the router's answer for a name. `delay` is the pause before the next attempt, given the number of
    /// earlier refusals.
    pub(crate) fn answered(
        &mut self,
        asked: &NameRequest,
        outcome: &Outcome,
        now: Instant,
        delay: impl FnOnce(u32) -> Duration,
    ) -> Answered {
        let key = (asked.kind, asked.name.clone());
        let found = self.items.get_mut(&key);
        // Not if the name was removed meanwhile, or removed and added again.
        let Some(item) =
            found.filter(|item| item.serial == asked.serial && matches!(item.state, State::Asked))
        else {
            return Answered::default();
        };
        self.open -= usize::from(item.is_open());
        let waiting = std::mem::take(&mut item.waiting);
        match outcome {
            Ok(()) => {
                item.state = State::Confirmed;
                item.is_kept = true;
                item.refusal = None;
                self.confirmed_services += usize::from(asked.kind == NameKind::Service);
                self.accept(&key);
            }
            Err(error) if item.is_kept => {
                let refused = self.refuse(key, error, now, delay);
                return Answered { waiting, is_retried: true, refused };
            }
            Err(_) => {
                self.items.remove(&key);
                self.services -= usize::from(asked.kind == NameKind::Service);
            }
        }
        Answered { waiting, ..Answered::default() }
    }

    /// The router has taken a name away. The client asks for the name again, as if the router had refused it.
    pub(crate) fn lost(
        &mut self,
        kind: NameKind,
        name: &str,
        error: &Error,
        now: Instant,
        delay: impl FnOnce(u32) -> Duration,
    ) -> Answered {
        let key = (kind, name.to_owned());
        // Otherwise it was removed, or removed and added again.
        if !self.items.get(&key).is_some_and(Item::is_confirmed) {
            return Answered::default();
        }
        self.confirmed_services -= usize::from(kind == NameKind::Service);
        let refused = self.refuse(key, error, now, delay);
        Answered { waiting: Vec::new(), is_retried: true, refused }
    }

    /// Notes the refusal of a name that is kept. Returns it if it has another reason than the one before, or is the first.
    fn refuse(
        &mut self,
        key: Key,
        error: &Error,
        now: Instant,
        delay: impl FnOnce(u32) -> Duration,
    ) -> Option<Arc<Refused>> {
        let item = self.items.get_mut(&key)?;
        let before = item.refusal.take();
        let count = before.as_ref().map_or(0, |refused| refused.refusals);
        let retry_in = delay(count);
        let retry_at = now + retry_in;
        let (kind, name) = key.clone();
        let refusals = count.saturating_add(1);
        let refused = Arc::new(Refused { kind, name, error: error.clone(), refusals, retry_in });
        item.state = State::Refused { retry_at };
        item.refusal = Some(refused.clone());
        self.refused.insert(refused.clone());
        self.retries.insert((retry_at, key));
        let is_new = before.is_none_or(|before| before.error.to_string() != error.to_string());
        self.refusals += u64::from(is_new);
        is_new.then_some(refused)
    }

    /// Removes a name from those that are refused.
    fn accept(&mut self, key: &Key) {
        self.refusals += u64::from(self.refused.remove(key));
    }

    /// A connection was made. Returns the requests for all names.
    pub(crate) fn connected(&mut self) -> Vec<NameRequest> {
        let items = self.items.iter_mut();
        items
            .map(|((kind, name), item)| {
                item.state = State::Asked;
                let Item { serial, terms, .. } = *item;
                NameRequest { kind: *kind, name: name.clone(), terms, serial }
            })
            .collect()
    }

    /// The connection was lost, and will be made again: all names are kept. Returns the callers that wait for an
    /// answer, to be notified.
    pub(crate) fn disconnected(&mut self) -> Vec<OutcomeSender> {
        self.retries.clear();
        self.refused = Refusals::default();
        self.refusals += 1;
        self.open = self.items.len();
        self.confirmed_services = 0;
        let mut waiting = Vec::new();
        for item in self.items.values_mut() {
            item.state = State::Waiting;
            item.is_kept = true;
            item.refusal = None;
            waiting.append(&mut item.waiting);
        }
        waiting
    }

    /// Removes all names. Returns the callers that wait for an answer.
    pub(crate) fn end(&mut self) -> Vec<OutcomeSender> {
        let items = std::mem::take(self).items;
        items.into_values().flat_map(|item| item.waiting).collect()
    }

    /// The requests for refused names whose pause is over.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<NameRequest> {
        let mut due = Vec::new();
        while let Some((at, _)) = self.retries.first()
            && *at <= now
            && let Some((_, key)) = self.retries.pop_first()
        {
            let Some(item) = self.items.get_mut(&key) else {
                continue;
            };
            item.state = State::Asked;
            let (kind, name) = key;
            due.push(NameRequest { kind, name, terms: item.terms, serial: item.serial });
        }
        due
    }

    /// When the next request is [due](Announcements::due).
    pub(crate) fn next_retry(&self) -> Option<Instant> {
        self.retries.first().map(|(at, _)| *at)
    }

    /// Whether the router has answered for every name.
    pub(crate) fn is_settled(&self) -> bool {
        self.open == 0
    }

    /// Whether there are services among the names.
    pub(crate) fn has_services(&self) -> bool {
        self.services > 0
    }

    /// Whether the router has confirmed all services.
    pub(crate) fn all_services_confirmed(&self) -> bool {
        self.confirmed_services == self.services
    }

    /// The names that the router refuses now.
    pub(crate) fn refused(&self) -> Refusals {
        self.refused.clone()
    }

    /// A number that changes whenever the names in [`refused`](Announcements::refused), or their reasons, change.
    pub(crate) fn refusals(&self) -> u64 {
        self.refusals
    }

    /// Whether the router knows a name.
    pub(crate) fn announcement(&self, kind: NameKind, name: &str) -> Announcement {
        match self.items.get(&(kind, name.to_owned())) {
            None => Announcement::Ended,
            Some(Item { refusal: Some(refusal), .. }) => {
                Announcement::Refused(refusal.error.clone())
            }
            Some(Item { state: State::Confirmed, .. }) => Announcement::Confirmed,
            Some(_) => Announcement::Pending,
        }
    }

    /// All names of a kind.
    pub(crate) fn names(&self, kind: NameKind) -> Vec<String> {
        self.items.keys().filter(|key| key.0 == kind).map(|key| key.1.clone()).collect()
    }
}

#[cfg(test)]
#[path = "announcements_tests.rs"]
mod tests;
