//! The names that the router is to know: what it was told, and what it has said.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::control::Outcome;
use crate::status::{Announcement, NameKind, Refusals, Refused};

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
    /// What the router said no to last.
    refused: Refusals,
    /// Counts the changes of `refused` that matter to users: names that come and go, and other reasons.
    refusals: u64,
    /// How many there is no answer for.
    open: usize,
    /// How many of the names are services.
    services: usize,
    /// How many of those the router has confirmed.
    confirmed_services: usize,
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
    /// What the router said last, if that was no. It stands while the router is asked again.
    refusal: Option<Arc<Refused>>,
    waiting: Vec<Waiter>,
}

#[derive(Debug)]
enum State {
    /// To be asked for when there is a connection.
    Waiting,
    /// The router has not answered yet.
    Asked,
    Confirmed,
    /// To be asked for again.
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

    /// Notes who waits to hear of the name. Lets go of those who do not wait any more, now and then: a router that never
    /// answers would make them pile up.
    fn wait(&mut self, waiter: Waiter) {
        if self.waiting.len() == self.waiting.capacity() {
            self.waiting.retain(|waiter| !waiter.is_closed());
            self.waiting.reserve(self.waiting.len() + 1);
        }
        self.waiting.push(waiter);
    }
}

/// What became of an answer.
#[derive(Debug, Default)]
pub(crate) struct Answered {
    /// To be told the outcome.
    pub(crate) waiting: Vec<Waiter>,
    /// The name is kept and asked for again later.
    pub(crate) is_retried: bool,
    /// The refusal, if it is a new one, or for another reason than before.
    pub(crate) refused: Option<Arc<Refused>>,
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
            match &item.refusal {
                Some(refusal) => drop(waiter.send(Err(refusal.error.clone()))),
                None if item.is_kept => drop(waiter.send(Ok(()))),
                None => item.wait(waiter),
            }
            return (None, outcome);
        }
        self.serial += 1;
        self.open += 1;
        self.services += usize::from(kind == NameKind::Service);
        let serial = self.serial;
        let state = if is_connected { State::Asked } else { State::Waiting };
        let mut item =
            Item { serial, state, is_kept: !is_connected, refusal: None, waiting: Vec::new() };
        match is_connected {
            true => item.waiting.push(waiter),
            false => drop(waiter.send(Ok(()))),
        }
        self.items.insert(key, item);
        let ask = is_connected.then(|| Ask { kind, name: name.to_owned(), serial });
        (ask, outcome)
    }

    /// A name is not to be known any more. Returns whether the router has to be told, and who waited to
    /// hear of it.
    pub(crate) fn remove(&mut self, kind: NameKind, name: &str) -> (bool, Vec<Waiter>) {
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
                let before = item.refusal.take();
                let count = before.as_ref().map_or(0, |refused| refused.refusals);
                let retry_in = delay(count);
                let retry_at = now + retry_in;
                let refused = Arc::new(Refused {
                    kind: asked.kind,
                    name: asked.name.clone(),
                    error: error.clone(),
                    refusals: count.saturating_add(1),
                    retry_in,
                });
                item.state = State::Refused { retry_at };
                item.refusal = Some(refused.clone());
                let is_new =
                    before.is_none_or(|before| before.error.to_string() != error.to_string());
                self.refusals += u64::from(is_new);
                self.refused.insert(refused.clone());
                self.retries.insert((retry_at, key));
                let refused = is_new.then_some(refused);
                return Answered { waiting, is_retried: true, refused };
            }
            Err(_) => {
                self.items.remove(&key);
                self.services -= usize::from(asked.kind == NameKind::Service);
            }
        }
        Answered { waiting, ..Answered::default() }
    }

    /// A name is not refused any more.
    fn accept(&mut self, key: &Key) {
        self.refusals += u64::from(self.refused.remove(key));
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

    /// Whether the router has confirmed all services.
    pub(crate) fn all_services_confirmed(&self) -> bool {
        self.confirmed_services == self.services
    }

    /// What is refused now.
    pub(crate) fn refused(&self) -> Refusals {
        self.refused.clone()
    }

    /// A number that differs whenever [`refused`](Announcements::refused) lists other names or reasons.
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
