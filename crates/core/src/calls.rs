//! The open calls, each with an entry at its caller and at its service.
//!
//! ```text
//!                  open            last reply
//!   (nothing) ───────────▶ open ───────────────▶ (nothing)
//!                           │ │                      ▲
//!   caller goes or cancels  │ │ service goes:        │ last reply,
//!                           │ └──────────────────────┤ or service goes
//!                           ▼     caller is answered │
//!                       orphaned ───────────────────┘
//! ```
//!
//! An orphaned call keeps its request id at the service. Otherwise another call could get that id, and the late reply to
//! the old call would be delivered to the other caller.

use std::collections::{BTreeMap, BTreeSet, VecDeque, btree_map, btree_set};
use std::hash::{BuildHasher as _, RandomState};
use std::time::Instant;

use slab::Slab;
use smol_str::SmolStr;

use crate::call_ids::{CallIds, HashedId, IdHash, IdHasher, Slots};
use crate::close_reason::CloseReason;
use crate::connections::PerConnection;
use crate::deadlines::{Deadlines, Due, Expired, Place};
use crate::groups::Registration;
use crate::ids::{CallKey, ConnId};

/// Up to 23 bytes are stored inline, which suffices for most.
pub(crate) type RequestId = SmolStr;

/// The id of a call at one end, if it cannot be the same as at the other end. Boxed, because most calls have none.
pub(crate) type NewId = Option<Box<RequestId>>;

/// A call that was just opened.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) key: CallKey,
    /// The id to give to the service, if it cannot be the caller's own.
    pub(crate) new_id: NewId,
}

impl Call {
    /// The id that the service knows the call by.
    fn service_id(&self) -> &str {
        self.new_id.as_deref().unwrap_or(&self.caller_id)
    }
}

#[derive(Debug)]
struct Call {
    /// `None` if the call is orphaned.
    caller: Option<ConnId>,
    caller_id: RequestId,
    caller_hash: IdHash,
    service: ConnId,
    /// The id that the service knows the call by, if `caller_id` was taken there.
    new_id: NewId,
    service_hash: IdHash,
    /// Its deadline, if it has one. An orphaned call has none.
    deadline: Option<Place>,
    /// Calls are numbered in the order in which they were opened.
    serial: u64,
    /// The registration of the service that the call counts against; `None` if its calls are not counted.
    registration: Option<Registration>,
}

/// The open calls of one connection.
#[derive(Debug, Default)]
struct Ends {
    /// The calls that it made, by its own ids.
    made: CallIds,
    /// The slots of those among `made` whose requests are streams that have not ended.
    uploads: BTreeSet<usize>,
    /// The calls that it has to answer, by the ids that it was given.
    serving: CallIds,
    /// The orphaned calls among `serving`, by their serials.
    orphaned: BTreeMap<u64, usize>,
    /// Some orphaned calls were evicted, because they were too many. Their replies may still come.
    has_evicted: bool,
}

/// The caller that a reply goes to, and its id for the call; `None` leaves the id as it is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Forward {
    pub(crate) to: ConnId,
    pub(crate) new_id: NewId,
}

/// The remaining calls of a connection that was closed.
#[derive(Debug)]
struct Closing {
    connection: ConnId,
    made: Slots,
    serving: Slots,
    /// At most one for each of `made`.
    uploads: btree_set::IntoIter<usize>,
    /// At most one for each of `serving`.
    orphaned: btree_map::IntoIter<u64, usize>,
    reason: CloseReason,
}

/// A call whose service is gone, and whose caller has to be answered.
#[derive(Debug)]
pub(crate) struct LostCall {
    pub(crate) caller: ConnId,
    pub(crate) request_id: RequestId,
    /// Calls are numbered in the order in which they were opened.
    pub(crate) serial: u64,
    pub(crate) reason: CloseReason,
}

/// A call that no caller waits for any more, and that its service has not ended.
#[derive(Debug)]
pub(crate) struct Orphan {
    pub(crate) caller: ConnId,
    pub(crate) caller_id: RequestId,
    pub(crate) service: ConnId,
    new_id: NewId,
    /// Calls are numbered in the order in which they were opened.
    pub(crate) serial: u64,
}

