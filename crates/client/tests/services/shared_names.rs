//! Names with several owners: pools of workers, and standbys. Rules SV-10, SV-11, CO-18.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use gsb_client::{
    Announcement, Bus, Call, Error, Failure, Framing, Message, Reconnect, Registering, Registration,
};
use gsb_proto::messages::*;
use gsb_testkit::{FakeRouter, Peer, RouterPlace, TestRouter, within};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

const TIMEOUT: Duration = Duration::from_secs(20);

/// Which process handled a call.
#[derive(Serialize, Deserialize, Message)]
#[message(id = "where", item = String)]
struct Where;

/// A service that answers with a text.
fn named(bus: &Bus, text: &'static str) -> Registering {
    bus.register("/s", move |_: Call| async move { Ok(text) })
}

/// A service whose calls wait for permits.
fn gated(bus: &Bus, gate: &Arc<Semaphore>, text: &'static str) -> Registering {
    let gate = gate.clone();
    bus.register("/s", move |_: Call| {
        let gate = gate.clone();
        async move {
            gate.acquire().await?.forget();
            Ok::<_, Failure>(text)
        }
    })
}

async fn call(bus: &Bus) -> Result<Bytes, Error> {
    within("a call", bus.call("/s", "")).await
}

async fn calls(bus: &Bus, count: usize) -> Vec<Bytes> {
    join_all((0..count).map(|_| call(bus))).await.into_iter().map(Result::unwrap).collect()
}

fn count(replies: &[Bytes], text: &str) -> usize {
    replies.iter().filter(|reply| *reply == text).count()
}

/// Waits until a call is refused as busy. The handlers of earlier calls run by then.
async fn until_busy(bus: &Bus) -> Error {
    within("a busy service", async {
        loop {
            let result = bus.endpoint("/s").timeout(Duration::from_millis(10)).call("").await;
            if let Err(error @ Error::Busy { .. }) = result {
                return error;
            }
        }
    })
    .await
}

async fn connect(router: &TestRouter) -> Bus {
    Bus::connect(&router.unix).await.unwrap()
}

#[tokio::test]
async fn a_pool_within_a_process() {
    let bus = Bus::local();
    let gate = Arc::new(Semaphore::new(0));
    let one = gated(&bus, &gate, "one").shared().capacity(1).await.unwrap();
    let two = gated(&bus, &gate, "two").shared().capacity(2).await.unwrap();
    let all = async {
        let three = join_all((0..3).map(|_| call(&bus)));
        let busy = async {
            tokio::task::yield_now().await;
            let busy = call(&bus).await.unwrap_err();
            let waiting = bus.endpoint("/s").wait_for_service(TIMEOUT);
            let waited = within("no wait for a busy service", waiting.call("")).await.unwrap_err();
            gate.add_permits(3);
            (busy, waited)
        };
        tokio::join!(three, busy)
    };
    let (three, (busy, waited)) = all.await;
    let three: Vec<_> = three.into_iter().map(Result::unwrap).collect();
    assert_eq!((count(&three, "one"), count(&three, "two")), (1, 2));
    assert!(matches!(busy, Error::Busy { .. }) && busy.is_retryable(), "{busy}");
    assert!(matches!(waited, Error::Busy { .. }), "{waited}");
    gate.add_permits(10);
    one.unregister().await.unwrap();
    for _ in 0..3 {
        assert_eq!(call(&bus).await.unwrap(), "two");
    }
    for registering in [named(&bus, "x"), named(&bus, "x").standby()] {
        assert!(matches!(registering.await, Err(Error::AlreadyRegistered { .. })));
    }
    drop(two);
    assert!(matches!(call(&bus).await, Err(Error::NoSuchService { .. })));
}

