//! Which calls are open, seen from both ends.
//!
//! ```text
//!                  open            last reply
//!   (nothing) ───────────▶ open ───────────────▶ (nothing)
//!                           │ │                      ▲
//!   caller goes or cancels  │ │ service goes:        │ last reply,
//!                           │ └──────────────────────┤ or service goes
//!                           ▼     caller is answered │
//!                       abandoned ───────────────────┘
//! ```
//!
//! An abandoned call keeps its request id taken at the service. Otherwise a newcomer's call could get
//! that id, and the late reply to the old call would be delivered to the newcomer.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};

use slab::Slab;
use smol_str::SmolStr;

use crate::call_ids::{CallIds, HashedId, IdHash, IdHasher, Slots};
use crate::close_reason::CloseReason;
use crate::connections::PerConnection;
use crate::ids::{CallKey, ConnId};

/// Most have no more bytes than stand in this itself.
pub(crate) type RequestId = SmolStr;

/// A call that was just opened.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) key: CallKey,
    /// The id to give to the service, if it cannot be the caller's own.
    pub(crate) new_id: Option<RequestId>,
}

impl Call {
    /// The id that the service knows the call by.
    fn service_id(&self) -> &str {
        self.new_id.as_ref().unwrap_or(&self.caller_id)
    }
}

#[derive(Debug)]
struct Call {
    /// `None` when abandoned.
    caller: Option<ConnId>,
    caller_id: RequestId,
    caller_hash: IdHash,
    service: ConnId,
    /// The id that the service knows the call by, if not `caller_id`, since that was taken.
    new_id: Option<RequestId>,
    service_hash: IdHash,
    /// The order in which calls were opened.
    serial: u64,
}

/// What one connection has to do with open calls.
#[derive(Debug, Default)]
struct Ends {
    /// Calls it made, by the id it chose.
    made: CallIds,
    /// Calls it is to answer, by the id it was given.
    serving: CallIds,
    /// Those of `serving` whose caller went away or cancelled, by their serials.
    abandoned: BTreeMap<u64, usize>,
    /// Some were too many to be remembered, and may be answered yet.
    has_forgotten: bool,
}

/// Where a reply goes, and under which id; `None` as the id leaves the reply as it is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Forward {
    pub(crate) caller: ConnId,
    pub(crate) new_id: Option<RequestId>,
}

/// What is left of the calls of a connection that is gone.
#[derive(Debug)]
struct Leaving {
    connection: ConnId,
    made: Slots,
    serving: Slots,
    reason: CloseReason,
}

/// Somebody who waits in vain for the last reply to a call, since the service is gone.
#[derive(Debug)]
pub(crate) struct Forsaken {
    pub(crate) caller: ConnId,
    pub(crate) request_id: RequestId,
    /// The order in which calls were opened.
    pub(crate) serial: u64,
    pub(crate) reason: CloseReason,
}

#[derive(Debug)]
pub(crate) struct Calls {
    /// Keeps the memory of calls that have ended. To free that of two million calls at once would take 50 ms, in
    /// which no other call is routed.
    calls: Slab<Call>,
    ends: PerConnection<Ends>,
    serial: u64,
    translations: u64,
    hasher: IdHasher,
    /// Makes up the part of ids that nobody can know beforehand, and take a great many of.
    secret: RandomState,
    /// How many abandoned calls are remembered per service.
    abandoned_limit: usize,
    abandoned: usize,
    leaving: VecDeque<Leaving>,
}

impl Calls {
    /// `abandoned_limit` bounds what is remembered for a service that never answers calls whose
    /// callers have gone; beyond it the oldest is forgotten, and from then on the service is given
    /// no ids but new ones.
    pub(crate) fn new(abandoned_limit: usize) -> Self {
        Calls {
            calls: Slab::new(),
            ends: PerConnection::default(),
            serial: 0,
            translations: 0,
            hasher: IdHasher::new(),
            secret: RandomState::new(),
            abandoned_limit,
            abandoned: 0,
            leaving: VecDeque::new(),
        }
    }

    /// How many calls of `caller` are open.
    pub(crate) fn made_by(&self, caller: ConnId) -> usize {
        self.ends.get(caller).map_or(0, |ends| ends.made.len())
    }

    /// The open call of `caller` with this id.
    #[inline(always)]
    pub(crate) fn made(&self, caller: ConnId, id: HashedId<'_>) -> Option<CallKey> {
        let is_it = |slot: usize| self.calls[slot].caller_id == id.text;
        let slot = self.ends.get(caller)?.made.find(id.hash, is_it)?;
        Some(CallKey::new(slot, self.calls[slot].serial))
    }

