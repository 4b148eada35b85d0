//! Names with several owners, and capacities.

use std::sync::Arc;

use gsb_client::{Bus, Call, Error, Registering};
use tokio::sync::{Notify, mpsc};

use crate::setup::{Expected, World};

cases!(
    shared_name_in_turn,
    shared_name_whose_owner_is_full,
    shared_name_that_an_owner_leaves,
    standby_takes_over,
    affinity,
    modes_do_not_mix,
    capacity,
);

/// Whether the service can register a name that others register, too. A client of level 0 cannot.
const IS_SUPPORTED: Expected<bool> = Expected {
    in_process: true,
    router: true,
    old_caller: true,
    old_service: false,
    both_old: false,
};

/// A service that answers with a text.
fn named(bus: &Bus, text: &'static str) -> Registering {
    bus.register("/s", move |_: Call| async move { Ok(text) })
}

/// Whether the service supports the mode, and refuses it otherwise.
async fn is_supported(world: &World, registering: Registering) -> bool {
    if world.expect(&IS_SUPPORTED) {
        return true;
    }
    let error = registering.await.unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    false
}

async fn shared_name_in_turn(world: &World) {
    if !is_supported(world, named(&world.service, "one").shared()).await {
        return;
    }
    let second = world.second_service().await;
    let _one = named(&world.service, "one").shared().await.unwrap();
    let _two = named(&second, "two").shared().await.unwrap();
    for _ in 0..3 {
        assert_eq!(world.caller.call("/s", "").await.unwrap(), "one");
        assert_eq!(world.caller.call("/s", "").await.unwrap(), "two");
    }
}

async fn shared_name_whose_owner_is_full(world: &World) {
    if !is_supported(world, named(&world.service, "one").shared()).await {
        return;
    }
    let (entered, mut running) = mpsc::unbounded_channel();
    let gate = Arc::new(Notify::new());
    let held = gate.clone();
    let handler = move |_: Call| {
        let (entered, held) = (entered.clone(), held.clone());
        async move {
            entered.send(()).unwrap();
            held.notified().await;
            Ok("held")
        }
    };
    let second = world.second_service().await;
    let _one = world.service.register("/s", handler).shared().capacity(1).await.unwrap();
    let _two = named(&second, "two").shared().capacity(1).await.unwrap();
    let others = async {
        running.recv().await.unwrap();
        for _ in 0..3 {
            assert_eq!(world.caller.call("/s", "").await.unwrap(), "two");
        }
        gate.notify_one();
    };
    let (held, ()) = tokio::join!(world.caller.call("/s", ""), others);
    assert_eq!(held.unwrap(), "held");
}

async fn shared_name_that_an_owner_leaves(world: &World) {
    if !is_supported(world, named(&world.service, "one").shared()).await {
        return;
    }
    let second = world.second_service().await;
    let one = named(&world.service, "one").shared().await.unwrap();
    let two = named(&second, "two").shared().await.unwrap();
    one.unregister().await.unwrap();
    for _ in 0..3 {
        assert_eq!(world.caller.call("/s", "").await.unwrap(), "two");
    }
    two.unregister().await.unwrap();
    let error = world.caller.call("/s", "").await.unwrap_err();
    assert!(matches!(error, Error::NoSuchService { .. }), "{error}");
}

async fn standby_takes_over(world: &World) {
    if !is_supported(world, named(&world.service, "one").standby()).await {
        return;
    }
    let second = world.second_service().await;
    let one = named(&world.service, "one").standby().await.unwrap();
    let _two = named(&second, "two").standby().await.unwrap();
    for _ in 0..3 {
        assert_eq!(world.caller.call("/s", "").await.unwrap(), "one");
    }
    one.unregister().await.unwrap();
    assert_eq!(world.caller.call("/s", "").await.unwrap(), "two");
    let _one = named(&world.service, "one").standby().await.unwrap();
    assert_eq!(world.caller.call("/s", "").await.unwrap(), "two", "it came first");
}

/// Whether calls with the same text go to the same owner. A caller of level 0 does not send the text.
const IS_KEPT: Expected<bool> = Expected { old_caller: false, ..IS_SUPPORTED };

async fn affinity(world: &World) {
    if !is_supported(world, named(&world.service, "one").shared()).await {
        return;
    }
    let second = world.second_service().await;
    let _one = named(&world.service, "one").shared().await.unwrap();
    let _two = named(&second, "two").shared().await.unwrap();
    let mut owners = Vec::new();
    for user in 0..64 {
        let endpoint = world.caller.endpoint("/s").affinity(format!("user {user}"));
        let first = endpoint.call("").await.unwrap();
        let again = endpoint.call("").await.unwrap();
        assert_eq!(first == again, world.expect(&IS_KEPT), "user {user}");
        owners.push(first);
    }
    let has_both = owners.contains(&"one".into()) && owners.contains(&"two".into());
    // Without the texts, each first call is in the turn of the same owner.
    assert_eq!(has_both, world.expect(&IS_KEPT));
}

async fn modes_do_not_mix(world: &World) {
    if !is_supported(world, named(&world.service, "one").shared()).await {
        return;
    }
    let second = world.second_service().await;
    let _one = named(&world.service, "one").shared().await.unwrap();
    for registering in [named(&second, "two"), named(&second, "two").standby()] {
        let error = registering.await.unwrap_err();
        assert!(matches!(error, Error::AlreadyRegistered { .. }), "{error}");
    }
    assert_eq!(world.caller.call("/s", "").await.unwrap(), "one");
}

// Of a name with one owner. It holds at each level, because the service keeps to it as well.
async fn capacity(world: &World) {
    let (entered, mut running) = mpsc::unbounded_channel();
    let gate = Arc::new(Notify::new());
    let held = gate.clone();
    let handler = move |_: Call| {
        let (entered, held) = (entered.clone(), held.clone());
        async move {
            entered.send(()).unwrap();
            held.notified().await;
            Ok("done")
        }
    };
    let _service = world.service.register("/s", handler).capacity(1).await.unwrap();
    let second = async {
        running.recv().await.unwrap();
        let error = world.caller.call("/s", "").await.unwrap_err();
        assert!(matches!(error, Error::Busy { .. }), "{error}");
        gate.notify_one();
    };
    let (first, ()) = tokio::join!(world.caller.call("/s", ""), second);
    assert_eq!(first.unwrap(), "done");
}
