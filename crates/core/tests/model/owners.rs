//! Which connection owns which name, and which owner gets a call (rules SV-2 to SV-4, SV-10 and SV-11).

use std::collections::BTreeSet;

use gsb_core::ConnId;
use gsb_proto::messages::CallRequest;
use proptest::prelude::*;

use super::names::is_name;
use super::oracle::LIMIT;

const EXCLUSIVE: i32 = 0;
const SHARED: i32 = 1;
const STANDBY: i32 = 2;

/// A registration.
struct Owner {
    id: ConnId,
    name: &'static str,
    mode: i32,
    capacity: usize,
    share: Share,
    /// Registrations are numbered in their order.
    number: u64,
    /// When it was registered or last given a call.
    turn: u64,
}

/// What decides an owner's share of the calls with an affinity: its instance id, if it had one.
type Share = Result<&'static [u8], ConnId>;

/// Where a call goes.
pub(super) enum Choice {
    NoSuchService,
    Busy,
    /// To this connection, by the registration of this number.
    Owner(ConnId, u64),
}

/// All registrations in their order.
#[derive(Default)]
pub(super) struct Owners {
    all: Vec<Owner>,
    time: u64,
    /// For each affinity, which owner was chosen where which other one was there. The broker decides by hashes of its own, but
    /// always in the same way.
    preferred: BTreeSet<(String, Share, Share)>,
    pub(super) reached: BTreeSet<&'static str>,
}

impl Owners {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    fn tick(&mut self) -> u64 {
        self.time += 1;
        self.time
    }

    /// Returns the code of the reply.
    pub(super) fn register(
        &mut self,
        id: ConnId,
        instance: &'static [u8],
        name: &'static str,
        (mode, capacity): (i32, u32),
    ) -> i32 {
        if !is_name(name) || ![EXCLUSIVE, SHARED, STANDBY].contains(&mode) {
            return 400;
        }
        let excludes = |owner: &Owner| owner.id == id || owner.mode != mode || mode == EXCLUSIVE;
        if self.all.iter().any(|owner| owner.name == name && excludes(owner)) {
            return 409;
        }
        if self.all.iter().filter(|owner| owner.id == id).count() == LIMIT {
            return 400;
        }
        let number = self.tick();
        let share = if instance.is_empty() { Err(id) } else { Ok(instance) };
        let capacity = capacity as usize;
        self.all.push(Owner { id, name, mode, capacity, share, number, turn: number });
        0
    }

    /// Returns the code of the reply.
    pub(super) fn unregister(&mut self, id: ConnId, name: &str) -> i32 {
        let before = self.all.len();
        self.all.retain(|owner| owner.id != id || owner.name != name);
        if self.all.len() < before { 0 } else { 404 }
    }

    pub(super) fn close(&mut self, id: ConnId) {
        self.all.retain(|owner| owner.id != id);
    }

    /// `load` is how many calls count against a registration. `served_by` is the peer that got the call; it settles what
    /// depends on the hashes of the broker.
    pub(super) fn choose(
        &mut self,
        request: &CallRequest,
        load: impl Fn(u64) -> usize,
        served_by: Option<ConnId>,
        is_level_0: impl Fn(ConnId) -> bool,
    ) -> Result<Choice, TestCaseError> {
        let address = &request.address;
        let is_prefix = |name: &str| address == name || address.starts_with(&format!("{name}/"));
        let names = self.all.iter().map(|owner| owner.name).filter(|name| is_prefix(name));
        let Some(name) = names.max_by_key(|name| name.len()) else {
            return Ok(Choice::NoSuchService);
        };
        let owners: Vec<&Owner> = self.all.iter().filter(|owner| owner.name == name).collect();
        let takes = |owner: &Owner| {
            request.no_reply || owner.capacity == 0 || load(owner.number) < owner.capacity
        };
        let is_shared = owners[0].mode == SHARED;
        let text = request.affinity.clone();
        let chosen = if !is_shared {
            owners.first().filter(|owner| takes(owner))
        } else if text.is_empty() {
            let load = |owner: &Owner| if request.no_reply { 0 } else { load(owner.number) };
            let mut able: Vec<&&Owner> = owners.iter().collect();
            able.retain(|owner| !request.more || !is_level_0(owner.id));
            if able.is_empty() {
                able.extend(&owners);
            } else if able.len() < owners.len() {
                self.reached.insert("passed by level 0");
            }
            let takers = able.into_iter().filter(|owner| takes(owner));
            takers.min_by_key(|owner| (load(owner), owner.turn))
        } else {
            let loses = |to: &Owner, owner: &Owner| {
                self.preferred.contains(&(text.clone(), to.share, owner.share))
            };
            let may_win = |owner: &&&Owner| !owners.iter().any(|other| loses(other, owner));
            let mut winners = owners.iter().filter(may_win);
            match served_by {
                None => {
                    prop_assert!(winners.any(|owner| !takes(owner)), "{} is not busy", text);
                    self.reached.insert("busy by affinity");
                    None
                }
                Some(id) => {
                    let winner = winners.find(|owner| owner.id == id && takes(owner));
                    prop_assert!(winner.is_some(), "{} got a call with the affinity {}", id, text);
                    winner
                }
            }
        };
        if owners.len() > 1 {
            let is_any_full = owners.iter().any(|owner| !takes(owner));
            self.reached.insert(match (is_shared, chosen.is_some(), is_any_full) {
                (false, ..) => "standby",
                (true, true, false) => "shared",
                (true, true, true) => "another owner is not busy",
                (true, false, _) => "several owners are busy",
            });
        }
        let Some(&&Owner { id, number, share, .. }) = chosen else {
            return Ok(Choice::Busy);
        };
        if is_shared && !text.is_empty() {
            let losers = owners.iter().map(|owner| owner.share).filter(|other| *other != share);
            let lost = losers.map(|loser| (text.clone(), share, loser));
            if owners.len() > 1 && lost.clone().all(|lost| self.preferred.contains(&lost)) {
                self.reached.insert("affinity chose as before");
            }
            self.preferred.extend(lost);
        }
        Ok(Choice::Owner(id, number))
    }

    /// The registration with this number gets the call that it was chosen for.
    pub(super) fn begin(&mut self, number: u64) {
        let turn = self.tick();
        let chosen = self.all.iter_mut().find(|owner| owner.number == number);
        chosen.unwrap().turn = turn;
    }
}
