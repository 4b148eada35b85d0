//! A client whose router sends anything: bytes, frames with any content, answers that fit and others, or
//! nothing; that hangs up, or goes away.
//!
//! Nothing panics, whatever is logged or shown of it. Every call, stream and request ends by itself, and
//! the bus when it is told to. Memory follows what was received, and all of it is given back.

#![no_main]

use std::fmt::Write as _;
use std::io::{ErrorKind, IoSlice};
use std::time::Duration;

use arbitrary::{Arbitrary, Result, Unstructured};
use bytes::{Bytes, BytesMut};
use futures::{FutureExt as _, StreamExt as _, stream};
use gsb_client::{Bus, Call, Failure, Framing};
use gsb_fuzz::input::{self, Script};
use gsb_fuzz::memory::Meter;
use gsb_net::memory::{Conditions, MemoryListener, MemoryStream, Network};
use gsb_proto::framing::LARGEST_FRAME;
use gsb_proto::messages::{
    BroadcastReply, BroadcastRequest, CallReply, CallRequest, Hello, Message, Ping, RegisterReply,
    SubscribeReply, UnregisterReply, UnsubscribeReply,
};
use gsb_proto::{Frame, FrameDecoder, MessageKind};
use libfuzzer_sys::fuzz_target;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    is_classic: bool,
    greeting: Greeting<'a>,
    steps: Script<Step<'a>>,
}

/// What the router says first on each connection, unless the framing is classic.
#[derive(Debug)]
enum Greeting<'a> {
    Usual,
    NoEcho,
    /// With a level and a frame limit.
    Able(u8, u8),
    Nothing,
    Raw(&'a [u8]),
}

impl<'a> Arbitrary<'a> for Greeting<'a> {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match input.int_in_range(0..=9)? {
            0..=3 => Greeting::Usual,
            4..=5 => Greeting::NoEcho,
            6..=7 => Greeting::Able(input.arbitrary()?, input.arbitrary()?),
            8 => Greeting::Nothing,
            _ => Greeting::Raw(input::bytes(input)?),
        })
    }
}

#[derive(Debug)]
enum Step<'a> {
    // The router's.
    Bytes(&'a [u8]),
    /// A frame with any content.
    Frame(u8, &'a [u8]),
    /// A reply to a call that it was sent.
    Reply {
        call: u8,
        code: i32,
        reply_type: i32,
        reason: i32,
        data: &'a [u8],
    },
    /// The answer to the oldest request of a kind.
    Answer(Asked, i32),
    Call {
        address: &'a str,
        service: u8,
        no_reply: bool,
        data: &'a [u8],
    },
    Event {
        topic: u8,
        missed: u8,
        data: &'a [u8],
    },
    Ping,
    /// So often again what the router said last.
    Again(u8),
    HangUp,
    /// Accepts no connections from now on, or does so again.
    Deaf(bool),
    // The user's.
    CallOut(u8, &'a [u8]),
    StreamOut(u8),
    Push(u8),
    Broadcast(u8),
    Register(u8),
    Subscribe(u8),
    /// Drops what was registered or subscribed, or gives up a call.
    GiveUp(u8),
    // Time.
    Wait(u16),
}

impl<'a> Arbitrary<'a> for Step<'a> {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Self> {
        let (what, which): (u8, u8) = (input.arbitrary()?, input.arbitrary()?);
        Ok(match what {
            0..=9 => Step::Bytes(input::bytes(input)?),
            10..=24 => Step::Frame(which, input::bytes(input)?),
            25..=69 => Step::Reply {
                call: which,
                code: code(input)?,
                reply_type: input.int_in_range(-1..=2)?,
                reason: input.int_in_range(-1..=11)?,
                data: input::bytes(input)?,
            },
            70..=99 => Step::Answer(Asked::ALL[usize::from(which) % 5], code(input)?),
            100..=119 => Step::Call {
                service: which,
                no_reply: what.is_multiple_of(8),
                address: input::text(input)?,
                data: input::bytes(input)?,
            },
            120..=139 => {
                // Mostly none.
                let missed = input.arbitrary::<u8>()?.saturating_sub(240);
                Step::Event { topic: which, missed, data: input::bytes(input)? }
            }
            140 => Step::Ping,
            141..=144 => Step::Again(which),
            145..=152 => Step::HangUp,
            153..=156 => Step::Deaf(which.is_multiple_of(2)),
            157..=171 => Step::CallOut(which, input::bytes(input)?),
            172..=186 => Step::StreamOut(which),
            187..=191 => Step::Push(which),
            192..=201 => Step::Broadcast(which),
            202..=216 => Step::Register(which),
            217..=231 => Step::Subscribe(which),
            232..=241 => Step::GiveUp(which),
            // Up to a minute and a half, and often less than a second.
            _ => Step::Wait(u16::from(which) << input.int_in_range(0..=8)?),
        })
    }
}

