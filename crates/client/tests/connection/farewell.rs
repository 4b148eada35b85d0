//! The farewell of a router. Rule CO-20.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gsb_client::{
    Bus, BusBuilder, Call, Connection, Endpoint, Error, Failure, LostReason, Reconnect, WeakBus,
};
use gsb_net::memory::{Conditions, Network};
use gsb_proto::messages::*;
use gsb_router::{Router, RouterConfig};
use gsb_testkit::{FakeRouter, Peer, within};
use tokio::sync::Semaphore;

const TIMEOUT: Duration = Duration::from_secs(20);

async fn accept(router: &FakeRouter) -> Peer {
    router.accept_with(Hello { level: 1, no_echo: true, ..Hello::default() }).await
}

async fn connect(router: &FakeRouter, builder: BusBuilder) -> (Bus, Peer) {
    let quick = Reconnect::default().first_delay(Duration::from_millis(1));
    let builder = builder.reconnect(quick);
    let (bus, peer) = tokio::join!(builder.connect(&router.address), accept(router));
    (bus.unwrap(), peer)
}

fn waiting() -> BusBuilder {
    Bus::builder().wait_for_router(TIMEOUT)
}

async fn say_farewell(peer: &mut Peer, last: bool) {
    peer.send(GoAway { reason: "for a test".into(), retry_after_ms: 1, last }).await;
    if !last {
        peer.expect_nothing().await;
    }
}

async fn answer(peer: &mut Peer, data: &'static str) -> CallRequest {
    let call: CallRequest = peer.expect().await;
    let request_id = call.request_id.clone();
    peer.send(CallReply { request_id, data: data.into(), ..CallReply::default() }).await;
    call
}

async fn confirm(peer: &mut Peer) {
    let RegisterRequest { .. } = peer.expect().await;
    peer.send(RegisterReply::default()).await;
}

async fn call_here(peer: &mut Peer, id: &str) {
    let (request_id, address) = (id.into(), "/s".into());
    peer.send(CallRequest { request_id, address, ..CallRequest::default() }).await;
}

#[tokio::test]
async fn open_calls_end_and_new_ones_go_to_the_next_connection() {
    let router = FakeRouter::start().await;
    let (bus, mut peer) = connect(&router, waiting()).await;
    let open = bus.call("/far", "open");
    let next = async {
        let open: CallRequest = peer.expect().await;
        say_farewell(&mut peer, false).await;
        let refused = bus.endpoint("/far").wait_for_router(Duration::ZERO).call("").await;
        assert_eq!(refused.unwrap_err(), Error::NotSent(LostReason::Stopping));
        let new = async {
            let pushed = bus.push("/far", "push");
            let (called, pushed) = tokio::join!(bus.call("/far", "new"), pushed);
            pushed.unwrap();
            called
        };
        let router = async {
            peer.expect_nothing_behind().await;
            // All but calls goes on: events, and calls of the router itself.
            let own = bus.call("/gsb/x", "");
            let (own, _) = tokio::join!(own, answer(&mut peer, "own"));
            assert_eq!(own.unwrap(), "own");
            let (told, ()) = tokio::join!(bus.broadcast("t", ""), async {
                let BroadcastRequest { .. } = peer.expect().await;
                peer.send(BroadcastReply::default()).await;
            });
            told.unwrap();
            let request_id = open.request_id;
            peer.send(CallReply { request_id, ..CallReply::default() }).await;
            // Nothing is open any more.
            peer.expect_close().await;
            drop(peer);
            let mut peer = accept(&router).await;
            let mut data = Vec::new();
            for _ in 0..2 {
                data.push(answer_call_or_push(&mut peer).await);
            }
            data.sort();
            assert_eq!(data, ["new", "push"]);
        };
        tokio::join!(new, router).0.unwrap()
    };
    let (open, new) = within("all calls", async { tokio::join!(open, next) }).await;
    assert_eq!((open.unwrap(), new), (Bytes::new(), Bytes::from("answer")));
}

async fn answer_call_or_push(peer: &mut Peer) -> Bytes {
    let call: CallRequest = peer.expect().await;
    if !call.no_reply {
        peer.reply(&call.request_id, "answer").await;
    }
    call.data
}