    /// Opens a call whose id is not open at `caller`.
    pub(crate) fn open(&mut self, caller: ConnId, id: HashedId<'_>, service: ConnId) -> Opened {
        let new_id = self.id_for_service(service, id);
        let service_hash = new_id.as_ref().map_or(id.hash, |id| self.hash(id).hash);
        self.serial += 1;
        let slot = self.calls.insert(Call {
            caller: Some(caller),
            caller_id: RequestId::new(id.text),
            caller_hash: id.hash,
            service,
            new_id: new_id.clone(),
            service_hash,
            serial: self.serial,
        });
        self.ends.entry(caller).made.insert(id.hash, slot);
        self.ends.entry(service).serving.insert(service_hash, slot);
        Opened { key: CallKey::new(slot, self.serial), new_id }
    }

    /// An id that no open call has at `service`, nor any that it may answer yet: `None` if `wanted` is one.
    pub(crate) fn id_for_service(
        &mut self,
        service: ConnId,
        wanted: HashedId<'_>,
    ) -> Option<RequestId> {
        let has_forgotten = self.ends.get(service)?.has_forgotten;
        if !has_forgotten && self.slot_at(service, wanted).is_none() {
            return None;
        }
        loop {
            self.translations += 1;
            let number = self.translations;
            let id = format!("~{number}-{:016x}", self.secret.hash_one(number));
            if self.slot_at(service, self.hash(&id)).is_none() {
                return Some(id.into());
            }
        }
    }

