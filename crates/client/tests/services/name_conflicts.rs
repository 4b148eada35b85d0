//! The bus keeps asking for a name that another program has registered, with growing pauses, and without disturbing its
//! other names.

use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use gsb_client::{
    Announcement, Bus, Call, Error, Failure, NameKind, Reconnect, Refused, Registration, Status,
};
use gsb_net::memory::{Conditions, Network};
use gsb_proto::messages::*;
use gsb_router::{Router, RouterConfig, RouterStatus};
use gsb_testkit::{FakeRouter, Peer, TestRouter, within};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// The first pause, which is long enough for a refusal to be seen, and the seed that makes it the same in each run.
const FIRST: Duration = Duration::from_secs(1);
const SEED: u64 = 4;

async fn echo(call: Call) -> Result<Bytes, Failure> {
    Ok(call.data)
}

/// A router on a network inside the process, so that each run is the same while the router is away.
fn start_router(network: &Network) -> (JoinHandle<()>, RouterStatus) {
    let listener = network.listen().unwrap();
    let router = Router::bind_memory(RouterConfig::default(), listener).unwrap();
    let status = router.status();
    (tokio::spawn(router.run()), status)
}

async fn connect(network: &Network, reconnect: Reconnect) -> Bus {
    let builder = Bus::builder().network(network.clone()).reconnect(reconnect);
    builder.connect("tcp://127.0.0.1:1").await.unwrap()
}

/// Runs under a paused clock.
fn simulate<T>(future: impl Future<Output = T>) -> T {
    fastrand::seed(SEED);
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap().block_on(future)
}

/// Two services that are restored, and one whose name another program has registered meanwhile.
async fn conflict(network: &Network) -> (Bus, Bus, [Registration; 3], Registration) {
    let (router, _) = start_router(network);
    // Slow enough for the rival to be there first.
    let slow = Reconnect::default().first_delay(Duration::from_secs(10));
    let bus = connect(network, slow).await;
    let registrations = [
        bus.register("/a", echo).await.unwrap(),
        bus.register("/b", echo).await.unwrap(),
        bus.register("/c", echo).await.unwrap(),
    ];
    router.abort();
    let _ = router.await;
    start_router(network);
    let rival = connect(network, Reconnect::default()).await;
    let taken = rival.register("/b", |_: Call| async { Ok("rival") }).await.unwrap();
    bus.settled().await.unwrap();
    (bus, rival, registrations, taken)
}

#[test]
fn one_name_of_three_is_taken() {
    simulate(async {
        let network = Network::new(1, Conditions::default());
        let (bus, rival, registrations, taken) = conflict(&network).await;
        let [a, b, c] = &registrations;
        let status = bus.status();
        let refused = only(&status);
        assert_eq!((refused.kind, refused.name.as_str()), (NameKind::Service, "/b"));
        assert!(matches!(&refused.error, Error::AlreadyRegistered { service_id, .. }
            if service_id == "/b"));
        assert_eq!(refused.refusals, 1);
        assert!(matches!(b.announcement(), Announcement::Refused(Error::AlreadyRegistered { .. })));
        for restored in [a, c] {
            assert!(matches!(restored.announcement(), Announcement::Confirmed));
            assert_eq!(rival.call(restored.service_id(), "hello").await.unwrap(), "hello");
        }
        // Each process calls its own service.
        assert_eq!(bus.call("/b", "hello").await.unwrap(), "hello");
        assert_eq!(rival.call("/b", "hello").await.unwrap(), "rival");

        assert!(status.is_settled && !status.is_serving());

        // Ten minutes of refusals: their number is limited, and none changes the status.
        let mut watch = bus.watch();
        let mut refusals = 1;
        for _ in 0..600 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let status = watch.current();
            let Refused { refusals: now, retry_in, .. } = only(&status);
            assert!(*now >= refusals, "{now} after {refusals}");
            assert!(*retry_in <= Duration::from_secs(30));
            refusals = *now;
        }
        assert!((20..150).contains(&refusals), "{refusals} refusals in ten minutes");
        println!("{refusals} refusals in ten minutes");
        assert!(watch.changed().now_or_never().is_none(), "it is refused as before");

        // When the name is free, it is registered.
        taken.unregister().await.unwrap();
        let taken_back = watch.wait_for(|status| status.is_settled && status.refused.is_empty());
        let taken_back = tokio::time::timeout(Duration::from_secs(31), taken_back).await;
        assert!(taken_back.unwrap().unwrap().is_serving());
        assert!(matches!(b.announcement(), Announcement::Confirmed));
        assert_eq!(rival.call("/b", "hello").await.unwrap(), "hello");
    });
}

