//! The cost of routing without sockets, in time and allocations: `cargo bench --bench routing`.

#![allow(clippy::unwrap_used)]

use std::hint::black_box;
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use divan::{AllocProfiler, Bencher};
use gsb_core::{Broker, BrokerConfig, CloseReason, ConnId, Cost, Effects, Identity, Report};
use gsb_net::Batch;
use gsb_proto::messages::{CallReply, CallRequest, Message, RegisterRequest, SubscribeRequest};
use gsb_proto::{Frame, FrameDecoder, Framing, Outgoing, PrefixMap, ServiceId, Topic, TopicMap};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

fn call() -> CallRequest {
    CallRequest {
        caller: "/caller".into(),
        address: "/service/17/method".into(),
        request_id: "5f3a9c01-1".into(),
        data: vec![7; 64].into(),
        no_reply: false,
        ..Default::default()
    }
}

#[divan::bench(args = [Framing::Classic, Framing::Packet])]
fn decode_a_call(bencher: Bencher<'_, '_>, framing: Framing) {
    let mut wire = BytesMut::new();
    assert!(call().to_frame().encode(framing, &mut wire));
    let mut decoder = FrameDecoder::new(framing, 1 << 20);
    bencher
        .with_inputs(|| wire.clone())
        .bench_local_values(|mut wire| decoder.decode(&mut wire).unwrap());
}

/// Reads frames in the buffer, as the router does.
#[divan::bench(args = [Framing::Classic, Framing::Packet])]
fn find_a_call(bencher: Bencher<'_, '_>, framing: Framing) {
    let mut wire = BytesMut::new();
    assert!(call().to_frame().encode(framing, &mut wire));
    let mut decoder = FrameDecoder::new(framing, 1 << 20);
    bencher.bench_local(|| decoder.find(black_box(&wire)).unwrap());
}

#[divan::bench(args = [10, 1_000, 1_000_000])]
fn find_a_service(bencher: Bencher<'_, '_>, names: u32) {
    let mut map = PrefixMap::new();
    for number in 0..names {
        let name = format!("/golem/net/node-{number}/service");
        map.insert(ServiceId::new(&name).unwrap(), number).unwrap();
    }
    let address = format!("/golem/net/node-{}/service/method", names / 2);
    bencher.bench(|| map.lookup(black_box(&address)).copied());
}

#[divan::bench(args = [10, 1_000, 100_000])]
fn find_subscribers(bencher: Bencher<'_, '_>, topics: u32) {
    let mut map = TopicMap::new();
    for number in 0..topics {
        let name = match number % 10 {
            0 => format!("node/{number}/**"),
            _ => format!("node/{number}/status"),
        };
        map.subscribe(&Topic::new(&name).unwrap(), number);
    }
    let topic = Topic::new("node/1/status").unwrap();
    let mut found = Vec::new();
    bencher.bench_local(|| map.find(black_box(&topic), &mut found));
}

/// Drops all effects.
struct Done;

impl Effects for Done {
    fn send(&mut self, _to: ConnId, frame: Outgoing<'_>, cost: Cost<'_>) {
        black_box(frame.body_len());
        drop(cost.charge(None));
    }

    fn close(&mut self, _connection: ConnId, _reason: CloseReason) {}

    fn report(&mut self, _connection: ConnId, _report: Report) {}
}

/// Small frames for one peer, as many as a typical write contains.
#[divan::bench]
fn append_64_calls(bencher: Bencher<'_, '_>) {
    let frame = call().to_frame();
    let pieces = frame.body.slices();
    bencher.bench_local(|| {
        let mut batch = Batch::<()>::default();
        for _ in 0..64 {
            let outgoing = Outgoing { kind: frame.kind, slices: &pieces };
            batch.push(Framing::Packet, outgoing, |_| Some(()));
        }
        batch
    });
}

/// A service and a caller.
struct Pair {
    broker: Broker,
    service: ConnId,
    caller: ConnId,
    now: Instant,
}

fn pair() -> Pair {
    let mut config = BrokerConfig::default();
    config.limits.open_calls = 1 << 20;
    let mut broker = Broker::new(config);
    let now = Instant::now();
    let [service, caller] =
        [0; 2].map(|_| broker.connect(Identity::Unknown, Waker::noop().clone(), now));
    for connection in [service, caller] {
        broker.framing_known(connection, Framing::Packet, &mut Done);
    }
    let register = RegisterRequest { service_id: "/service".into(), ..Default::default() };
    broker.receive(service, register.to_frame().whole(), now, &mut Done).unwrap();
    Pair { broker, service, caller, now }
}

#[divan::bench]
fn route_a_call_and_its_reply(bencher: Bencher<'_, '_>) {
    let mut pair = pair();
    let mut request: Frame = call().to_frame();
    let mut reply = CallReply { request_id: "5f3a9c01-1".into(), ..Default::default() }.to_frame();
    bencher.bench_local(|| {
        pair.broker.receive(pair.caller, request.whole(), pair.now, &mut Done).unwrap();
        pair.broker.receive(pair.service, reply.whole(), pair.now, &mut Done).unwrap();
    });
}

/// [`pair`] with a number of open calls whose deadlines are 10 seconds away.
fn pair_with_deadlines(count: u32) -> Pair {
    let mut pair = pair();
    for number in 0..count {
        let request_id = number.to_string();
        let mut request = CallRequest { request_id, timeout_ms: 10_000, ..call() }.to_frame();
        pair.broker.receive(pair.caller, request.whole(), pair.now, &mut Done).unwrap();
    }
    pair
}

/// [`route_a_call_and_its_reply`] for a call with a deadline, beside a number of open calls with deadlines.
#[divan::bench(args = [0, 1_000, 1_000_000])]
fn route_a_call_with_a_deadline(bencher: Bencher<'_, '_>, open: u32) {
    let mut pair = pair_with_deadlines(open);
    let mut request = CallRequest { timeout_ms: 10_000, ..call() }.to_frame();
    let mut reply = CallReply { request_id: "5f3a9c01-1".into(), ..Default::default() }.to_frame();
    bencher.bench_local(|| {
        pair.broker.receive(pair.caller, request.whole(), pair.now, &mut Done).unwrap();
        pair.broker.receive(pair.service, reply.whole(), pair.now, &mut Done).unwrap();
    });
}

/// One turn of the router when a million deadlines pass at once: 64 calls end.
#[divan::bench(sample_count = 100, sample_size = 100)]
fn end_64_calls_at_their_deadlines(bencher: Bencher<'_, '_>) {
    let mut pair = pair_with_deadlines(1_000_000);
    let late = pair.now + Duration::from_secs(10);
    bencher.bench_local(|| pair.broker.tick(late, &mut Done));
    assert!(pair.broker.usage().open_calls > 0, "there were not enough");
}

#[divan::bench(args = [1, 16, 256])]
fn route_a_broadcast(bencher: Bencher<'_, '_>, subscribers: usize) {
    let mut pair = pair();
    for _ in 0..subscribers {
        let subscriber =
            pair.broker.connect(Identity::Unknown, Waker::noop().clone(), Instant::now());
        let subscribe = SubscribeRequest { topic: "node/*/status".into() };
        pair.broker.receive(subscriber, subscribe.to_frame().whole(), pair.now, &mut Done).unwrap();
    }
    let mut event = gsb_proto::messages::BroadcastRequest {
        topic: "node/7/status".into(),
        data: vec![7; 64].into(),
        ..Default::default()
    }
    .to_frame();
    bencher.bench_local(|| {
        pair.broker.receive(pair.caller, event.whole(), pair.now, &mut Done).unwrap();
    });
}
