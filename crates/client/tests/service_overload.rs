//! A service with more calls than it can handle keeps its connection, its memory and its own calls.

#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use gsb_client::{Bus, Call, Connection, Error, Failure};
use gsb_net::memory::{Conditions, Network};
use gsb_net::{Inbox, Link, Stream};
use gsb_proto::framing::LARGEST_FRAME;
use gsb_proto::messages::{CallReply, CallRequest, Hello, Message, RegisterReply};
use gsb_proto::{FrameDecoder, Framing, MessageKind};
use gsb_testkit::{Spawned, TIMEOUT, TestRouter, Usage, mebibytes, within};
use tokio::process::Command;
use tokio::sync::{Notify, mpsc};

const MIB: usize = 1 << 20;

/// A handler that reports its begin, and ends on request.
fn gated(
    entered: mpsc::UnboundedSender<()>,
    gate: Arc<Notify>,
) -> impl Fn(Call) -> futures::future::BoxFuture<'static, Result<Bytes, Failure>> {
    move |call: Call| {
        let (gate, entered) = (gate.clone(), entered.clone());
        Box::pin(async move {
            entered.send(()).unwrap();
            gate.notified().await;
            Ok(call.data)
        })
    }
}

#[tokio::test]
async fn calls_and_pushes_beyond_the_bytes_are_refused() {
    let router = TestRouter::start().await;
    let service = Bus::builder().max_running_bytes(4 * MIB).connect(&router.unix).await.unwrap();
    let caller = Bus::connect(&router.unix).await.unwrap();
    let (entered, mut begins) = mpsc::unbounded_channel();
    let gate = Arc::new(Notify::new());
    let held = service.register("/held", gated(entered, gate.clone())).await.unwrap();
    let _echo = service.register("/echo", |call: Call| async { Ok(call.data) }).await.unwrap();

    // One call is handled whatever its size.
    let large = Bytes::from(vec![1; 5 * MIB]);
    let call = |data: &Bytes| {
        let (caller, data) = (caller.clone(), data.clone());
        tokio::spawn(async move { caller.call("/held", data).await })
    };
    let first = call(&large);
    within("the call", begins.recv()).await.unwrap();
    let Err(Error::Busy { message, .. }) = caller.call("/echo", "").await else {
        unreachable!("not busy");
    };
    assert_eq!(
        message,
        "the calls that its process is handling hold 4194304 bytes, the limit (max_running_bytes); try again later"
    );
    gate.notify_one();
    assert_eq!(within("the reply", first).await.unwrap().unwrap(), large);

    // The memory of a call is released when its reply is queued.
    let small = Bytes::from(vec![2; MIB]);
    for _ in 0..3 {
        let calls: Vec<_> = (0..3).map(|_| call(&small)).collect();
        for _ in 0..3 {
            within("the call", begins.recv()).await.unwrap();
        }
        caller.push("/held", small.clone()).await.unwrap();
        // This call comes after the push, and is small enough.
        assert_eq!(caller.call("/echo", "small").await.unwrap(), "small");
        assert!(matches!(caller.call("/echo", small.clone()).await, Err(Error::Busy { .. })));
        for _ in 0..3 {
            gate.notify_one();
        }
        for call in calls {
            assert_eq!(within("the reply", call).await.unwrap().unwrap(), small);
        }
    }
    assert_eq!(held.dropped_pushes(), 3);
    router.stop().await;
}

// Callers choose their names, and the part of an address below the name of a service.
#[tokio::test]
async fn texts_count_as_data_does() {
    let router = TestRouter::start().await;
    let service = Bus::builder().max_running_bytes(MIB).connect(&router.unix).await.unwrap();
    let caller = Bus::connect(&router.unix).await.unwrap();
    let (entered, _begins) = mpsc::unbounded_channel();
    let held = service.register("/held", gated(entered, Arc::new(Notify::new()))).await.unwrap();
    let _probe = service.register_push("/probe", |_: Call| async {}).await.unwrap();
    let named = caller.endpoint("/held").caller("c".repeat(50_000));
    let below = caller.endpoint(format!("/held/{}", "a".repeat(50_000)));
    for _ in 0..20 {
        named.push("").await.unwrap();
        below.push("").await.unwrap();
    }
    // This call is refused after the pushes.
    assert!(matches!(caller.call("/probe", "").await, Err(Error::BadRequest { .. })));
    assert_eq!(held.dropped_pushes(), 40 - 20);
    router.stop().await;
}