    /// A request id, to be looked for.
    pub(crate) fn hash<'a>(&self, request_id: &'a str) -> HashedId<'a> {
        self.hasher.hash(request_id)
    }

    /// The call that `service` knows by an id.
    fn slot_at(&self, service: ConnId, id: HashedId<'_>) -> Option<usize> {
        let is_it = |slot: usize| self.calls[slot].service_id() == id.text;
        self.ends.get(service)?.serving.find(id.hash, is_it)
    }

    /// The call that `service` knows by an id, if it has not had its last reply.
    pub(crate) fn served(&self, service: ConnId, request_id: &str) -> Option<CallKey> {
        let slot = self.slot_at(service, self.hash(request_id))?;
        Some(CallKey::new(slot, self.calls[slot].serial))
    }

    /// Who waits for the replies of a call, if anybody does.
    pub(crate) fn caller(&self, key: CallKey) -> Option<ConnId> {
        self.get(key)?.caller
    }

    /// Takes a reply to a call; `last` ends it. `None` if nobody waits for it.
    pub(crate) fn reply(&mut self, key: CallKey, last: bool) -> Option<Forward> {
        let call = self.get(key)?;
        let new_id = || call.new_id.is_some().then(|| call.caller_id.clone());
        let forward = call.caller.map(|caller| Forward { caller, new_id: new_id() });
        if last {
            self.end(key.slot as usize);
        }
        forward
    }

    /// Ends a call for its caller alone: what its service replies from now on is dropped. Returns who waits
    /// for its end, and under which id.
    pub(crate) fn give_up(&mut self, key: CallKey) -> Option<(ConnId, RequestId)> {
        let call = self.get(key)?;
        let (caller, caller_id, hash) = (call.caller?, call.caller_id.clone(), call.caller_hash);
        self.forget_made(caller, hash, key.slot as usize);
        self.abandon(key.slot as usize);
        Some((caller, caller_id))
    }

    /// All calls that wait for their last reply, in the order in which they were made.
    pub(crate) fn open_calls(&self) -> Vec<CallKey> {
        let is_open = |(_, call): &(usize, &Call)| call.caller.is_some();
        let mut keys: Vec<_> = self
            .calls
            .iter()
            .filter(is_open)
            .map(|(slot, call)| (call.serial, CallKey::new(slot, call.serial)))
            .collect();
        keys.sort_unstable_by_key(|(serial, _)| *serial);
        keys.into_iter().map(|(_, key)| key).collect()
    }

    fn get(&self, key: CallKey) -> Option<&Call> {
        self.calls.get(key.slot as usize).filter(|call| call.serial as u32 == key.serial)
    }

    /// Forgets a call at both ends.
    fn end(&mut self, slot: usize) {
        let call = self.calls.remove(slot);
        // Unless the service is gone, and perhaps another in its place.
        let service = self.ends.entry(call.service);
        let is_served = service.serving.remove(call.service_hash, slot);
        match call.caller {
            Some(caller) => self.forget_made(caller, call.caller_hash, slot),
            None => {
                self.abandoned -= 1;
                if is_served {
                    service.abandoned.remove(&call.serial);
                }
            }
        }
    }

    /// Whether the service of a call knows it. If not, it is gone, and perhaps another is in its place.
    fn is_served(&self, call: &Call, slot: usize) -> bool {
        let ends = self.ends.get(call.service);
        ends.is_some_and(|ends| ends.serving.contains(call.service_hash, slot))
    }

    /// Forgets a call at its caller's end, unless the caller is gone and perhaps another in its place.
    fn forget_made(&mut self, caller: ConnId, hash: IdHash, slot: usize) {
        self.ends.entry(caller).made.remove(hash, slot);
    }

    /// All calls of the connection end, those that it made and those that it was to answer: as
    /// [`Calls::sweep`] comes to them.
    pub(crate) fn remove_connection(&mut self, connection: ConnId, reason: &CloseReason) {
        let Ends { made, serving, .. } = self.ends.take(connection);
        if made.is_empty() && serving.is_empty() {
            return;
        }
        self.leaving.push_back(Leaving {
            connection,
            made: made.into_slots(),
            serving: serving.into_slots(),
            reason: reason.clone(),
        });
    }

    /// Ends so many calls of connections that are gone: abandons what they have made, and says who waits
    /// for what they had to answer. Returns how many more it might have ended.
    pub(crate) fn sweep(&mut self, mut budget: usize, forsaken: &mut Vec<Forsaken>) -> usize {
        while budget > 0
            && let Some(leaving) = self.leaving.front_mut()
        {
            let connection = leaving.connection;
            if let Some(slot) = leaving.made.next() {
                budget -= 1;
                // Unless it has ended meanwhile.
                if self.calls.get(slot).is_some_and(|call| call.caller == Some(connection)) {
                    self.abandon(slot);
                }
            } else if let Some(slot) = leaving.serving.next() {
                budget -= 1;
                let reason = leaving.reason.clone();
                forsaken.extend(self.forsake(slot, connection, reason));
            } else {
                self.leaving.pop_front();
            }
        }
        budget
    }

    /// Ends a call whose service is gone, unless it has ended meanwhile.
    fn forsake(&mut self, slot: usize, service: ConnId, reason: CloseReason) -> Option<Forsaken> {
        self.calls.get(slot).filter(|call| call.service == service)?;
        let call = self.calls.remove(slot);
        let Some(caller) = call.caller else {
            self.abandoned -= 1;
            return None;
        };
        self.forget_made(caller, call.caller_hash, slot);
        Some(Forsaken { caller, request_id: call.caller_id, serial: call.serial, reason })
    }

    /// Marks a call as abandoned, and forgets the oldest one of the same service if they are too many.
    fn abandon(&mut self, slot: usize) {
        let call = &mut self.calls[slot];
        call.caller = None;
        self.abandoned += 1;
        let (service, serial) = (call.service, call.serial);
        let call = &self.calls[slot];
        if !self.is_served(call, slot) {
            // Its service is gone too; that is where it will be forgotten.
            return;
        }
        let ends = self.ends.entry(service);
        ends.abandoned.insert(serial, slot);
        if ends.abandoned.len() > self.abandoned_limit
            && let Some((_, &oldest)) = ends.abandoned.first_key_value()
        {
            ends.has_forgotten = true;
            self.end(oldest);
        }
    }

    /// How many calls wait for their last reply.
    pub(crate) fn len(&self) -> usize {
        self.calls.len() - self.abandoned
    }

    /// How many calls have lost their caller and not had their last reply.
    pub(crate) fn abandoned(&self) -> usize {
        self.abandoned
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connections::{Connections, Identity};

    // Freeing a large table takes time in proportion to its size, under the lock of the router.
    #[test]
    fn the_end_of_the_last_call_does_not_free_the_table() {
        const COUNT: usize = 10_000;
        let mut connections = Connections::default();
        let mut connect = || connections.add(Identity::Unknown);
        let (caller, service, other) = (connect(), connect(), connect());
        let mut calls = Calls::new(COUNT);
        let open = |calls: &mut Calls, service| {
            let ids: Vec<String> = (0..COUNT).map(|number| number.to_string()).collect();
            let open = |id: &String| {
                let id = calls.hash(id);
                calls.open(caller, id, service).key
            };
            ids.iter().map(open).collect::<Vec<_>>()
        };
        for key in open(&mut calls, service) {
            assert!(calls.reply(key, true).is_some());
        }
        assert_eq!((calls.len(), calls.abandoned()), (0, 0));
        let capacity = calls.calls.capacity();
        assert!(capacity >= COUNT);

        // Nor when a service goes, and the next calls find room.
        open(&mut calls, other);
        calls.remove_connection(other, &CloseReason::HungUp);
        let mut forsaken = Vec::new();
        calls.sweep(usize::MAX, &mut forsaken);
        assert_eq!((calls.len(), forsaken.len()), (0, COUNT));
        assert_eq!(calls.calls.capacity(), capacity);
    }
}