impl Step<'_> {
    /// Whether it is something that the router sends.
    fn is_said(&self) -> bool {
        use Step::*;
        let is_frame =
            matches!(self, Frame(..) | Reply { .. } | Answer(..) | Call { .. } | Event { .. });
        is_frame || matches!(self, Bytes(_) | Ping)
    }
}

#[derive(Debug, Clone, Copy)]
enum Asked {
    Register,
    Unregister,
    Subscribe,
    Unsubscribe,
    Broadcast,
}

impl Asked {
    const ALL: [Asked; 5] = [
        Asked::Register,
        Asked::Subscribe,
        Asked::Broadcast,
        Asked::Unregister,
        Asked::Unsubscribe,
    ];
}

fn code(input: &mut Unstructured<'_>) -> Result<i32> {
    let code: i8 = input.arbitrary()?;
    Ok(match code {
        0..=99 => 0,
        100..=105 => 400,
        106..=110 => 404,
        111..=115 => 409,
        116..=120 => 500,
        other => other.into(),
    })
}

const SERVICES: &[&str] = &["s/echo", "s/slow", "s/stream", "s/push", "s/more"];
const TOPICS: &[&str] = &["t/a", "t/*", "t/**", "**"];

fn pick(names: &'static [&'static str], at: u8) -> &'static str {
    names[usize::from(at) % names.len()]
}

struct Unfinished {
    decoder: FrameDecoder,
    bytes: BytesMut,
    most: usize,
}

/// The router's end of the connections.
struct Router {
    listener: Option<MemoryListener>,
    network: Network,
    framing: Framing,
    greeting: Option<Vec<u8>>,
    stream: Option<MemoryStream>,
    decoder: FrameDecoder,
    received: BytesMut,
    /// What the client has been sent that is no whole frame yet, and the most that it ever was.
    unfinished: Unfinished,
    /// The ids of the calls that came over this connection.
    calls: Vec<String>,
}

impl Router {
    fn new(input: &Input<'_>, network: Network) -> Self {
        let framing = if input.is_classic { Framing::Classic } else { Framing::Packet };
        let hello = |hello: Hello| {
            let mut out = BytesMut::new();
            let hello = Hello { name: "router".into(), ..hello };
            assert!(hello.to_frame().encode(Framing::Packet, &mut out));
            out.to_vec()
        };
        let greeting = match input.greeting {
            _ if input.is_classic => None,
            Greeting::Usual => Some(hello(Hello::default())),
            Greeting::NoEcho => Some(hello(Hello { no_echo: true, ..Hello::default() })),
            Greeting::Able(level, limit) => {
                // From what allows nothing to what limits nothing.
                let max_frame = (1 << (limit % 40)) >> 1;
                let level = u32::from(level) % 3;
                Some(hello(Hello { no_echo: true, level, max_frame, ..Hello::default() }))
            }
            Greeting::Nothing => None,
            Greeting::Raw(bytes) => Some(bytes.to_vec()),
        };
        Router {
            listener: network.listen().ok(),
            network,
            framing,
            greeting,
            stream: None,
            decoder: FrameDecoder::new(framing, LARGEST_FRAME),
            received: BytesMut::new(),
            unfinished: Unfinished {
                decoder: FrameDecoder::new(framing, LARGEST_FRAME),
                bytes: BytesMut::new(),
                most: 0,
            },
            calls: Vec::new(),
        }
    }