#[test]
fn a_refused_name_can_be_given_up() {
    simulate(async {
        let network = Network::new(1, Conditions::default());
        let (bus, rival, [_a, b, _c], taken) = conflict(&network).await;
        b.unregister().await.unwrap();
        assert!(bus.status().refused.is_empty());
        // The name is not asked for again, and its holder keeps it.
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!(bus.call("/b", "").await.unwrap(), "rival");
        taken.unregister().await.unwrap();
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert!(matches!(rival.call("/b", "").await, Err(Error::NoSuchService { .. })));
        assert_eq!(rival.call("/a", "hello").await.unwrap(), "hello");
    });
}

#[tokio::test]
async fn a_fresh_name_that_is_taken_is_an_error_and_leaves_nothing() {
    let router = TestRouter::start().await;
    let rival = Bus::connect(&router.unix).await.unwrap();
    let taken = rival.register("/a", |_: Call| async { Ok("rival") }).await.unwrap();
    let bus = Bus::connect(&router.unix).await.unwrap();
    let error = bus.register("/a", echo).await.unwrap_err();
    assert!(matches!(&error, Error::AlreadyRegistered { service_id, .. } if service_id == "/a"));
    let status = bus.status();
    assert!(status.is_settled && status.refused.is_empty());
    assert_eq!(bus.call("/a", "").await.unwrap(), "rival", "this process does not serve it");
    taken.unregister().await.unwrap();
    assert!(matches!(bus.call("/a", "").await, Err(Error::NoSuchService { .. })));
    let registration = bus.register("/a", echo).await.unwrap();
    assert_eq!(rival.call("/a", "hello").await.unwrap(), "hello");
    drop(registration);
    // In this process as well.
    let inside = bus.in_process().register("/a", echo).await.unwrap();
    let error = bus.register("/a", echo).await.unwrap_err();
    assert!(matches!(error, Error::AlreadyRegistered { .. }));
    assert!(matches!(rival.call("/a", "").await, Err(Error::NoSuchService { .. })));
    drop(inside);
    router.stop().await;
}

/// The only name that is refused.
fn only(status: &Status) -> &Refused {
    assert_eq!(status.refused.len(), 1, "{:?}", status.refused);
    status.refused.iter().next().unwrap()
}

async fn refuse(peer: &mut Peer) {
    peer.send(RegisterReply { code: 409, message: "not now".into() }).await;
}

#[tokio::test]
async fn the_pauses_grow() {
    let router = FakeRouter::start().await;
    let first = Duration::from_millis(10);
    let longest = Duration::from_millis(200);
    let reconnect = Reconnect::default().first_delay(first).longest_delay(longest);
    let bus = Bus::builder().reconnect(reconnect).connect_lazy(&router.address).unwrap();
    let registration = bus.register("/s", echo).await.unwrap();
    let mut peer = router.accept().await;
    assert_eq!(peer.expect::<RegisterRequest>().await.service_id, "/s");
    let mut ceiling = first;
    for time in 1..=12 {
        let begun = Instant::now();
        refuse(&mut peer).await;
        let told = async {
            loop {
                let status = bus.status();
                if status.refused.iter().any(|refused| refused.refusals == time) {
                    break status;
                }
                tokio::task::yield_now().await;
            }
        };
        let status = within("the refusal", told).await;
        let Refused { error, retry_in, .. } = only(&status);
        assert!(*retry_in <= ceiling, "{retry_in:?} after {time} refusals");
        assert!(error.to_string().contains("not now"));
        // The next request comes, but not too early.
        let RegisterRequest { .. } = peer.expect().await;
        assert!(begun.elapsed() >= *retry_in, "{:?} for {retry_in:?}", begun.elapsed());
        ceiling = longest.min(2 * ceiling);
    }
    peer.send(RegisterReply::default()).await;
    let mut watch = bus.watch();
    let is_taken = watch.wait_for(|status| status.is_settled && status.refused.is_empty());
    within("the name", is_taken).await.unwrap();
    assert!(matches!(registration.announcement(), Announcement::Confirmed));
    peer.expect_nothing_behind().await;
}

