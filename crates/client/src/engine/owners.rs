//! The owners of a name in this process, and which of them gets a call (rules SV-10 and SV-11).

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gsb_proto::messages::RegisterMode;

use crate::engine::scope::Scope;
use crate::engine::service_entry::ServiceEntry;

/// The services of one name, in the order in which they were registered. There are several only where the router does
/// not know the name: a connection registers a name once.
#[derive(Debug)]
pub(crate) struct Owners {
    first: Arc<ServiceEntry>,
    others: Vec<Arc<ServiceEntry>>,
    /// The index of the owner from which the next choice begins: the one after the last chosen owner.
    next: AtomicUsize,
}

impl Owners {
    pub(crate) fn new(service: Arc<ServiceEntry>) -> Self {
        Owners { first: service, others: Vec::new(), next: AtomicUsize::new(0) }
    }

    /// Adds an owner, unless the mode of one of them allows no other. `has_router` is whether the router is to know the
    /// names of scope [`Scope::Everywhere`].
    pub(crate) fn join(&mut self, service: &Arc<ServiceEntry>, has_router: bool) -> bool {
        let mode = self.first.terms().mode;
        let is_announced =
            |service: &ServiceEntry| has_router && service.scope == Scope::Everywhere;
        let may_join = mode != RegisterMode::Exclusive
            && mode == service.terms().mode
            && !is_announced(&self.first)
            && !is_announced(service);
        if may_join {
            self.others.push(service.clone());
        }
        may_join
    }

    /// Removes an owner. Returns it, and whether it was the last one.
    pub(crate) fn leave(
        &mut self,
        service: &Arc<ServiceEntry>,
    ) -> Option<(Arc<ServiceEntry>, bool)> {
        let at = self.iter().position(|owner| Arc::ptr_eq(owner, service))?;
        if at > 0 {
            return Some((self.others.remove(at - 1), false));
        }
        if self.others.is_empty() {
            return Some((self.first.clone(), true));
        }
        let next = self.others.remove(0);
        Some((std::mem::replace(&mut self.first, next), false))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<ServiceEntry>> + Clone {
        iter::once(&self.first).chain(&self.others)
    }

    /// The owner that the router knows, or would know, if there is one.
    pub(crate) fn public(&self) -> Option<&Arc<ServiceEntry>> {
        (self.first.scope == Scope::Everywhere).then_some(&self.first)
    }

    /// The owner that gets a call, which may leave the process if `scope` says so. `None` if the call is for the router,
    /// which chooses among the owners of all processes.
    pub(crate) fn choose(&self, scope: Scope, affinity: &str) -> Option<&Arc<ServiceEntry>> {
        let mode = self.first.terms().mode;
        if mode == RegisterMode::Exclusive {
            return Some(&self.first);
        }
        let is_here = match (mode, self.may_be_elsewhere(scope)) {
            (RegisterMode::Shared, false) => return self.share(affinity),
            (RegisterMode::Shared, true) => affinity.is_empty() && self.first.has_room(),
            (_, may_be_elsewhere) => !may_be_elsewhere,
        };
        is_here.then_some(&self.first)
    }

    /// Whether another process may own the name, and calls of this scope reach it.
    pub(crate) fn may_be_elsewhere(&self, scope: Scope) -> bool {
        let is_exclusive = self.first.terms().mode == RegisterMode::Exclusive;
        !is_exclusive && scope == Scope::Everywhere && self.first.scope == Scope::Everywhere
    }

    /// The owner of a shared name that gets a call.
    fn share(&self, affinity: &str) -> Option<&Arc<ServiceEntry>> {
        if !affinity.is_empty() {
            return self.iter().max_by_key(|owner| score(affinity, owner.serial()));
        }
        let count = 1 + self.others.len();
        let begin = self.next.load(Ordering::Relaxed) % count;
        let in_turn = self.iter().enumerate().cycle().skip(begin).take(count);
        let (at, owner) = in_turn.min_by_key(|(_, owner)| (!owner.has_room(), owner.running()))?;
        self.next.store(at + 1, Ordering::Relaxed);
        Some(owner)
    }
}

/// Rendezvous hashing: the owner with the highest score gets the calls with this affinity.
fn score(affinity: &str, serial: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (affinity, serial).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
#[path = "owners_tests.rs"]
mod tests;