    /// Accepts a connection if there is one, and reads what has come.
    fn look(&mut self) {
        let accepted = self.listener.as_ref().and_then(|listener| listener.accept().now_or_never());
        if let Some(stream) = accepted {
            self.stream = Some(stream);
            self.decoder = FrameDecoder::new(self.framing, LARGEST_FRAME);
            self.received = BytesMut::new();
            self.unfinished.bytes.clear();
            self.calls.clear();
            if let Some(greeting) = self.greeting.clone() {
                self.write(&greeting);
            }
        }
        let Some(stream) = &self.stream else {
            return;
        };
        loop {
            self.received.reserve(4096);
            match stream.try_read(&mut self.received, 4096) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return self.stream = None,
            }
        }
        while let Some(frame) = self.decoder.decode(&mut self.received).expect("a client's frame") {
            if frame.kind == MessageKind::CallRequest {
                self.calls.push(frame.decode::<CallRequest>().expect("a call").request_id);
            }
        }
    }

    /// Writes as much as there is room for: who reads nothing gets no more.
    fn write(&mut self, mut bytes: &[u8]) {
        let Some(stream) = &self.stream else {
            return;
        };
        while !bytes.is_empty() {
            match stream.try_write_vectored(&[IoSlice::new(bytes)]) {
                Ok(written) => {
                    self.unfinished.bytes.extend_from_slice(&bytes[..written]);
                    bytes = &bytes[written..];
                }
                Err(_) => break,
            }
        }
        let Unfinished { decoder, bytes, most } = &mut self.unfinished;
        // After a violation it does not matter, since the client reads no further.
        while let Ok(Some(_)) = decoder.decode(bytes) {}
        *most = bytes.len().max(*most);
    }

    fn send(&mut self, frame: &Frame) {
        let mut out = BytesMut::new();
        if frame.encode(self.framing, &mut out) {
            self.write(&out);
        }
    }
}

/// The user's end: what was begun and has not ended.
struct User {
    bus: Bus,
    /// What ends by itself.
    requests: JoinSet<()>,
    /// Services and subscriptions, which end with the bus.
    lasting: JoinSet<()>,
    given_up: Vec<tokio::task::AbortHandle>,
}

/// Whatever comes of it, it can be shown.
fn show<T>(result: std::result::Result<T, gsb_client::Error>) -> Option<T> {
    result.map_err(|error| assert!(!error.to_string().is_empty())).ok()
}

impl User {
    fn new(network: Network, framing: Framing) -> Self {
        let seconds = Duration::from_secs;
        let builder = Bus::builder()
            .network(network)
            .framing(framing)
            .connect_timeout(seconds(3))
            .request_timeout(seconds(5))
            .ping_timeout(seconds(7))
            .call_timeout(seconds(11))
            .wait_for_router(seconds(1))
            .outbox_limit(2048)
            .buffer_limit(512)
            .max_running(2);
        let bus = builder.connect_lazy("unix:/router").expect("a valid address");
        User { bus, requests: JoinSet::new(), lasting: JoinSet::new(), given_up: Vec::new() }
    }

    fn begin(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.given_up.push(self.requests.spawn(task));
    }

    fn keep(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.given_up.push(self.lasting.spawn(task));
    }

    fn call(&mut self, service: u8, data: &[u8]) {
        let (bus, data) = (self.bus.clone(), Bytes::copy_from_slice(data));
        let address = format!("far/{service}");
        self.begin(async move { drop(show(bus.call(&address, data).await)) });
    }

    fn stream(&mut self, service: u8) {
        let bus = self.bus.clone();
        let address = format!("far/{service}");
        self.begin(async move {
            let Some(mut replies) = show(bus.stream(&address, "data").await) else {
                return;
            };
            while let Some(reply) = replies.next().await {
                show(reply);
                // Slower than some routers.
                sleep(Duration::from_millis(3)).await;
            }
        });
    }