// A payload that is kept must not keep alive the shared buffer that it was read into.
#[tokio::test]
async fn a_payload_that_is_kept_keeps_nothing_else() {
    let router = TestRouter::start().await;
    let service = Bus::connect(&router.unix).await.unwrap();
    let caller = Bus::connect(&router.unix).await.unwrap();
    let (kept, mut payloads) = mpsc::unbounded_channel();
    let keep = move |call: Call| {
        kept.send(call.data).unwrap();
        async {}
    };
    let _keep = service.register_push("/keep", keep).await.unwrap();
    for length in [10, 1000, 50_000] {
        for _ in 0..20 {
            caller.push("/keep", vec![7; length]).await.unwrap();
        }
        for _ in 0..20 {
            let payload = within("a payload", payloads.recv()).await.unwrap();
            assert_eq!(payload.len(), length);
            let memory = payload.try_into_mut().unwrap().capacity();
            assert!(memory <= length + 64, "{length} bytes keep {memory}");
        }
    }
    router.stop().await;
}

// If overloaded services did not read, none of the two would get the replies to its own calls.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_overloaded_services_that_call_each_other_make_progress() {
    let router = TestRouter::start().await;
    let data = Bytes::from(vec![1; 64 << 10]);
    let mut services = Vec::new();
    for (name, other) in [("/a", "/b"), ("/b", "/a")] {
        let bus = Bus::builder().max_running_bytes(MIB).outbox_limit(MIB);
        let bus = bus.connect(&router.unix).await.unwrap();
        let weak = bus.downgrade();
        let relay = move |call: Call| {
            let bus = weak.upgrade();
            async move {
                let bus = bus.ok_or_else(|| Failure::new("the bus has ended"))?;
                Ok(bus.call(&format!("{other}/leaf"), call.data).await?)
            }
        };
        let relay = bus.register(&format!("{name}/relay"), relay).await.unwrap();
        let leaf = |call: Call| async {
            tokio::task::yield_now().await;
            Ok(call.data)
        };
        let leaf = bus.register(&format!("{name}/leaf"), leaf).await.unwrap();
        services.push((bus, other, [relay, leaf]));
    }
    let calls = services.iter().flat_map(|(bus, other, _)| {
        let relay = bus.endpoint(format!("{other}/relay"));
        let data = data.clone();
        (0..40).map(move |_| {
            let (relay, data) = (relay.clone(), data.clone());
            tokio::spawn(async move {
                let mut refused = 0;
                loop {
                    match relay.call(data.clone()).await {
                        Ok(reply) => return (reply, refused),
                        // The leaf may be busy as well, which fails the relay.
                        Err(Error::Busy { .. } | Error::ServiceFailure { .. }) => refused += 1,
                        Err(error) => unreachable!("{error}"),
                    }
                    tokio::time::sleep(Duration::from_millis(refused.min(50))).await;
                }
            })
        })
    });
    let calls: Vec<_> = calls.collect();
    let mut refusals = 0;
    for outcome in within("the end of all calls", join_all(calls)).await {
        let (reply, refused) = outcome.unwrap();
        assert_eq!(reply, data);
        refusals += refused;
    }
    assert!(refusals > 0, "no overload");
    for (bus, _, _) in &services {
        assert!(matches!(bus.status().connection, Connection::Connected(_)));
    }
    router.stop().await;
}

/// The router's end of a connection.
struct RouterEnd {
    link: Link,
    inbox: Inbox,
}

impl RouterEnd {
    fn send(&self, message: impl Message) {
        if self.link.push_urgent(Framing::Packet, &message.to_frame()) {
            self.link.flush();
        }
    }

    /// The next message, which must be an `M`.
    async fn expect<M: Message>(&mut self) -> M {
        loop {
            if let Some(frame) = self.inbox.next_frame().unwrap() {
                assert_eq!(frame.kind, M::KIND);
                return frame.decode().unwrap();
            }
            let received = self.link.receive(&mut self.inbox).await.unwrap();
            assert_eq!(received, gsb_net::Received::Bytes);
        }
    }