impl Orphan {
    /// The id that the service knows the call by.
    pub(crate) fn service_id(&self) -> &str {
        self.new_id.as_deref().unwrap_or(&self.caller_id)
    }
}

/// The calls of closed connections that [`Calls::sweep`] has ended.
#[derive(Debug, Default)]
pub(crate) struct Swept {
    pub(crate) lost: Vec<LostCall>,
    pub(crate) orphans: Vec<Orphan>,
}

#[derive(Debug)]
pub(crate) struct Calls {
    /// Memory of ended calls is kept. Freeing that of two million calls at once would block routing for 50 ms.
    calls: Slab<Call>,
    ends: PerConnection<Ends>,
    deadlines: Deadlines,
    serial: u64,
    translations: u64,
    hasher: IdHasher,
    /// Makes the part of new ids that peers cannot predict.
    secret: RandomState,
    /// The number of orphaned calls that are kept for each service.
    orphaned_limit: usize,
    orphaned: usize,
    closing: VecDeque<Closing>,
    /// Registrations, and their owners, that calls which are removed counted against.
    released: Vec<(ConnId, Registration)>,
}

impl Calls {
    /// `orphaned_limit` is how many orphaned calls are kept for a service. Beyond it the oldest is evicted, and from then on
    /// the service is given new ids only.
    pub(crate) fn new(orphaned_limit: usize) -> Self {
        Calls {
            calls: Slab::new(),
            ends: PerConnection::default(),
            deadlines: Deadlines::default(),
            serial: 0,
            translations: 0,
            hasher: IdHasher::new(),
            secret: RandomState::new(),
            orphaned_limit,
            orphaned: 0,
            closing: VecDeque::new(),
            released: Vec::new(),
        }
    }

    pub(crate) fn set_orphaned_limit(&mut self, limit: usize) {
        self.orphaned_limit = limit;
    }

    /// The number of open calls of `caller`.
    pub(crate) fn made_by(&self, caller: ConnId) -> usize {
        self.ends.get(caller).map_or(0, |ends| ends.made.len())
    }

    /// Whether a connection has open calls to answer.
    pub(crate) fn is_serving(&self, service: ConnId) -> bool {
        self.ends.get(service).is_some_and(|ends| ends.serving.len() > ends.orphaned.len())
    }

    /// The open call of `caller` with this id.
    #[inline(always)]
    pub(crate) fn made(&self, caller: ConnId, id: HashedId<'_>) -> Option<CallKey> {
        let is_it = |slot: usize| self.calls[slot].caller_id == id.text;
        let slot = self.ends.get(caller)?.made.find(id.hash, is_it)?;
        Some(CallKey::new(slot, self.calls[slot].serial))
    }

    /// The open call of `caller` with this id, for requests that are rarer than calls.
    #[inline(never)]
    pub(crate) fn made_with_id(&self, caller: ConnId, id: &str) -> Option<CallKey> {
        self.made(caller, self.hash(id))
    }

    /// Opens a call whose id is not open at `caller`.
    pub(crate) fn open(&mut self, caller: ConnId, id: HashedId<'_>, service: ConnId) -> Opened {
        let new_id = self.id_for_service(service, id);
        let service_hash = new_id.as_ref().map_or(id.hash, |id| self.hash(id).hash);
        self.serial += 1;
        let slot = self.calls.insert(Call {
            new_id: new_id.clone(),
            caller: Some(caller),
            caller_id: RequestId::new(id.text),
            caller_hash: id.hash,
            service,
            service_hash,
            deadline: None,
            serial: self.serial,
            registration: None,
        });
        self.ends.entry(caller).made.insert(id.hash, slot);
        self.ends.entry(service).serving.insert(service_hash, slot);
        Opened { key: CallKey::new(slot, self.serial), new_id }
    }