    fn push(&mut self, service: u8) {
        let bus = self.bus.clone();
        let address = format!("far/{service}");
        self.begin(async move {
            let _ = show(bus.push(&address, vec![0; 700]).await);
        });
    }

    fn broadcast(&mut self, topic: u8) {
        let bus = self.bus.clone();
        let topic = pick(TOPICS, topic);
        self.begin(async move {
            let _ = show(bus.broadcast(topic, "event").await);
        });
    }

    fn register(&mut self, service: u8) {
        let (bus, name) = (self.bus.clone(), pick(SERVICES, service));
        self.keep(async move {
            let echo = |call: Call| async move { Ok::<_, Failure>(call.data) };
            let slow = |call: Call| async move {
                sleep(Duration::from_millis(20)).await;
                Err::<Bytes, _>(Failure::new(call.caller))
            };
            let many = |call: Call| stream::repeat(Ok(call.data)).take(5);
            let registered = match name {
                "s/slow" => bus.register(name, slow).await,
                "s/stream" => bus.register_stream(name, many).await,
                "s/push" => bus.register_push(name, |_: Call| async {}).await,
                _ => bus.register(name, echo).await,
            };
            if let Some(registered) = show(registered) {
                // Kept until it is given up, or the bus ends.
                show(bus.closed().await);
                drop(registered);
            }
        });
    }

    fn subscribe(&mut self, topic: u8) {
        let (bus, topic) = (self.bus.clone(), pick(TOPICS, topic));
        self.keep(async move {
            let Some(mut events) = show(bus.subscribe(topic).await) else {
                return;
            };
            while let Some(event) = events.next().await {
                show(event);
                sleep(Duration::from_millis(5)).await;
            }
        });
    }

    fn give_up(&mut self, at: u8) {
        if let Some(at) = usize::from(at).checked_rem(self.given_up.len()) {
            self.given_up.swap_remove(at).abort();
        }
    }
}

fn answer(asked: Asked, code: i32) -> Frame {
    let message = if code == 0 { String::new() } else { "so says the router".to_owned() };
    match asked {
        Asked::Register => RegisterReply { code, message }.to_frame(),
        Asked::Unregister => UnregisterReply { code }.to_frame(),
        Asked::Subscribe => SubscribeReply { code, message }.to_frame(),
        Asked::Unsubscribe => UnsubscribeReply { code }.to_frame(),
        Asked::Broadcast => {
            BroadcastReply { code, message, ..BroadcastReply::default() }.to_frame()
        }
    }
}

async fn step(step: &Step<'_>, router: &mut Router, user: &mut User, number: usize) {
    match *step {
        Step::Bytes(bytes) => router.write(bytes),
        Step::Frame(kind, body) => {
            let kind = MessageKind::ALL[usize::from(kind) % MessageKind::ALL.len()];
            router.send(&Frame::new(kind, Bytes::copy_from_slice(body)));
        }
        Step::Reply { call, code, reply_type, reason, data } => {
            if let Some(at) = usize::from(call).checked_rem(router.calls.len()) {
                let reply = CallReply {
                    request_id: router.calls[at].clone(),
                    code,
                    reply_type,
                    reason,
                    data: Bytes::copy_from_slice(data),
                    ..CallReply::default()
                };
                router.send(&reply.into_frame());
            }
        }
        Step::Answer(asked, code) => router.send(&answer(asked, code)),
        Step::Call { address, service, no_reply, data } => {
            let address = match address {
                "" => pick(SERVICES, service).to_owned(),
                text => format!("{}/{text}", pick(SERVICES, service)),
            };
            let call = CallRequest {
                caller: "caller".into(),
                address,
                request_id: number.to_string(),
                data: Bytes::copy_from_slice(data),
                no_reply,
                ..CallRequest::default()
            };
            router.send(&call.into_frame());
        }
        Step::Event { topic, missed, data } => {
            let data = Bytes::copy_from_slice(data);
            let topic = pick(TOPICS, topic).to_owned();
            let caller = "c".to_owned();
            let missed = missed.into();
            let event = BroadcastRequest { topic, data, caller, missed, ..Default::default() };
            router.send(&event.into_frame());
        }
        Step::Ping => router.send(&Ping {}.to_frame()),
        // It is what comes again.
        Step::Again(_) => {}
        Step::HangUp => router.stream = None,
        Step::Deaf(true) => router.listener = None,
        Step::Deaf(false) => {
            if router.listener.is_none() {
                router.listener = router.network.listen().ok();
            }
        }
        Step::CallOut(service, data) => user.call(service, data),
        Step::StreamOut(service) => user.stream(service),
        Step::Push(service) => user.push(service),
        Step::Broadcast(topic) => user.broadcast(topic),
        Step::Register(service) => user.register(service),
        Step::Subscribe(topic) => user.subscribe(topic),
        Step::GiveUp(at) => user.give_up(at),
        Step::Wait(millis) => sleep(Duration::from_millis(millis.into())).await,
    }
}