#[tokio::test]
async fn standbys_within_a_process() {
    // A bus without a router, and handles that do not use the router of theirs.
    let router = TestRouter::start().await;
    for bus in [Bus::local(), connect(&router).await.in_process()] {
        let texts = ["one", "two", "three"];
        let mut services = Vec::new();
        for text in texts {
            services.push(named(&bus, text).standby().await.unwrap());
        }
        // The last one is never active.
        drop(services.pop());
        for (text, service) in texts.iter().zip(services) {
            for _ in 0..2 {
                assert_eq!(call(&bus).await.unwrap(), *text);
            }
            service.unregister().await.unwrap();
        }
        assert!(matches!(call(&bus).await, Err(Error::NoSuchService { .. })));
    }
    router.stop().await;
}

#[tokio::test]
async fn messages_of_all_kinds_are_shared_within_a_process() {
    let bus = Bus::local();
    let mut services = Vec::new();
    for text in ["one", "two"] {
        let answer = move |(): (), _: Where| async move { Ok(text.to_owned()) };
        services.push(bus.serve("/s", ()).on(answer).register().shared().await.unwrap());
    }
    let service = bus.service("/s");
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(service.call(Where).await.unwrap().unwrap());
    }
    assert_eq!(answers, ["one", "two", "one", "two"]);
    let related = service.affinity("user 7");
    let of_one: BTreeSet<_> = join_all((0..10).map(|_| related.call(Where)))
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert_eq!(of_one.len(), 1);
    // Typed calls of services of bytes.
    services.clear();
    for text in ["one", "two"] {
        let reply = flexbuffers::to_vec(Ok::<_, String>(text)).unwrap();
        let reply = move |_: Call| std::future::ready(Ok::<_, Failure>(reply.clone()));
        services.push(bus.register("/s", reply).shared().await.unwrap());
    }
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(bus.service("/s").call(Where).await.unwrap().unwrap());
    }
    assert_eq!(answers, ["one", "two", "one", "two"]);
}

#[tokio::test]
async fn a_pool_over_a_router() {
    let router = TestRouter::start().await;
    let (one, two, caller) =
        (connect(&router).await, connect(&router).await, connect(&router).await);
    let gate = Arc::new(Semaphore::new(0));
    let first = gated(&one, &gate, "one").shared().capacity(1).await.unwrap();
    let _second = gated(&two, &gate, "two").shared().capacity(2).await.unwrap();
    let (three, busy) = tokio::join!(calls(&caller, 3), async {
        let busy = until_busy(&caller).await;
        let waiting = caller.endpoint("/s").wait_for_service(TIMEOUT);
        let waited = within("no wait for a busy service", waiting.call("")).await.unwrap_err();
        assert!(matches!(waited, Error::Busy { .. }), "{waited}");
        gate.add_permits(100);
        busy
    });
    assert_eq!((count(&three, "one"), count(&three, "two")), (1, 2));
    assert!(busy.is_retryable(), "{busy}");
    // The modes of other programs are respected.
    for registering in [named(&caller, "x"), named(&caller, "x").standby()] {
        assert!(matches!(registering.await, Err(Error::AlreadyRegistered { .. })));
    }
    // One process registers a name once.
    let again = named(&one, "x").shared().await;
    assert!(matches!(again, Err(Error::AlreadyRegistered { .. })));
    first.unregister().await.unwrap();
    let rest = calls(&caller, 2).await;
    assert_eq!(count(&rest, "two"), 2);
    router.stop().await;
}