// A process without anything open leaves at once, one with services stays.
#[tokio::test]
async fn services_go_on_until_the_router_ends_the_connection() {
    let router = FakeRouter::start().await;
    let (bus, mut peer) = connect(&router, waiting()).await;
    let echo = |call: Call| async move { Ok(call.data) };
    let (service, ()) = tokio::join!(bus.register("/s", echo), confirm(&mut peer));
    let service = service.unwrap();
    say_farewell(&mut peer, false).await;
    for id in ["1", "2"] {
        peer.expect_nothing_behind().await;
        call_here(&mut peer, id).await;
        assert_eq!(peer.expect::<CallReply>().await.request_id, id);
    }
    assert!(bus.status().is_serving());
    // Names come and go as before.
    let (other, ()) = tokio::join!(bus.register("/t", echo), confirm(&mut peer));
    let (_, ()) = tokio::join!(other.unwrap().unregister(), async {
        let UnregisterRequest { .. } = peer.expect().await;
        peer.send(UnregisterReply::default()).await;
    });
    drop(peer);
    let mut peer = within("a new connection", accept(&router)).await;
    confirm(&mut peer).await;
    say_farewell(&mut peer, false).await;
    let (unregistered, ()) = tokio::join!(service.unregister(), async {
        let UnregisterRequest { .. } = peer.expect().await;
        peer.send(UnregisterReply::default()).await;
        peer.expect_close().await;
    });
    unregistered.unwrap();
}

/// Calls `/far` from its own task, and from another one.
async fn nested(bus: WeakBus, is_spawned: bool) -> Result<Bytes, Failure> {
    let far = bus.upgrade().ok_or("the bus has ended")?.endpoint("/far");
    match is_spawned {
        false => Ok(far.call("").await?),
        true => Ok(tokio::spawn(async move { far.call("").await }).await??),
    }
}

// A handler may need calls of its own, which the router accepts.
#[tokio::test]
async fn handlers_may_still_call() {
    for wait in [TIMEOUT, Duration::ZERO] {
        for is_spawned in [false, true] {
            let router = FakeRouter::start().await;
            let builder = Bus::builder().wait_for_router(wait);
            let (bus, mut peer) = connect(&router, builder).await;
            let weak = bus.downgrade();
            let handler = move |_: Call| nested(weak.clone(), is_spawned);
            let (service, ()) = tokio::join!(bus.register("/s", handler), confirm(&mut peer));
            say_farewell(&mut peer, false).await;
            // Calls that came before and after the farewell are the same.
            call_here(&mut peer, "1").await;
            answer(&mut peer, "far").await;
            let reply: CallReply = peer.expect().await;
            assert_eq!((reply.code, &reply.data[..]), (0, &b"far"[..]));
            drop(service);
        }
    }
}

// A process that serves does not go on calling for its own sake, or a router under load would never come to an end.
#[tokio::test(start_paused = true)]
async fn other_tasks_of_a_service_wait() {
    fastrand::seed(4);
    let network = Network::new(1, Conditions::default());
    let start = || Router::bind_memory(RouterConfig::default(), network.listen().unwrap()).unwrap();
    let connect =
        async || waiting().network(network.clone()).connect("tcp://127.0.0.1:1").await.unwrap();
    let moment = || tokio::time::sleep(Duration::from_millis(10));
    let router = start();
    let (stop, status) = (router.shutdown_handle(), router.status());
    let running = tokio::spawn(router.run());
    let (service, far, caller) = (connect().await, connect().await, connect().await);
    let gate = Arc::new(Semaphore::new(0));
    let wait = gate.clone();
    let handler = move |_: Call| {
        let gate = wait.clone();
        async move {
            gate.acquire().await?.forget();
            Ok::<_, Failure>("")
        }
    };
    let _services = [
        service.register("/s", handler).await.unwrap(),
        far.register("/far", |_: Call| async { Ok("far") }).await.unwrap(),
    ];
    let open = tokio::spawn(async move { caller.call("/s", "").await });
    moment().await;
    stop.shutdown();
    moment().await;
    let endpoint = service.endpoint("/far").wait_for_service(TIMEOUT);
    let waiting = tokio::spawn(async move { endpoint.call("").await });
    for _ in 0..9 {
        moment().await;
        assert_eq!(status.usage().open_calls, 1);
    }
    gate.add_permits(1);
    open.await.unwrap().unwrap();
    running.await.unwrap();
    let next = tokio::spawn(start().run());
    assert_eq!(waiting.await.unwrap().unwrap(), "far");
    next.abort();
}