    /// Counts an open call against a registration of its service, until the service has ended it or its id there is
    /// forgotten: see [`Calls::released`].
    pub(crate) fn count_against(&mut self, key: CallKey, registration: Registration) {
        if let Some(call) = self.calls.get_mut(key.slot as usize) {
            call.registration = Some(registration);
        }
    }

    /// A registration, and its owner, against which a call counts no more; each call is returned once. The calls of
    /// closed connections are not, since their registrations are gone.
    pub(crate) fn released(&mut self) -> Option<(ConnId, Registration)> {
        self.released.pop()
    }

    /// Sets the deadline of a call that was just opened.
    pub(crate) fn set_deadline(&mut self, key: CallKey, timeout_ms: u32, now: Instant) {
        self.deadlines.insert(key, timeout_ms, now, note_place(&mut self.calls));
    }

    /// When [`Calls::next_due`] is due.
    #[inline]
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// Does what is due next for the deadlines. The call of a deadline that has passed has none from then on.
    pub(crate) fn next_due(&mut self, now: Instant) -> Option<Due> {
        let due = self.deadlines.next_due(now, note_place(&mut self.calls))?;
        if let Due::Expired(Expired { call, .. }) = due {
            self.calls[call.slot as usize].deadline = None;
        }
        Some(due)
    }

    /// The number of calls that have a deadline.
    pub(crate) fn deadlines(&self) -> usize {
        self.deadlines.len()
    }

    /// A new id for a call to `service`; `None` if `wanted` can be used, because no open or orphaned call has it there.
    pub(crate) fn id_for_service(&mut self, service: ConnId, wanted: HashedId<'_>) -> NewId {
        let has_evicted = self.ends.get(service)?.has_evicted;
        if !has_evicted && self.slot_at(service, wanted).is_none() {
            return None;
        }
        loop {
            self.translations += 1;
            let number = self.translations;
            let id = format!("~{number}-{:016x}", self.secret.hash_one(number));
            if self.slot_at(service, self.hash(&id)).is_none() {
                return Some(Box::new(id.into()));
            }
        }
    }

    /// Hashes a request id for lookups.
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

    /// The caller of a call; `None` if it is orphaned or has ended.
    pub(crate) fn caller(&self, key: CallKey) -> Option<ConnId> {
        self.get(key)?.caller
    }

    /// Where a frame of the caller of an open call goes; `None` if the call is orphaned or has ended.
    pub(crate) fn to_service(&self, key: CallKey) -> Option<Forward> {
        let call = self.get(key).filter(|call| call.caller.is_some())?;
        Some(Forward { to: call.service, new_id: call.new_id.clone() })
    }

    /// The request of a call that was just opened is a stream.
    pub(crate) fn begin_upload(&mut self, caller: ConnId, key: CallKey) {
        self.ends.entry(caller).uploads.insert(key.slot as usize);
    }

    /// Whether the request of an open call of `caller` is a stream that has not ended.
    pub(crate) fn is_upload(&self, caller: ConnId, key: CallKey) -> bool {
        self.ends.get(caller).is_some_and(|ends| ends.uploads.contains(&(key.slot as usize)))
    }

    /// No more data of the request of a call follows.
    pub(crate) fn end_upload(&mut self, caller: ConnId, key: CallKey) {
        self.ends.entry(caller).uploads.remove(&(key.slot as usize));
    }

    /// Takes a reply to a call; `last` ends it. `None` if no caller waits for it.
    pub(crate) fn reply(&mut self, key: CallKey, last: bool) -> Option<Forward> {
        let call = self.get(key)?;
        let new_id = || call.new_id.is_some().then(|| Box::new(call.caller_id.clone()));
        let forward = call.caller.map(|to| Forward { to, new_id: new_id() });
        if last {
            self.end(key.slot as usize);
        }
        forward
    }

    /// Orphans a call: later replies of its service are dropped. `None` if it is orphaned or has ended.
    pub(crate) fn cancel(&mut self, key: CallKey) -> Option<Orphan> {
        let call = self.get(key)?;
        self.remove_made(call.caller?, call.caller_hash, key.slot as usize);
        self.orphan(key.slot as usize)
    }

