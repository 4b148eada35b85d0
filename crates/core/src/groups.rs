//! Groups: the owners of a name that may have several, or of which one takes a limited number of calls (rule SV-10).
//!
//! A name with a single owner that takes any number of calls has no group.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::num::NonZeroU32;

use gsb_proto::messages::RegisterMode;
use slab::Slab;

use crate::affinity::{Affinity, Seed};
use crate::ids::ConnId;

/// Most owners of one name. To choose one may take a [step](Groups::steps) for each of them, so it has to be short beside a
/// turn of the router.
pub(crate) const MAX_OWNERS: usize = 1024;

/// Names a group, for as long as it has members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GroupKey(u32);

/// Names the registration of one owner in a group. Each call to a group carries one, so it is small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Registration {
    group: GroupKey,
    serial: NonZeroU32,
}

/// The terms on which an owner registers a name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) mode: RegisterMode,
    /// The number of open calls that the owner takes at a time; 0 for any number.
    pub(crate) capacity: u32,
    pub(crate) seed: Seed,
}

/// Whether a call is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallKind {
    /// A call that is answered. It counts against the capacity of its owner.
    Call,
    /// A call with `no_reply`.
    Push,
}

/// Whether an owner can be given a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    Ready,
    Stalled,
    /// Its connection is closed, or it does not support the call.
    Gone,
}

/// Why there is no owner that takes a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unavailable {
    /// There is no owner, or all are [gone](Condition::Gone).
    Gone,
    /// This owner has stalled, and no other one may take the call.
    Stalled(ConnId),
    /// The owners that may take the call have no capacity left.
    Full,
}

#[derive(Debug)]
struct Member {
    serial: NonZeroU32,
    seed: Seed,
    capacity: u32,
    /// The calls that count against the capacity.
    open: u32,
    /// When it was registered or, in a SHARED group, last chosen.
    turn: u64,
    /// The position in the list of the owner's names.
    at: usize,
}

impl Member {
    fn is_full(&self) -> bool {
        self.capacity != 0 && self.open >= self.capacity
    }

    fn load(&self) -> (u32, u64) {
        (self.open, self.turn)
    }
}

#[derive(Debug)]
struct Group {
    mode: RegisterMode,
    members: BTreeMap<ConnId, Member>,
    /// All members, by their turns.
    by_turn: BTreeMap<u64, ConnId>,
    /// The members that are not full, by their open calls and turns.
    by_load: BTreeMap<(u32, u64), ConnId>,
}

#[derive(Debug, Default)]
pub(crate) struct Groups {
    groups: Slab<Group>,
    /// Registrations and choices are numbered together.
    turns: u64,
    /// How many owners were looked at to find one that takes a call. There may be many before it that do not.
    pub(crate) steps: usize,
}

impl Groups {
    pub(crate) fn create(&mut self, owner: ConnId, at: usize, terms: Terms) -> GroupKey {
        let group = Group {
            mode: terms.mode,
            members: BTreeMap::new(),
            by_turn: BTreeMap::new(),
            by_load: BTreeMap::new(),
        };
        let key = GroupKey(self.groups.insert(group) as u32);
        self.join(key, owner, at, terms);
        key
    }

    /// Adds an owner that is not in the group. `at` is the position of the name in the list of the owner's names.
    pub(crate) fn join(&mut self, key: GroupKey, owner: ConnId, at: usize, terms: Terms) {
        let Some(group) = self.groups.get_mut(key.0 as usize) else {
            return;
        };
        self.turns += 1;
        let Terms { capacity, seed, .. } = terms;
        // Another registration may have it after 4,294,967,295 further turns.
        let serial = NonZeroU32::new(self.turns as u32).unwrap_or(NonZeroU32::MAX);
        let member = Member { serial, seed, capacity, open: 0, turn: self.turns, at };
        group.by_turn.insert(member.turn, owner);
        group.by_load.insert(member.load(), owner);
        group.members.insert(owner, member);
    }

    /// Removes an owner, and with the last one the group. Returns the position of the name in the list of the owner's
    /// names, and whether the group is removed; `None` if the owner is not in the group.
    pub(crate) fn leave(&mut self, key: GroupKey, owner: ConnId) -> Option<(usize, bool)> {
        let group = self.groups.get_mut(key.0 as usize)?;
        let member = group.members.remove(&owner)?;
        group.by_turn.remove(&member.turn);
        group.by_load.remove(&member.load());
        let is_empty = group.members.is_empty();
        if is_empty {
            self.remove(key);
        }
        Some((member.at, is_empty))
    }

    pub(crate) fn remove(&mut self, key: GroupKey) {
        self.groups.try_remove(key.0 as usize);
    }

    pub(crate) fn mode(&self, key: GroupKey) -> Option<RegisterMode> {
        Some(self.get(key)?.mode)
    }

    pub(crate) fn contains(&self, key: GroupKey, owner: ConnId) -> bool {
        self.get(key).is_some_and(|group| group.members.contains_key(&owner))
    }

    pub(crate) fn is_full(&self, key: GroupKey) -> bool {
        self.get(key).is_some_and(|group| group.members.len() >= MAX_OWNERS)
    }

    /// Whether an owner is connected.
    pub(crate) fn is_live(&self, key: GroupKey, is_live: impl Fn(ConnId) -> bool) -> bool {
        self.get(key).is_some_and(|group| group.by_turn.values().any(|&owner| is_live(owner)))
    }