// The other workers help a process that calls its own service.
#[tokio::test]
async fn a_worker_calls_itself_while_it_has_room() {
    let router = TestRouter::start().await;
    let (here, there) = (connect(&router).await, connect(&router).await);
    let gate = Arc::new(Semaphore::new(0));
    let _here = gated(&here, &gate, "here").shared().capacity(2).await.unwrap();
    let _there = named(&there, "there").shared().await.unwrap();
    let (two, others) = tokio::join!(calls(&here, 2), async {
        tokio::task::yield_now().await;
        let others = join_all((0..4).map(|_| call(&here))).await;
        gate.add_permits(10);
        others
    });
    assert_eq!(count(&two, "here"), 2);
    // The router does not know of the calls within the process, and sends some of the others back, which are refused.
    let (answered, busy): (Vec<_>, Vec<_>) = others.into_iter().partition(Result::is_ok);
    assert!(!answered.is_empty());
    assert!(answered.iter().all(|reply| reply.as_ref().is_ok_and(|reply| reply == "there")));
    assert!(busy.iter().all(|error| matches!(error, Err(Error::Busy { .. }))), "{busy:?}");
    assert_eq!(call(&here).await.unwrap(), "here");
    // A handle that stays in the process.
    gate.forget_permits(10);
    let inside = here.in_process();
    let (_, busy) = tokio::join!(calls(&here, 2), async {
        tokio::task::yield_now().await;
        let busy = call(&inside).await;
        gate.add_permits(2);
        busy
    });
    assert!(matches!(busy, Err(Error::Busy { .. })), "{busy:?}");
    router.stop().await;
}

#[tokio::test]
async fn related_calls_of_all_processes_go_to_one_owner() {
    let router = TestRouter::start().await;
    let buses = [connect(&router).await, connect(&router).await, connect(&router).await];
    let mut services = Vec::new();
    for (bus, text) in buses.iter().zip(["a", "b", "c"]) {
        services.push(named(bus, text).shared().await.unwrap());
    }
    let caller = connect(&router).await;
    let mut owners = BTreeSet::new();
    for user in 0..20 {
        let mut of_user = BTreeSet::new();
        for bus in buses.iter().chain([&caller]) {
            let endpoint = bus.endpoint("/s").affinity(format!("user {user}"));
            of_user.insert(within("a call", endpoint.call("")).await.unwrap());
        }
        assert_eq!(of_user.len(), 1, "user {user}: {of_user:?}");
        owners.append(&mut of_user);
    }
    assert_eq!(owners.len(), 3);
    router.stop().await;
}

// A standby that takes over is called by all, the old owner included. No call finds the name without an owner.
#[tokio::test]
async fn a_standby_takes_over() {
    let router = TestRouter::start().await;
    let caller = connect(&router).await;
    let mut active: Option<(Bus, Registration)> = None;
    for round in 0..6 {
        let bus = connect(&router).await;
        let text = ["even", "odd"][round % 2];
        let service = named(&bus, text).standby().await.unwrap();
        assert!(bus.status().is_serving());
        if let Some((old, registration)) = active.take() {
            for bus in [&caller, &bus, &old] {
                assert_eq!(call(bus).await.unwrap(), ["odd", "even"][round % 2]);
            }
            let (replies, ()) = tokio::join!(calls(&caller, 20), async {
                match round {
                    1 | 2 => registration.unregister().await.unwrap(),
                    _ => drop(registration),
                }
            });
            assert_eq!(replies.len(), 20);
            for bus in [&caller, &bus, &old] {
                assert_eq!(call(bus).await.unwrap(), text);
            }
        }
        active = Some((bus, service));
    }
    router.stop().await;
}

async fn expect_registration(peer: &mut Peer, mode: RegisterMode, capacity: u32) {
    let request: RegisterRequest = peer.expect().await;
    assert_eq!((request.mode(), request.capacity), (mode, capacity));
    peer.send(RegisterReply::default()).await;
}