    /// The open call in a slot, and its caller.
    pub(crate) fn open_in_slot(&self, slot: usize) -> Option<(CallKey, ConnId)> {
        let call = self.calls.get(slot)?;
        Some((CallKey::new(slot, call.serial), call.caller?))
    }

    /// All calls are in slots below this one.
    pub(crate) fn slots_end(&self) -> usize {
        self.calls.capacity()
    }

    fn get(&self, key: CallKey) -> Option<&Call> {
        self.calls.get(key.slot as usize).filter(|call| call.serial as u32 == key.serial)
    }

    /// Takes a call out of the table, with its deadline.
    fn take(&mut self, slot: usize) -> Call {
        let call = self.calls.remove(slot);
        if let Some(place) = call.deadline {
            self.deadlines.remove(place, note_place(&mut self.calls));
        }
        call
    }

    /// Removes a call at both ends.
    fn end(&mut self, slot: usize) {
        let call = self.take(slot);
        if let Some(registration) = call.registration {
            self.released.push((call.service, registration));
        }
        // Unless the service is gone, and perhaps another in its place.
        let service = self.ends.entry(call.service);
        let is_served = service.serving.remove(call.service_hash, slot);
        match call.caller {
            Some(caller) => self.remove_made(caller, call.caller_hash, slot),
            None => {
                self.orphaned -= 1;
                if is_served {
                    service.orphaned.remove(&call.serial);
                }
            }
        }
    }

    /// Whether the service of a call still serves it. If not, the service is gone, and another connection may have its slot.
    fn is_served(&self, call: &Call, slot: usize) -> bool {
        let ends = self.ends.get(call.service);
        ends.is_some_and(|ends| ends.serving.contains(call.service_hash, slot))
    }

    /// Removes a call at its caller, unless the caller is gone; another connection may have its slot.
    fn remove_made(&mut self, caller: ConnId, hash: IdHash, slot: usize) {
        let ends = self.ends.entry(caller);
        ends.made.remove(hash, slot);
        if !ends.uploads.is_empty() {
            ends.uploads.remove(&slot);
        }
    }

    /// A connection was closed: the calls that it made and those that it has to answer end when [`Calls::sweep`] reaches
    /// them.
    pub(crate) fn remove_connection(&mut self, connection: ConnId, reason: &CloseReason) {
        let Ends { made, serving, uploads, orphaned, .. } = self.ends.take(connection);
        if made.is_empty() && serving.is_empty() {
            return;
        }
        self.closing.push_back(Closing {
            connection,
            made: made.into_slots(),
            serving: serving.into_slots(),
            uploads: uploads.into_iter(),
            orphaned: orphaned.into_iter(),
            reason: reason.clone(),
        });
    }

    /// Ends at most `budget` calls of closed connections: orphans those that they made, and removes those that they had to
    /// answer. Returns the rest of the budget.
    pub(crate) fn sweep(&mut self, mut budget: usize, swept: &mut Swept) -> usize {
        while budget > 0
            && let Some(closing) = self.closing.front_mut()
        {
            let connection = closing.connection;
            if let Some(slot) = closing.made.next() {
                budget -= 1;
                // A large set takes long to drop.
                closing.uploads.next();
                // Unless it has ended meanwhile.
                if self.calls.get(slot).is_some_and(|call| call.caller == Some(connection)) {
                    swept.orphans.extend(self.orphan(slot));
                }
            } else if let Some(slot) = closing.serving.next() {
                budget -= 1;
                closing.orphaned.next();
                let reason = closing.reason.clone();
                swept.lost.extend(self.lose(slot, connection, reason));
            } else {
                self.closing.pop_front();
            }
        }
        budget
    }

    /// Ends a call whose service is gone, unless it has ended in between.
    fn lose(&mut self, slot: usize, service: ConnId, reason: CloseReason) -> Option<LostCall> {
        self.calls.get(slot).filter(|call| call.service == service)?;
        let call = self.take(slot);
        let Some(caller) = call.caller else {
            self.orphaned -= 1;
            return None;
        };
        self.remove_made(caller, call.caller_hash, slot);
        Some(LostCall { caller, request_id: call.caller_id, serial: call.serial, reason })
    }