    /// The name of an owner is at another position in the list of its names.
    pub(crate) fn set_position(&mut self, key: GroupKey, owner: ConnId, at: usize) {
        let group = self.groups.get_mut(key.0 as usize);
        if let Some(member) = group.and_then(|group| group.members.get_mut(&owner)) {
            member.at = at;
        }
    }

    /// The owner that gets a call. [`Groups::begin`] gives it the call.
    pub(crate) fn choose(
        &mut self,
        key: GroupKey,
        kind: CallKind,
        affinity: &str,
        condition: impl Fn(ConnId) -> Condition,
    ) -> Result<ConnId, Unavailable> {
        let group = self.groups.get(key.0 as usize).ok_or(Unavailable::Gone)?;
        let affinity = Affinity::new(affinity);
        let steps = Cell::new(0);
        let condition = |owner| {
            steps.update(|steps| steps + 1);
            condition(owner)
        };
        let chosen = match (group.mode, affinity, kind) {
            (RegisterMode::Shared, None, CallKind::Push) => {
                group.first_ready(group.by_turn.values(), condition)
            }
            (RegisterMode::Shared, None, CallKind::Call) => {
                group.first_ready(group.by_load.values(), condition)
            }
            (RegisterMode::Shared, Some(affinity), _) => {
                let mut best = None;
                for (&owner, member) in &group.members {
                    let score = affinity.score(member.seed);
                    // There may be many owners, and few have a higher score than all before them.
                    if best.is_none_or(|(highest, _)| score > highest)
                        && condition(owner) != Condition::Gone
                    {
                        best = Some((score, owner));
                    }
                }
                steps.set(group.members.len());
                group.only(best.map(|(_, owner)| owner), kind, condition)
            }
            (RegisterMode::Exclusive | RegisterMode::Standby, ..) => {
                let mut live = group.by_turn.values();
                let first = live.find(|&&owner| condition(owner) != Condition::Gone);
                group.only(first.copied(), kind, condition)
            }
        };
        self.steps += steps.get();
        chosen
    }

    /// Gives a call to an owner that was [chosen](Groups::choose). Returns the registration that the call counts
    /// against, which a push does not.
    pub(crate) fn begin(
        &mut self,
        key: GroupKey,
        owner: ConnId,
        kind: CallKind,
    ) -> Option<Registration> {
        let group = self.groups.get_mut(key.0 as usize)?;
        let is_shared = group.mode == RegisterMode::Shared;
        self.turns += 1;
        let serial = group.update(owner, |member| {
            if is_shared {
                member.turn = self.turns;
            }
            if kind == CallKind::Call {
                member.open += 1;
            }
        })?;
        (kind == CallKind::Call).then_some(Registration { group: key, serial })
    }

    /// A call that was given to an owner no longer counts. The registration may be gone.
    pub(crate) fn end(&mut self, owner: ConnId, Registration { group, serial }: Registration) {
        let group = self.groups.get_mut(group.0 as usize);
        if let Some(group) = group
            && group.members.get(&owner).is_some_and(|member| member.serial == serial)
        {
            group.update(owner, |member| member.open = member.open.saturating_sub(1));
        }
    }

    fn get(&self, key: GroupKey) -> Option<&Group> {
        self.groups.get(key.0 as usize)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.groups.len()
    }
}

impl Group {
    /// The first of these owners that is ready.
    fn first_ready<'a>(
        &self,
        mut owners: impl Iterator<Item = &'a ConnId>,
        condition: impl Fn(ConnId) -> Condition,
    ) -> Result<ConnId, Unavailable> {
        let is_ready = |owner: &&ConnId| condition(**owner) == Condition::Ready;
        if let Some(&owner) = owners.find(is_ready) {
            return Ok(owner);
        }
        let mut stalled = None;
        for &owner in self.by_turn.values() {
            match condition(owner) {
                // It would have been among `owners` if it were not full.
                Condition::Ready => return Err(Unavailable::Full),
                Condition::Stalled => stalled = Some(owner),
                Condition::Gone => {}
            }
        }
        Err(stalled.map_or(Unavailable::Gone, Unavailable::Stalled))
    }

    /// The only owner that may take the call.
    fn only(
        &self,
        owner: Option<ConnId>,
        kind: CallKind,
        condition: impl Fn(ConnId) -> Condition,
    ) -> Result<ConnId, Unavailable> {
        let owner = owner.ok_or(Unavailable::Gone)?;
        if condition(owner) == Condition::Stalled {
            return Err(Unavailable::Stalled(owner));
        }
        let is_full = self.members.get(&owner).is_some_and(Member::is_full);
        match kind == CallKind::Call && is_full {
            true => Err(Unavailable::Full),
            false => Ok(owner),
        }
    }

    /// Changes a member, and its place in the order. Returns the serial number of its registration.
    fn update(&mut self, owner: ConnId, change: impl FnOnce(&mut Member)) -> Option<NonZeroU32> {
        let member = self.members.get_mut(&owner)?;
        let turn = member.turn;
        self.by_load.remove(&member.load());
        change(member);
        if member.turn != turn {
            self.by_turn.remove(&turn);
            self.by_turn.insert(member.turn, owner);
        }
        if !member.is_full() {
            self.by_load.insert(member.load(), owner);
        }
        Some(member.serial)
    }
}

#[cfg(test)]
#[path = "groups_tests.rs"]
mod tests;
