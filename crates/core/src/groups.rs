//! Groups: the owners of a name that may have several, or of which one takes a limited number of calls (rule SV-10).
//!
//! A name with a single owner that takes any number of calls has no group.

use std::cell::Cell;
use std::cmp::Reverse;
use std::num::NonZeroU32;

use gsb_proto::messages::RegisterMode;
use slab::Slab;

use crate::affinity::{Affinity, Seed};
use crate::ids::ConnId;

/// Most owners of one name. Each choice looks at all of them, so it has to be short beside a turn of the router.
pub(crate) const MAX_OWNERS: usize = 1024;

/// To compare this number of owners takes about as long as to look up the connection of one.
const COMPARED_IN_A_STEP: usize = 8;

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
    owner: ConnId,
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
}

#[derive(Debug)]
struct Group {
    mode: RegisterMode,
    /// Ordered by owner. Most groups are small, and a list is fast to search and to change.
    members: Vec<Member>,
}

#[derive(Debug, Default)]
pub(crate) struct Groups {
    groups: Slab<Group>,
    /// Registrations and choices are numbered together.
    turns: u64,
    /// The work of choosing: one step for each owner that was looked up, and one for each eight that were compared.
    pub(crate) steps: usize,
}

impl Groups {
    pub(crate) fn create(&mut self, owner: ConnId, at: usize, terms: Terms) -> GroupKey {
        let group = Group { mode: terms.mode, members: Vec::new() };
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
        let member = Member { owner, serial, seed, capacity, open: 0, turn: self.turns, at };
        let (Ok(place) | Err(place)) = group.place(owner);
        group.members.insert(place, member);
    }

    /// Removes an owner, and with the last one the group. Returns the position of the name in the list of the owner's
    /// names, and whether the group is removed; `None` if the owner is not in the group.
    pub(crate) fn leave(&mut self, key: GroupKey, owner: ConnId) -> Option<(usize, bool)> {
        let group = self.groups.get_mut(key.0 as usize)?;
        let place = group.place(owner).ok()?;
        let member = group.members.remove(place);
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
        self.get(key).is_some_and(|group| group.place(owner).is_ok())
    }

    pub(crate) fn is_full(&self, key: GroupKey) -> bool {
        self.get(key).is_some_and(|group| group.members.len() >= MAX_OWNERS)
    }

    /// Whether an owner is connected.
    pub(crate) fn is_live(&self, key: GroupKey, is_live: impl Fn(ConnId) -> bool) -> bool {
        self.get(key).is_some_and(|group| group.members.iter().any(|it| is_live(it.owner)))
    }

    /// The name of an owner is at another position in the list of its names.
    pub(crate) fn set_position(&mut self, key: GroupKey, owner: ConnId, at: usize) {
        let group = self.groups.get_mut(key.0 as usize);
        if let Some(member) = group.and_then(|group| group.member(owner)) {
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
        // A score takes as long as a look at a connection.
        let compared = if affinity.is_some() { 1 } else { COMPARED_IN_A_STEP };
        let steps = Cell::new(group.members.len() / compared);
        let condition = |owner| {
            steps.update(|steps| steps + 1);
            condition(owner)
        };
        let is_ready = |owner| condition(owner) == Condition::Ready;
        let is_there = |owner| condition(owner) != Condition::Gone;
        let chosen = match (group.mode, affinity, kind) {
            (RegisterMode::Shared, None, CallKind::Push) => {
                let first = group.first(|member| Some(member.turn), is_ready);
                first.ok_or_else(|| group.unavailable(condition))
            }
            (RegisterMode::Shared, None, CallKind::Call) => {
                let load =
                    |member: &Member| (!member.is_full()).then_some((member.open, member.turn));
                group.first(load, is_ready).ok_or_else(|| group.unavailable(condition))
            }
            (RegisterMode::Shared, Some(affinity), _) => {
                let score = |member: &Member| Some(Reverse(affinity.score(member.seed)));
                group.only(group.first(score, is_there), kind, condition)
            }
            (RegisterMode::Exclusive | RegisterMode::Standby, ..) => {
                let first = group.first(|member| Some(member.turn), is_there);
                group.only(first, kind, condition)
            }
        };
        self.steps += steps.get();
        chosen.map(|member| member.owner)
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
        let member = group.member(owner)?;
        if is_shared {
            member.turn = self.turns;
        }
        if kind == CallKind::Push {
            return None;
        }
        member.open += 1;
        Some(Registration { group: key, serial: member.serial })
    }

    /// A call that was given to an owner no longer counts. The registration may be gone.
    pub(crate) fn end(&mut self, owner: ConnId, Registration { group, serial }: Registration) {
        let group = self.groups.get_mut(group.0 as usize);
        let member = group.and_then(|group| group.member(owner));
        if let Some(member) = member.filter(|member| member.serial == serial) {
            member.open = member.open.saturating_sub(1);
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
    /// The place of an owner in the list; or where it is to be inserted.
    fn place(&self, owner: ConnId) -> Result<usize, usize> {
        self.members.binary_search_by_key(&owner, |member| member.owner)
    }

    fn member(&mut self, owner: ConnId) -> Option<&mut Member> {
        let place = self.place(owner).ok()?;
        self.members.get_mut(place)
    }

    /// The member with the lowest rank of those that have one and may be chosen. Few are looked up for the latter.
    fn first<K: Ord>(
        &self,
        rank: impl Fn(&Member) -> Option<K>,
        may_choose: impl Fn(ConnId) -> bool,
    ) -> Option<&Member> {
        // Usually the first one may be chosen.
        let first = self.lowest(&rank, |_| true)?;
        if may_choose(first.owner) { Some(first) } else { self.lowest(rank, may_choose) }
    }

    /// The member with the lowest rank of those that have one and may be chosen.
    fn lowest<K: Ord>(
        &self,
        rank: impl Fn(&Member) -> Option<K>,
        may_choose: impl Fn(ConnId) -> bool,
    ) -> Option<&Member> {
        let mut first: Option<(K, &Member)> = None;
        for member in &self.members {
            if let Some(rank) = rank(member)
                && first.as_ref().is_none_or(|(lowest, _)| rank < *lowest)
                && may_choose(member.owner)
            {
                first = Some((rank, member));
            }
        }
        first.map(|(_, member)| member)
    }

    /// Why no member of a SHARED group takes a call.
    #[cold]
    fn unavailable(&self, condition: impl Fn(ConnId) -> Condition) -> Unavailable {
        let mut stalled = None;
        for member in &self.members {
            match condition(member.owner) {
                // It would have been chosen if it were not full.
                Condition::Ready => return Unavailable::Full,
                Condition::Stalled => stalled = Some(member.owner),
                Condition::Gone => {}
            }
        }
        stalled.map_or(Unavailable::Gone, Unavailable::Stalled)
    }

    /// The only member that may take the call.
    fn only<'a>(
        &'a self,
        member: Option<&'a Member>,
        kind: CallKind,
        condition: impl Fn(ConnId) -> Condition,
    ) -> Result<&'a Member, Unavailable> {
        let member = member.ok_or(Unavailable::Gone)?;
        if condition(member.owner) == Condition::Stalled {
            return Err(Unavailable::Stalled(member.owner));
        }
        match kind == CallKind::Call && member.is_full() {
            true => Err(Unavailable::Full),
            false => Ok(member),
        }
    }
}

#[cfg(test)]
#[path = "groups_tests.rs"]
mod tests;
