use std::collections::BTreeSet;

use gsb_proto::ServiceId;

use super::*;
use crate::engine::service_entry::{Handler, RunningCall};
use crate::engine::terms::Terms;

fn service(mode: RegisterMode, capacity: u32, scope: Scope) -> Arc<ServiceEntry> {
    let handler = Handler::Push(Box::new(|_| Box::pin(async {})));
    let id = ServiceId::new("/s").expect("an id");
    let terms = Terms { mode, capacity };
    let running_calls = Arc::default();
    let service = ServiceEntry::new(id, handler, None, scope, terms, false, 10, running_calls);
    Arc::new(service)
}

fn shared(capacity: u32) -> Arc<ServiceEntry> {
    service(RegisterMode::Shared, capacity, Scope::Everywhere)
}

fn enter(owners: &Owners, affinity: &str) -> Option<(u64, RunningCall)> {
    let owner = owners.choose(Scope::InProcess, affinity)?;
    let running = owner.clone().enter().ok()?;
    Some((running.service().serial(), running))
}

// Rule SV-10: the fewest running calls, in turn among equals, and none beyond the capacity.
#[test]
fn calls_are_shared() {
    let [a, b, c] = [shared(2), shared(0), shared(1)];
    let mut owners = Owners::new(a.clone());
    assert!(owners.join(&b, false) && owners.join(&c, false));
    let mut running = Vec::new();
    let mut next = || {
        let (serial, call) = enter(&owners, "").expect("an owner with room");
        running.push((serial, call));
        serial
    };
    let [a, b, c] = [a.serial(), b.serial(), c.serial()];
    assert_eq!([next(), next(), next()], [a, b, c]);
    assert_eq!([next(), next()], [a, b]);
    // The others are full.
    assert_eq!([next(), next()], [b, b]);
    let ended = running.iter().position(|(serial, _)| *serial == c).expect("its call");
    running.remove(ended);
    let next = || enter(&owners, "").map(|(serial, _)| serial);
    assert_eq!(next(), Some(c));
    // Calls that end at once are given in turn.
    running.clear();
    let turns: Vec<_> = (0..6).filter_map(|_| next()).collect();
    assert_eq!(turns[..3], turns[3..]);
    assert_eq!(BTreeSet::from_iter(turns), BTreeSet::from([a, b, c]));
}

// Rule SV-11: an owner that comes or goes moves only the texts that it gets or had.
#[test]
fn affinity_is_stable() {
    let all: Vec<_> = (0..4).map(|_| shared(0)).collect();
    let mut owners = Owners::new(all[0].clone());
    assert!(all[1..3].iter().all(|owner| owners.join(owner, false)));
    let chosen = |owners: &Owners| {
        let of = |text: usize| enter(owners, &format!("user {text}")).expect("an owner").0;
        (0..200).map(of).collect::<Vec<_>>()
    };
    let before = chosen(&owners);
    assert_eq!(chosen(&owners), before);
    assert_eq!(BTreeSet::from_iter(&before).len(), 3);
    assert!(owners.join(&all[3], false));
    let with_another = chosen(&owners);
    let moved = before.iter().zip(&with_another).filter(|(before, now)| before != now);
    let moved: Vec<_> = moved.map(|(_, now)| *now).collect();
    assert!(!moved.is_empty() && moved.iter().all(|now| *now == all[3].serial()), "{moved:?}");
    assert!(owners.leave(&all[3]).is_some());
    assert_eq!(chosen(&owners), before);
    // The first owner may go, too.
    assert!(owners.leave(&all[0]).is_some_and(|(_, was_last)| !was_last));
    let without: Vec<_> = before.iter().zip(chosen(&owners)).collect();
    assert!(without.iter().all(|(before, now)| *before == now || **before == all[0].serial()));
    // A full owner is not replaced.
    let full = shared(1);
    let mut owners = Owners::new(full.clone());
    assert!(owners.join(&shared(0), false));
    let of_full = (0..).map(|text| text.to_string());
    let of_full = of_full
        .into_iter()
        .find(|text| enter(&owners, text).is_some_and(|(serial, _)| serial == full.serial()));
    let text = of_full.expect("a text of each owner");
    let _running = enter(&owners, &text).expect("room");
    assert!(enter(&owners, &text).is_none());
}

#[test]
fn a_name_has_several_owners_only_where_the_router_does_not_know_it() {
    use RegisterMode::*;
    use Scope::*;
    for (one, other, has_router, may_join) in [
        ((Exclusive, Everywhere), (Exclusive, Everywhere), false, false),
        ((Exclusive, Everywhere), (Shared, Everywhere), false, false),
        ((Shared, Everywhere), (Exclusive, Everywhere), false, false),
        ((Shared, Everywhere), (Standby, Everywhere), false, false),
        ((Shared, Everywhere), (Shared, InProcess), false, true),
        ((Standby, InProcess), (Standby, Everywhere), false, true),
        ((Shared, Everywhere), (Shared, Everywhere), true, false),
        ((Standby, Everywhere), (Standby, InProcess), true, false),
        ((Standby, InProcess), (Standby, Everywhere), true, false),
        ((Standby, InProcess), (Standby, InProcess), true, true),
    ] {
        let mut owners = Owners::new(service(one.0, 0, one.1));
        let other = service(other.0, 0, other.1);
        assert_eq!(owners.join(&other, has_router), may_join, "{one:?} {other:?} {has_router}");
    }
}

#[test]
fn the_router_chooses_among_the_owners_of_several_processes() {
    let is_here = |service: Arc<ServiceEntry>, scope, affinity| {
        Owners::new(service).choose(scope, affinity).is_some()
    };
    let standby = || service(RegisterMode::Standby, 0, Scope::Everywhere);
    assert!(!is_here(standby(), Scope::Everywhere, ""));
    assert!(is_here(standby(), Scope::InProcess, ""));
    assert!(is_here(service(RegisterMode::Standby, 0, Scope::InProcess), Scope::Everywhere, ""));
    assert!(is_here(shared(1), Scope::Everywhere, ""));
    assert!(!is_here(shared(1), Scope::Everywhere, "text"));
    assert!(is_here(shared(1), Scope::InProcess, "text"));
    let full = shared(1);
    let _running = full.clone().enter().expect("room");
    assert!(!is_here(full.clone(), Scope::Everywhere, ""));
    // It is refused as busy.
    assert!(is_here(full, Scope::InProcess, ""));
    let exclusive = service(RegisterMode::Exclusive, 1, Scope::Everywhere);
    let _running = exclusive.clone().enter().expect("room");
    assert!(is_here(exclusive, Scope::Everywhere, ""));
}
