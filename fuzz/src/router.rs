//! A router without sockets. All that the targets ask of gsb-core goes through it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use gsb_core::{
    Broker, BrokerConfig, CallKey, CloseReason, ConnId, Effect, Identity, Limits, Progress,
};
pub use gsb_core::{Charge, Usage};
use gsb_proto::messages::{Hello, Message};
use gsb_proto::{Frame, FrameDecoder, Framing};

/// A connection.
pub type Peer = ConnId;

/// Who may be behind a connection.
pub const IDENTITIES: &[Identity] = &[Identity::Uid(1), Identity::Uid(2), Identity::Unknown];

/// How many bytes may be queued for each purpose: several frames, not many.
pub const QUEUE: usize = 300;

/// The silence after which a Ping is due.
pub const PING_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a connection waits for a peer that does not read.
pub const STALL: Duration = Duration::from_secs(5);

/// What the router did.
#[derive(Debug)]
pub enum Did {
    /// It sent a frame.
    Send(Peer, Frame),
    /// It closed a connection; whether because of a violation.
    Close(Peer, bool),
}

/// Whether a connection that is paused was woken.
#[derive(Debug, Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// The broker, the time, and what it did last.
#[derive(Debug)]
pub struct Router {
    broker: Broker,
    limit: usize,
    now: Instant,
    effects: Vec<Effect>,
    wakers: BTreeMap<Peer, Arc<Woken>>,
}

impl Router {
    /// Of services, subscriptions and open calls alike, a connection may hold `limit`.
    pub fn new(limit: usize) -> Self {
        let config = BrokerConfig {
            ping_timeout: Some(PING_TIMEOUT),
            limits: Limits {
                services: limit,
                subscriptions: limit,
                open_calls: limit,
                queued_bytes: QUEUE,
            },
            stall_timeout: STALL,
            hello: Hello::default(),
            ..BrokerConfig::default()
        };
        let (effects, wakers) = Default::default();
        Router { broker: Broker::new(config), limit, now: Instant::now(), effects, wakers }
    }

    /// What a connection may hold.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// What time it is.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// A peer connects.
    pub fn connect(&mut self, identity: u8) -> Peer {
        let identity = &IDENTITIES[usize::from(identity) % IDENTITIES.len()];
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let peer = self.broker.connect(identity.clone(), waker, self.now);
        self.wakers.insert(peer, woken);
        peer
    }

    /// Bytes come.
    pub fn hear(&mut self, peer: Peer) {
        self.broker.heard(peer, self.now);
    }

    /// The framing of a peer shows.
    pub fn detect(&mut self, peer: Peer, framing: Framing) {
        self.broker.framing_known(peer, framing, &mut self.effects);
    }

    /// A frame comes; returned if it has to wait.
    pub fn receive(&mut self, peer: Peer, mut frame: Frame) -> Option<Frame> {
        let result = self.broker.receive(peer, frame.whole(), self.now, &mut self.effects);
        result.is_err().then_some(frame)
    }

    /// Whether a paused connection was woken since this was asked last.
    pub fn is_woken(&self, peer: Peer) -> bool {
        self.wakers[&peer].0.swap(false, Ordering::SeqCst)
    }

    /// Looks at a peer that does not read; whether it has just stalled.
    pub fn look(&mut self, peer: Peer, progress: Progress, callers: &BTreeSet<Peer>) -> bool {
        self.broker.look_at_slow_peer(peer, progress, callers, self.now, &mut self.effects)
    }

    /// A call is in the outbox of a service that has stalled.
    pub fn end_stalled_call(&mut self, service: Peer, call: CallKey) {
        self.broker.end_stalled_call(service, call, &mut self.effects);
    }

    /// A peer goes.
    pub fn hang_up(&mut self, peer: Peer) {
        self.broker.close(peer, CloseReason::HungUp, &mut self.effects);
    }

    /// Goes on clearing away what those have left who are gone; whether there is more.
    pub fn sweep(&mut self, budget: usize) -> bool {
        self.broker.sweep(budget, &mut self.effects)
    }

    /// Takes no more calls.
    pub fn begin_to_stop(&mut self) {
        while self.broker.begin_to_stop(100, &mut self.effects) {}
    }

    /// Ends all calls.
    pub fn end_calls(&mut self) {
        while self.broker.end_calls(100, &mut self.effects) {}
    }

    /// Time passes. Whatever was due is done then, and whoever is connected has a deadline yet.
    pub fn wait(&mut self, time: Duration) {
        self.now += time;
        for tick in 0.. {
            assert!(tick < 100, "it would wake up for ever");
            self.broker.tick(self.now, &mut self.effects);
            if self.broker.next_deadline().is_none_or(|deadline| deadline > self.now) {
                break;
            }
        }
        let deadline = self.broker.next_deadline();
        assert_eq!(deadline.is_some(), self.broker.usage().connections > 0);
    }

    /// What was done since this was asked last, and who pays for it. Each frame can be written and read back
    /// in its framings.
    pub fn done(&mut self) -> Vec<(Did, Option<Charge>)> {
        let did = |effect| match effect {
            Effect::Send { to, frame, charge } => {
                check_form(&frame);
                Some((Did::Send(to, frame), charge))
            }
            Effect::Close { connection, reason } => {
                assert!(!reason.to_string().is_empty());
                let is_violation = matches!(reason, CloseReason::Violation(_));
                Some((Did::Close(connection, is_violation), None))
            }
            Effect::Report { report, .. } => {
                assert!(!report.to_string().is_empty());
                None
            }
        };
        self.effects.drain(..).filter_map(did).collect()
    }

    /// What it holds.
    pub fn holds(&self) -> Usage {
        let usage = self.broker.usage();
        // Calls have some, too.
        assert!(usage.deadlines >= usage.connections);
        assert_eq!(usage.accounts, usage.connections);
        assert!(usage.instances <= usage.connections);
        usage
    }
}

fn check_form(frame: &Frame) {
    let mut out = BytesMut::new();
    for framing in [Framing::Packet, Framing::Classic] {
        if !frame.encode(framing, &mut out) {
            assert!(frame.kind == Hello::KIND || frame.kind.field() >= 100);
            assert_eq!(framing, Framing::Classic);
            continue;
        }
        let mut decoder = FrameDecoder::new(framing, usize::MAX);
        let read = decoder.decode(&mut out).expect("no violation").expect("it is all there");
        assert_eq!(read.kind, frame.kind);
        assert_eq!(read.body.into_bytes(), frame.body.clone().into_bytes());
        assert!(out.is_empty());
    }
}