/// A script of more steps takes long and tells no more.
const MAX_STEPS: usize = 60;

/// Returns how many bytes of an unfinished frame the client was sent at most.
async fn play(input: &Input<'_>) -> usize {
    let immediately =
        Conditions { delay: Duration::ZERO..=Duration::ZERO, ..Conditions::default() };
    let network = Network::new(1, immediately);
    let mut router = Router::new(input, network.clone());
    let mut user = User::new(network, router.framing);
    let mut last = &Step::Ping;
    for (number, next) in input.steps.0.iter().take(MAX_STEPS).enumerate() {
        // Time stands still while anybody has something to do.
        sleep(Duration::from_millis(1)).await;
        router.look();
        match *next {
            Step::Again(times) => {
                for _ in 0..times {
                    step(last, &mut router, &mut user, number).await;
                }
            }
            _ => step(next, &mut router, &mut user, number).await,
        }
        if next.is_said() {
            last = next;
        }
        log::debug!("{:?} {:?}", user.bus, user.bus.status());
    }
    sleep(Duration::from_millis(1)).await;
    // The router does nothing any more.
    let User { bus, requests, lasting, .. } = user;
    all_end(requests).await;
    show(bus.shutdown(Duration::from_secs(5)).await);
    drop(bus);
    all_end(lasting).await;
    router.unfinished.most
}

/// Each of their timeouts is shorter than that, and no consumer is so slow.
async fn all_end(mut tasks: JoinSet<()>) {
    let ended =
        timeout(Duration::from_secs(60), async { while tasks.join_next().await.is_some() {} });
    assert!(ended.await.is_ok(), "something waits for ever");
}

fn run(input: &Input<'_>) -> (Meter, usize) {
    let meter = Meter::start();
    // What the client leaves to chance is no part of the input.
    fastrand::seed(1);
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().expect("a runtime");
    let unfinished = runtime.block_on(play(input));
    (meter, unfinished)
}

/// Makes text of what is logged, and forgets it.
struct Log;

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let mut text = String::new();
        write!(text, "{}", record.args()).expect("it can be shown");
    }

    fn flush(&self) {}
}

/// The most memory that is taken, in bytes, besides unfinished frames: what a runtime, a connection and the
/// user's tasks take, and what the limits of the bus allow. However much a router sends, it is not more.
const MOST: usize = 768 << 10;

/// How much memory is allowed, with an unfinished frame of that length. The buffer for it is at most twice as
/// large; while it grows, the one before it is there as well, which is half as large. The account of it that
/// is kept here takes as much.
fn allowed(unfinished: usize) -> usize {
    MOST + 3 * unfinished + 3 * unfinished
}

fuzz_target!(
    init: {
        log::set_logger(&Log).expect("it is the only one");
        log::set_max_level(log::LevelFilter::Debug);
    },
    |input: Input<'_>| {
        let (meter, unfinished) = run(&input);
        assert!(meter.peak() <= allowed(unfinished), "{} bytes of memory", meter.peak());
        // What a thread or a library makes once, it has made the second time.
        if meter.held() > 0 {
            let held = run(&input).0.held();
            assert_eq!(held, 0, "memory is not given back");
        }
    }
);