// With the last message, the router has answered all calls that a service has seen. Without it, nothing is known.
#[tokio::test]
async fn calls_that_no_service_has_seen_are_made_again() {
    let router = FakeRouter::start().await;
    let (bus, mut peer) = connect(&router, Bus::builder()).await;
    let endpoint = bus.endpoint("/far");
    let once = |endpoint: Endpoint| async move { endpoint.call("").await };
    let (called, ()) = tokio::join!(once(endpoint.clone()), async {
        let CallRequest { .. } = peer.expect().await;
        say_farewell(&mut peer, true).await;
        drop(peer);
    });
    assert_eq!(called, Err(Error::NotSent(LostReason::Stopping)));
    let mut peer = accept(&router).await;
    let (called, mut peer) = tokio::join!(once(endpoint.wait_for_router(TIMEOUT)), async {
        let first: CallRequest = peer.expect().await;
        say_farewell(&mut peer, false).await;
        say_farewell(&mut peer, true).await;
        drop(peer);
        let mut peer = accept(&router).await;
        let again = answer(&mut peer, "far").await;
        assert_ne!(again.request_id, first.request_id);
        peer
    });
    assert_eq!(called.unwrap(), "far");
    let (called, ()) = tokio::join!(once(bus.endpoint("/far").wait_for_router(TIMEOUT)), async {
        let CallRequest { .. } = peer.expect().await;
        say_farewell(&mut peer, false).await;
        drop(peer);
    });
    assert_eq!(called, Err(Error::ConnectionLost(LostReason::HungUp)));
}

// The router may drop pushes that it gets when it stops.
#[tokio::test]
async fn a_flush_reports_pushes_that_may_be_dropped() {
    let router = FakeRouter::start().await;
    let (bus, mut peer) = connect(&router, Bus::builder()).await;
    let _keeps_it =
        tokio::join!(bus.register("/s", |_: Call| async { Ok("") }), confirm(&mut peer));
    bus.push("/far", "").await.unwrap();
    let CallRequest { .. } = peer.expect().await;
    say_farewell(&mut peer, false).await;
    assert_eq!(bus.flush().await, Err(Error::ConnectionLost(LostReason::Stopping)));
    let (flushed, ()) = tokio::join!(bus.flush(), async {
        let Ping {} = peer.expect().await;
        peer.send(Pong {}).await;
    });
    flushed.unwrap();
}

#[tokio::test]
async fn the_pause_is_random() {
    let router = FakeRouter::start().await;
    let mut pauses = Vec::new();
    for longest in [30, 30, 30, 30, 5] {
        let reconnect = Reconnect::default().longest_delay(Duration::from_secs(longest));
        let builder = Bus::builder().reconnect(reconnect);
        let (bus, mut peer) = tokio::join!(builder.connect(&router.address), accept(&router));
        let bus = bus.unwrap();
        peer.send(GoAway { retry_after_ms: u32::MAX, ..GoAway::default() }).await;
        let is_lost =
            |status: &gsb_client::Status| matches!(status.connection, Connection::Lost { .. });
        let status = within("the loss", bus.watch().wait_for(is_lost)).await.unwrap();
        let Connection::Lost { reason, retry_in } = status.connection else { unreachable!() };
        assert_eq!(reason, LostReason::Stopping);
        assert!(retry_in <= Duration::from_secs(longest), "{retry_in:?}");
        pauses.push(retry_in);
    }
    // Pauses without a farewell are up to 100 ms.
    assert!(pauses.iter().filter(|pause| pause.as_millis() > 100).count() >= 3, "{pauses:?}");
    pauses.dedup();
    assert_eq!(pauses.len(), 5);
}

// Without another connection the bus would end.
#[tokio::test]
async fn a_bus_that_does_not_reconnect_stays() {
    let router = FakeRouter::start().await;
    let builder = Bus::builder().reconnect(None);
    let (bus, mut peer) = tokio::join!(builder.connect(&router.address), accept(&router));
    let bus = bus.unwrap();
    say_farewell(&mut peer, false).await;
    peer.expect_nothing_behind().await;
    assert!(bus.status().is_serving());
    let endpoint = bus.endpoint("/far").wait_for_router(TIMEOUT).wait_for_service(TIMEOUT);
    let (called, ()) = tokio::join!(endpoint.call(""), async {
        say_farewell(&mut peer, true).await;
        drop(peer);
    });
    assert_eq!(called, Err(Error::NotSent(LostReason::Stopping)));
    assert_eq!(bus.closed().await, Err(Error::ConnectionLost(LostReason::Stopping)));
}