#[tokio::test]
async fn mode_and_capacity_are_restored_after_a_reconnect() {
    let router = FakeRouter::start().await;
    let reconnect = Reconnect::default().first_delay(Duration::from_millis(1));
    let bus = Bus::builder().reconnect(reconnect).connect_lazy(&router.address).unwrap();
    let _services = [
        bus.register("/a", |_: Call| async { Ok("") }).shared().capacity(3).await.unwrap(),
        bus.register("/b", |_: Call| async { Ok("") }).standby().await.unwrap(),
        bus.register("/c", |_: Call| async { Ok("") }).capacity(5).await.unwrap(),
    ];
    for _ in 0..3 {
        let mut peer = router.accept_with(Hello { level: 1, ..Hello::default() }).await;
        expect_registration(&mut peer, RegisterMode::Shared, 3).await;
        expect_registration(&mut peer, RegisterMode::Standby, 0).await;
        expect_registration(&mut peer, RegisterMode::Exclusive, 5).await;
        within("all names", bus.settled()).await.unwrap();
        assert!(bus.status().is_serving());
        drop(peer);
        within("the loss", bus.watch().wait_for(|status| !status.is_serving())).await.unwrap();
    }
}

// Rule CO-18: a router of level 0 is not asked for a mode. A capacity is left out, and the service keeps to it.
#[tokio::test]
async fn a_router_of_level_0() {
    let router = FakeRouter::start().await;
    let (bus, mut peer) = tokio::join!(Bus::connect(&router.address), router.accept());
    let bus = bus.unwrap();
    for (registering, method) in
        [(named(&bus, "x").shared(), "`shared()`"), (named(&bus, "x").standby(), "`standby()`")]
    {
        let error = registering.await.unwrap_err();
        assert!(matches!(&error, Error::Unsupported { target, .. } if target == "/s"), "{error}");
        assert!(error.to_string().contains(method), "{error}");
        assert!(error.to_string().contains("fake"), "{error}");
    }
    assert!(bus.status().is_settled && bus.status().refused.is_empty());
    let gate = Arc::new(Semaphore::new(0));
    let (registered, ()) = tokio::join!(
        gated(&bus, &gate, "done").capacity(1),
        expect_registration(&mut peer, RegisterMode::Exclusive, 0),
    );
    for id in ["1", "2"] {
        let (request_id, address) = (id.into(), "/s".into());
        peer.send(CallRequest { request_id, address, ..Default::default() }).await;
    }
    let busy: CallReply = peer.expect().await;
    assert_eq!((busy.request_id.as_str(), busy.reason()), ("2", CallReplyReason::ReasonBusy));
    gate.add_permits(1);
    assert_eq!(peer.expect::<CallReply>().await.data, "done");
    // The affinity of a call is left out, too.
    let endpoint = bus.endpoint("/far").affinity("user 7").timeout(Duration::from_millis(1));
    let (_, request) = tokio::join!(endpoint.call(""), peer.expect::<CallRequest>());
    assert_eq!(request.affinity, "");
    drop(registered);

    let place = RouterPlace::empty();
    let router = place.start().await;
    let classic = Bus::builder().framing(Framing::Classic).connect(&place.unix).await.unwrap();
    let error = named(&classic, "x").shared().await.unwrap_err();
    assert!(error.to_string().contains("classic framing"), "{error}");
    router.stop().await;
}

// A name that is kept waits for a router that knows its mode.
#[tokio::test]
async fn a_shared_name_waits_for_a_router_of_level_1() {
    let router = FakeRouter::start().await;
    let reconnect = Reconnect::default().first_delay(Duration::from_millis(1));
    let bus = Bus::builder().reconnect(reconnect).connect_lazy(&router.address).unwrap();
    let service = named(&bus, "x").shared().await.unwrap();
    let mut peer = router.accept().await;
    within("all names", bus.settled()).await.unwrap();
    assert!(matches!(service.announcement(), Announcement::Refused(Error::Unsupported { .. })));
    let retried = bus.watch();
    within("a retry", async {
        while bus.status().refused.iter().next().unwrap().refusals < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    peer.expect_nothing_behind().await;
    drop((retried, peer));
    let mut peer = router.accept_with(Hello { level: 1, ..Hello::default() }).await;
    expect_registration(&mut peer, RegisterMode::Shared, 0).await;
    within("all names", bus.settled()).await.unwrap();
    assert!(matches!(service.announcement(), Announcement::Confirmed));
}
