//! The cost of many names: work in proportion to their number, and few lines in the log.

#![allow(clippy::unwrap_used)]

use std::sync::Mutex;
use std::time::Duration;

use futures::future::join_all;
use gsb_client::{Bus, Call, Reconnect, Registration};
use gsb_proto::MessageKind;
use gsb_proto::messages::*;
use gsb_testkit::{FakeRouter, Peer, within};

/// A logger that keeps the warnings of the client.
struct Log(Mutex<Vec<String>>);

static LOG: Log = Log(Mutex::new(Vec::new()));

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        self.0.lock().unwrap().push(record.args().to_string());
    }

    fn flush(&self) {}
}

/// Bytes that are allocated for each of `count` names: a measure of the work that does not depend on the machine.
fn bytes_per_name(count: usize, work: impl Future<Output = ()>) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let allocated = allocation_counter::measure(|| runtime.block_on(work));
    allocated.bytes_total / count as u64
}

/// The work for a name must not depend on the number of names.
fn assert_proportional(what: &str, few: u64, many: u64) {
    println!("{what}: {few} bytes for each of a few names, {many} for each of many");
    assert!(many < few * 3 / 2, "{what}: {few} bytes a name become {many}");
}

const FEW: usize = 500;
const MANY: usize = 4000;

async fn register_all(bus: &Bus, count: usize) -> Vec<Registration> {
    let name = |number: usize| format!("/service/{number}");
    let handler = |call: Call| async { Ok(call.data) };
    let register = async |number| bus.register(&name(number), handler).await.unwrap();
    join_all((0..count).map(register)).await
}

/// A router that answers `count` registrations, each time with this code.
async fn answer(peer: &mut Peer, count: usize, code: i32) {
    for _ in 0..count {
        let RegisterRequest { service_id, .. } = peer.expect().await;
        peer.send(RegisterReply { code, message: format!("{service_id} is taken") }).await;
    }
}

/// A standby: another process holds all its names. Tasks watch the bus, and others wait for its end.
async fn refused(count: usize) {
    let router = FakeRouter::start().await;
    let builder =
        Bus::builder().reconnect(Reconnect::default().longest_delay(Duration::from_millis(50)));
    let bus = builder.connect_lazy(&router.address).unwrap();
    let names = register_all(&bus, count).await;
    let mut watch = bus.watch();
    let watching = tokio::spawn(async move {
        let mut listed = 0;
        while let Some(status) = watch.changed().await {
            listed += status.refused.iter().take(1).count();
        }
        listed
    });
    let closed = bus.clone();
    let closing = tokio::spawn(async move { closed.closed().await });
    let mut peer = router.accept().await;
    answer(&mut peer, 4 * count, 409).await;
    answer(&mut peer, count, 0).await;
    drop((names, peer));
    bus.close().await;
    closing.await.unwrap().unwrap();
    assert!(watching.await.unwrap() > 0);
}

#[test]
fn refused_names_cost_what_their_number_is() {
    log::set_logger(&LOG).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    let [few, many] = [FEW, MANY].map(|count| bytes_per_name(count, refused(count)));
    assert_proportional("refusals", few, many);
    // One bus has refused 500 names, the other 4,000, each of them several times.
    let log = LOG.0.lock().unwrap();
    assert_eq!(log.len(), 20, "{log:?}");
    let first =
        "the router refuses the service \"/service/0\" (/service/0 is taken); the bus keeps asking";
    assert_eq!(log[0], first);
}

/// A router that accepts all names of a client until the connection ends.
async fn agree(peer: &mut Peer) {
    while let Some(frame) = peer.next().await {
        match frame.kind {
            MessageKind::RegisterRequest => peer.send(RegisterReply::default()).await,
            MessageKind::UnregisterRequest => peer.send(UnregisterReply::default()).await,
            MessageKind::SubscribeRequest => peer.send(SubscribeReply::default()).await,
            MessageKind::UnsubscribeRequest => peer.send(UnsubscribeReply::default()).await,
            kind => unreachable!("a {}", kind.name()),
        }
    }
}

/// Registers names, announces them again on another connection, and unregisters them, one by one and all at once.
async fn come_and_go(count: usize) {
    let router = FakeRouter::start().await;
    let reconnect = Reconnect::default().longest_delay(Duration::from_millis(50));
    let (bus, mut peer) =
        tokio::join!(Bus::builder().reconnect(reconnect).connect(&router.address), router.accept());
    let bus = bus.unwrap();
    let mut watch = bus.watch();
    let watching = tokio::spawn(async move { while watch.changed().await.is_some() {} });
    let register = async {
        let services = register_all(&bus, count).await;
        let subscribe = async |number| bus.subscribe(&format!("topic/{number}")).await.unwrap();
        let subscriptions = join_all((0..count).map(subscribe)).await;
        (services, subscriptions)
    };
    let (mut services, subscriptions) = tokio::select! {
        names = register => names,
        () = agree(&mut peer) => unreachable!("the client has left"),
    };
    drop(peer);
    let mut peer = router.accept().await;
    let go = async {
        bus.settled().await.unwrap();
        for service in services.drain(..count / 2) {
            service.unregister().await.unwrap();
        }
        drop((services, subscriptions));
        within("the shutdown", bus.shutdown(Duration::from_secs(20))).await.unwrap();
    };
    let stay = async move {
        agree(&mut peer).await;
        drop(peer);
    };
    tokio::join!(go, stay);
    watching.await.unwrap();
}

#[test]
fn names_that_come_and_go_cost_what_their_number_is() {
    let [few, many] = [FEW, MANY].map(|count| bytes_per_name(count, come_and_go(count)));
    assert_proportional("names", few, many);
}