    /// Writes for as long as the client reads. Time passes only when nothing else happens.
    async fn write_until_stuck(&self) -> usize {
        loop {
            let queued = self.link.queued();
            let writing = async {
                // Ends whenever the socket becomes full.
                while self.link.write_only().await.unwrap().is_none() {}
            };
            let _ = tokio::time::timeout(Duration::from_millis(100), writing).await;
            if self.link.queued() == queued {
                return queued;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_router_that_takes_no_refusals_is_not_read_and_not_left() {
    takes_no_refusals(120_000, 1).await;
}

// The ids are kept, and a router may choose long ones.
#[tokio::test(start_paused = true)]
async fn refusals_with_long_ids_count_as_several() {
    takes_no_refusals(2000, 8000).await;
}

/// A router sends `calls` calls with ids of at least `id_length` bytes, and reads no refusals.
async fn takes_no_refusals(calls: usize, id_length: usize) {
    let network = Network::new(1, Conditions::default());
    let listener = network.listen().unwrap();
    let options = Bus::builder().ping_timeout(None).max_running(1).outbox_limit(64 << 10);
    let connecting = tokio::spawn({
        let options = options.network(network.clone());
        async move { options.connect("tcp://127.0.0.1:1").await.unwrap() }
    });
    let link = Link::new(Stream::Memory(listener.accept().await), usize::MAX);
    let inbox = Inbox::new(FrameDecoder::new(Framing::Packet, LARGEST_FRAME));
    let mut router = RouterEnd { link, inbox };
    let Hello { .. } = router.expect().await;
    router.send(Hello::default());
    let bus = connecting.await.unwrap();

    let (entered, _begins) = mpsc::unbounded_channel();
    let gate = Arc::new(Notify::new());
    let registering = tokio::spawn({
        let (bus, gate) = (bus.clone(), gate.clone());
        async move { bus.register("/s", gated(entered, gate)).await }
    });
    while router.inbox.next_frame().unwrap().is_none_or(|frame| {
        assert_eq!(frame.kind, MessageKind::RegisterRequest);
        false
    }) {
        router.link.receive(&mut router.inbox).await.unwrap();
    }
    router.send(RegisterReply::default());
    // The registration is read by the driver of the link.
    let registration = registering.await.unwrap().unwrap();

    for number in 0..calls {
        let (address, request_id) = ("/s".to_owned(), format!("{number:0>id_length$}"));
        router.send(CallRequest { address, request_id, ..CallRequest::default() });
    }
    let left = router.write_until_stuck().await;
    println!("{left} bytes of calls were not read");
    assert!(left > 0, "all was read, and had to be kept");
    assert!(matches!(bus.status().connection, Connection::Connected(_)));

    // All refusals, and the reply, arrive when the router reads.
    gate.notify_one();
    let mut ids: HashSet<String> = HashSet::new();
    for _ in 0..calls {
        // The first call that was read after the first one was answered is handled, too.
        if ids.len() == calls - 1 {
            gate.notify_one();
        }
        let reply: CallReply = router.expect().await;
        assert!(ids.insert(reply.request_id), "answered twice");
    }
    assert_eq!(ids.len(), calls);
    drop((registration, bus));
}

/// The limit of the service, and the memory that it may use in addition.
const LIMIT: u64 = 64 << 20;
const MARGIN: u64 = 16 << 20;

/// The service of [`memory_stays_within_the_limit`], in a process of its own.
#[tokio::test]
#[ignore = "a part of another test, which runs it"]
async fn slow_service() {
    let Ok(address) = std::env::var("GSB_TEST_ADDRESS") else {
        return;
    };
    let service = Bus::connect(address.as_str()).await.unwrap();
    let slow = |call: Call| async move {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        Ok(call.data)
    };
    let _slow = service.register("/slow", slow).await.unwrap();
    let _pid = service
        .register("/pid", |_: Call| async { Ok(std::process::id().to_string()) })
        .await
        .unwrap();
    println!("serving");
    service.closed().await.unwrap();
}

#[tokio::test]
async fn memory_stays_within_the_limit() {
    let router = TestRouter::start().await;
    for length in [MIB, 100_000, 50_000, 10_000] {
        let mut program = Command::new(std::env::current_exe().unwrap());
        program.args(["--exact", "slow_service", "--ignored", "--nocapture"]);
        program.env("GSB_TEST_ADDRESS", router.unix.to_string());
        let mut service = Spawned::start(&mut program);
        service.line_with("serving").await;
        let start = Usage::of(service.id());
        let caller = Bus::builder().call_timeout(TIMEOUT).connect(&router.unix).await.unwrap();
        let data = Bytes::from(vec![7; length]);
        let admitted = usize::try_from(LIMIT).unwrap() / (length + 512);
        // Pushes and calls in groups, up to twice the limit.
        let mut calls = Vec::new();
        for number in 0..2 * admitted {
            if number % 2 == 0 {
                caller.push("/slow", data.clone()).await.unwrap();
            } else {
                let (caller, data) = (caller.clone(), data.clone());
                calls.push(tokio::spawn(async move { caller.call("/slow", data).await }));
            }
            if number % 16 == 0 {
                // Wait until all earlier messages have arrived.
                let _ = caller.call("/pid", "").await;
            }
        }
        // Only refused calls are answered.
        let _ = caller.call("/pid", "").await;
        let refused = calls.iter().filter(|call| call.is_finished()).count();
        let usage = Usage::of(service.id());
        let (length, most) = (length as u64, start.resident + LIMIT + MARGIN);
        println!("{} a call: {start}; then {usage}, {refused} refused", mebibytes(length));
        assert!(usage.peak <= most, "{usage}, started with {start}");
        assert!(refused > 0);
        for call in calls {
            call.abort();
        }
        service.kill().await;
        within("the end of the service", async { while caller.call("/pid", "").await.is_ok() {} })
            .await;
    }
    router.stop().await;
}