// The same for a topic that a router refuses. Events of this process are delivered.
#[tokio::test]
async fn topics_are_asked_for_again_too() {
    let router = FakeRouter::start().await;
    fastrand::seed(SEED);
    let reconnect = Reconnect::default().first_delay(FIRST);
    let bus = Bus::builder().reconnect(reconnect).connect_lazy(&router.address).unwrap();
    let mut events = bus.subscribe("t").await.unwrap();
    let _other = bus.subscribe("other").await.unwrap();
    let mut peer = router.accept().await;
    for (topic, code) in [("other", 0), ("t", 400)] {
        assert_eq!(peer.expect::<SubscribeRequest>().await.topic, topic);
        peer.send(SubscribeReply { code, message: "no".into() }).await;
    }
    let mut watch = bus.watch();
    let refused = watch.wait_for(|status| !status.refused.is_empty());
    let status = within("the refusal", refused).await.unwrap();
    let refused = only(&status);
    assert_eq!((refused.kind, refused.name.as_str()), (NameKind::Topic, "t"));
    assert!(status.is_serving(), "it has no services");
    bus.in_process().broadcast("t", "event").await.unwrap();
    assert_eq!(within("the event", events.next()).await.unwrap().unwrap().data, "event");
    assert_eq!(peer.expect::<SubscribeRequest>().await.topic, "t");
    peer.send(SubscribeReply::default()).await;
    let mut watch = bus.watch();
    within("the topic", watch.wait_for(|status| status.refused.is_empty())).await.unwrap();
    assert!(matches!(events.announcement(), Announcement::Confirmed));
}

#[tokio::test]
async fn a_refused_name_stays_refused_while_it_is_asked_for_again() {
    let router = FakeRouter::start().await;
    fastrand::seed(SEED);
    let reconnect = Reconnect::default().first_delay(FIRST);
    let bus = Bus::builder().reconnect(reconnect).connect_lazy(&router.address).unwrap();
    let registration = bus.register("/s", echo).await.unwrap();
    let mut peer = router.accept().await;
    let RegisterRequest { .. } = peer.expect().await;
    refuse(&mut peer).await;
    let RegisterRequest { .. } = peer.expect().await;
    // The last known answer is reported.
    assert_eq!(bus.status().refused.len(), 1);
    assert!(matches!(registration.announcement(), Announcement::Refused(_)));
}

#[tokio::test]
async fn a_bus_serves_when_its_services_are_confirmed_whatever_becomes_of_its_topics() {
    let router = FakeRouter::start().await;
    let bus = Bus::builder().connect_lazy(&router.address).unwrap();
    let _service = bus.register("/s", echo).await.unwrap();
    let _events = bus.subscribe("t").await.unwrap();
    let mut peer = router.accept().await;
    let RegisterRequest { .. } = peer.expect().await;
    let SubscribeRequest { .. } = peer.expect().await;
    let mut watch = bus.watch();
    assert!(!watch.current().is_serving());
    // The answer comes while the watcher waits.
    let serving = within("the service", watch.wait_for(Status::is_serving));
    let (status, ()) = tokio::join!(serving, peer.send(RegisterReply::default()));
    assert!(!status.unwrap().is_settled, "there is no answer for the topic");
}