    /// Marks a call as orphaned, and evicts the oldest one of the same service if there are too many. `None` if it was
    /// orphaned before.
    fn orphan(&mut self, slot: usize) -> Option<Orphan> {
        let call = &mut self.calls[slot];
        let orphan = Orphan {
            caller: call.caller.take()?,
            caller_id: call.caller_id.clone(),
            service: call.service,
            new_id: call.new_id.clone(),
            serial: call.serial,
        };
        self.orphaned += 1;
        let (service, serial) = (call.service, call.serial);
        if let Some(place) = call.deadline.take() {
            self.deadlines.remove(place, note_place(&mut self.calls));
        }
        let call = &self.calls[slot];
        if !self.is_served(call, slot) {
            // Its service is gone too; that is where it will be forgotten.
            return Some(orphan);
        }
        let ends = self.ends.entry(service);
        ends.orphaned.insert(serial, slot);
        if ends.orphaned.len() > self.orphaned_limit
            && let Some((_, &oldest)) = ends.orphaned.first_key_value()
        {
            ends.has_evicted = true;
            self.end(oldest);
        }
        Some(orphan)
    }

    /// The number of open calls.
    pub(crate) fn len(&self) -> usize {
        self.calls.len() - self.orphaned
    }

    /// The number of orphaned calls.
    pub(crate) fn orphaned(&self) -> usize {
        self.orphaned
    }
}

/// Keeps the place of a deadline in its call.
fn note_place(calls: &mut Slab<Call>) -> impl FnMut(CallKey, Place) + '_ {
    |key, place| calls[key.slot as usize].deadline = Some(place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connections::{Connections, Identity};

    // Every open call has an entry, so what few calls need goes elsewhere.
    #[test]
    fn an_entry_is_small() {
        assert!(size_of::<Call>() <= 96, "{} bytes", size_of::<Call>());
    }

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
        assert_eq!((calls.len(), calls.orphaned()), (0, 0));
        let capacity = calls.calls.capacity();
        assert!(capacity >= COUNT);

        // Nor when a service goes, and the next calls find room.
        open(&mut calls, other);
        calls.remove_connection(other, &CloseReason::HungUp);
        let mut swept = Swept::default();
        calls.sweep(usize::MAX, &mut swept);
        assert_eq!((calls.len(), swept.lost.len()), (0, COUNT));
        assert_eq!(calls.calls.capacity(), capacity);
    }

    // To drop the sets of a connection that goes takes time in proportion to their sizes, too.
    #[test]
    fn a_connection_that_goes_is_cleared_away_in_small_steps() {
        const COUNT: usize = 1000;
        let mut connections = Connections::default();
        let mut connect = || connections.add(Identity::Unknown);
        let (caller, service) = (connect(), connect());
        let mut calls = Calls::new(COUNT);
        let keys: Vec<_> = (0..2 * COUNT)
            .map(|number| calls.open(caller, calls.hash(&number.to_string()), service).key)
            .collect();
        for &key in &keys[..COUNT] {
            calls.cancel(key);
        }
        for &key in &keys[COUNT..] {
            calls.begin_upload(caller, key);
        }
        calls.remove_connection(caller, &CloseReason::HungUp);
        calls.remove_connection(service, &CloseReason::HungUp);
        let left = |calls: &Calls| {
            let of_one = |closing: &Closing| closing.uploads.len() + closing.orphaned.len();
            calls.closing.iter().map(of_one).sum::<usize>()
        };
        let mut before = left(&calls);
        assert_eq!(before, 2 * COUNT);
        while calls.sweep(10, &mut Swept::default()) == 0 {
            let now = left(&calls);
            assert!(before - now <= 10, "{} in one step", before - now);
            before = now;
        }
        assert_eq!((before, calls.orphaned()), (0, 0));
    }
}
