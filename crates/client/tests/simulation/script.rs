//! The steps of a run, which the seed determines.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use gsb_client::{Bus, Connection, Reconnect};
use gsb_net::memory::{Conditions, Network};
use gsb_proto::Framing;
use gsb_proto::framing::DEFAULT_MAX_FRAME;
use gsb_router::{Router, RouterConfig, RouterStatus, ShutdownHandle};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::calls;
use crate::events::{self, Publish, Stop};
use crate::order::{End, Mode, Order};
use crate::services::Served;
use crate::world::{Kind, Millis, SLACK, World, kind_of, pause};

pub(crate) const NAMES: &[&str] = &["/a", "/a/b", "/a/b/c", "/c", "/d"];
pub(crate) const ADDRESSES: &[&str] =
    &["/a", "/a/b", "/a/b/c", "/c", "/c/x", "/a/x", "/a/b/x", "/d", "/ab"];
pub(crate) const TOPICS: &[&str] = &["t", "t/u", "t/v", "u/v", "t/u/v"];
const PATTERNS: &[&str] = &["t", "t/u", "t/*", "**", "t/**", "*/v", "u/v"];

/// The address of the router in a simulated network.
pub(crate) const LABEL: &str = "tcp://127.0.0.1:1";

/// Longer than any handler takes, in ms.
const LONG_TIMEOUT: Millis = 200_000;

/// With more clients, collisions would be rarer.
const MOST_CLIENTS: usize = 5;

/// Which faults a run has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weather {
    /// No connection is lost.
    Calm,
    Rough,
}

pub(crate) struct Simulation {
    pub(crate) rng: Rng,
    pub(crate) world: Arc<World>,
    pub(crate) network: Network,
    pub(crate) clients: Vec<Arc<Client>>,
    /// Pending operations.
    pub(crate) tasks: Vec<Task>,
    /// Subscriptions, which end when they are told to.
    pub(crate) listeners: Vec<JoinHandle<()>>,
    router: Option<RunningRouter>,
    /// The status of each router of this run.
    pub(crate) routers: Vec<RouterStatus>,
    weather: Weather,
    /// The frame limit of the routers of this run in bytes, if it is low.
    max_frame: Option<usize>,
    next_client: usize,
}

pub(crate) struct Task {
    pub(crate) what: String,
    pub(crate) handle: JoinHandle<()>,
    /// Whether it may be dropped before its end. The task of a client may not.
    may_be_dropped: bool,
}

pub(crate) struct RunningRouter {
    stop: ShutdownHandle,
    task: JoinHandle<()>,
}

/// A client. Its handles are dropped with the last of its tasks.
pub(crate) struct Client {
    pub(crate) id: usize,
    /// Whether it receives its own events from the router.
    pub(crate) echoes: bool,
    /// Whether it reconnects for ever.
    pub(crate) lasts: bool,
    pub(crate) kept: Mutex<Kept>,
}

/// The handles of a client.
#[derive(Default)]
pub(crate) struct Kept {
    /// `None` if the client has left.
    pub(crate) bus: Option<Bus>,
    pub(crate) services: Vec<Served>,
    /// Ends the subscribers, too.
    pub(crate) subscriptions: Vec<oneshot::Sender<Stop>>,
    publisher: Option<mpsc::UnboundedSender<Publish>>,
}

impl Client {
    pub(crate) fn bus(&self) -> Option<Bus> {
        self.kept.lock().bus.clone()
    }

    /// The bus if it has not ended.
    pub(crate) fn live_bus(&self) -> Option<Bus> {
        let is_live = |bus: &Bus| !matches!(bus.status().connection, Connection::Closed(_));
        self.bus().filter(is_live)
    }

    /// Drops all handles.
    pub(crate) fn leave(&self) -> Option<Bus> {
        let mut kept = std::mem::take(&mut *self.kept.lock());
        kept.bus.take()
    }
}

impl Simulation {
    pub(crate) fn new(seed: u64, world: &Arc<World>) -> Self {
        // Seeds the generator of the clients' random pauses.
        fastrand::seed(seed);
        let mut rng = Rng::with_seed(seed);
        let longest = choose(&mut rng, &[0, 5, 5, 20]);
        let capacity = choose(&mut rng, &[64 << 10, 1000, 200]);
        let delay = Duration::ZERO..=Duration::from_millis(longest);
        let network = Network::new(seed, Conditions { delay, capacity });
        let weather = choose(&mut rng, &[Weather::Calm, Weather::Rough, Weather::Rough]);
        world.log(format_args!("{weather:?}, up to {longest} ms, {capacity} bytes"));
        let max_frame = choose(&mut rng, &[None, None, Some(2500)]);
        world.log(format_args!("frames: {max_frame:?}"));
        world.facts().calm_but = (weather == Weather::Calm).then(BTreeSet::new);
        Simulation {
            rng,
            world: world.clone(),
            network,
            clients: Vec::new(),
            tasks: Vec::new(),
            listeners: Vec::new(),
            router: None,
            routers: Vec::new(),
            weather,
            max_frame,
            next_client: 0,
        }
    }

    /// Carries out all steps. Pending operations go on after the end.
    pub(crate) async fn play(&mut self) {
        if self.weather == Weather::Calm || self.rng.u8(0..4) > 0 {
            self.start_router();
        }
        for _ in 0..self.rng.usize(2..=4) {
            self.add_client().await;
        }
        for _ in 0..self.rng.usize(0..12) {
            self.register();
        }
        for _ in 0..self.rng.usize(30..=120) {
            self.step().await;
            let (rng, world) = (&mut self.rng, &self.world);
            let time = match rng.u8(0..20) {
                0..10 => 0,
                10..16 => rng.u64(1..=20),
                16..19 => rng.u64(1..=200),
                _ => rng.u64(1..=3000),
            };
            pause(time).await;
            if !world.facts().problems.is_empty() {
                return;
            }
        }
    }

    async fn step(&mut self) {
        self.tasks.retain(|task| !task.handle.is_finished());
        let wild = self.weather == Weather::Rough;
        // A run without a router would test little.
        if self.router.is_none() && self.rng.u8(0..8) == 0 {
            self.start_router();
        }
        match self.rng.u32(0..100) {
            0..14 => self.register(),
            14..19 => self.unregister(),
            19..49 => self.call(),
            49..57 => self.subscribe(),
            57..60 => self.unsubscribe(),
            60..78 => self.broadcast(),
            78..83 => self.drop_something(),
            83..86 if wild => {
                let is_cut = self.network.cut_one();
                self.world.log(format_args!("a connection is cut: {is_cut}"));
            }
            86 if wild => {
                self.world.log("all connections are cut");
                self.network.cut_all();
            }
            87..91 if wild => self.start_or_stop_router().await,
            91..93 if wild => self.leave(),
            93 => self.shut_down(),
            94..96 if self.clients.len() < MOST_CLIENTS => self.add_client().await,
            _ => self.call(),
        }
    }

    // The router.

    fn start_router(&mut self) {
        // Another router may still hold the address.
        let Ok(listener) = self.network.listen() else {
            return;
        };
        match Router::bind_memory(self.router_config(), listener) {
            Ok(router) => {
                self.world.log("a router starts");
                self.routers.push(router.status());
                let stop = router.shutdown_handle();
                let task = tokio::spawn(router.run());
                self.router = Some(RunningRouter { stop, task });
            }
            Err(error) => self.world.problem(format_args!("no router starts: {error}")),
        }
    }

    /// In a run that may lose connections, and so events, the router may drop events, too: its queues are so short that
    /// senders often wait for room.
    fn router_config(&mut self) -> RouterConfig {
        let mut config = RouterConfig::default();
        config.max_frame = self.max_frame.unwrap_or(config.max_frame);
        if self.weather == Weather::Rough && self.rng.bool() {
            self.world.log("the next router has short queues");
            config.limits.queued_bytes = 1 << self.rng.usize(0..=11);
        }
        config
    }

    async fn start_or_stop_router(&mut self) {
        let Some(router) = self.router.take() else {
            return self.start_router();
        };
        let is_graceful = self.rng.bool();
        self.world.log(format_args!("the router is stopped, gracefully: {is_graceful}"));
        match is_graceful {
            true => router.stop.shutdown(),
            false => router.task.abort(),
        }
        self.world.facts().stopping += 1;
        let world = self.world.clone();
        self.serve("the router that stops".to_owned(), async move {
            drop(router.task.await);
            world.facts().stopping -= 1;
        });
        match self.rng.u8(0..3) {
            // Start the next one at once, perhaps before the first has ended.
            0 => {
                pause(self.rng.u64(0..10)).await;
                self.start_router();
            }
            1 => {
                pause(self.rng.u64(0..3000)).await;
                self.start_router();
            }
            _ => {}
        }
    }

    /// Records that there is a router from now on.
    pub(crate) async fn ensure_router(&mut self) {
        while self.router.is_none() {
            self.start_router();
            pause(10).await;
        }
    }

    pub(crate) async fn stop_router(&mut self) {
        if let Some(router) = self.router.take() {
            router.stop.shutdown();
            let stopped = tokio::time::timeout(Duration::from_secs(5), router.task).await;
            self.world.expect(matches!(stopped, Ok(Ok(()))), || "the router does not stop".into());
        }
    }

    // Clients.

    pub(crate) async fn add_client(&mut self) {
        let rng = &mut self.rng;
        let millis = Duration::from_millis;
        let lasting = Reconnect::default()
            .first_delay(millis(rng.u64(1..=200)))
            .longest_delay(millis(rng.u64(1000..=8000)));
        let reconnect = match rng.u8(0..10) {
            0 => None,
            1 => Some(lasting.attempts(rng.u32(0..4))),
            2 => Some(Reconnect::default()),
            _ => Some(lasting),
        };
        let lasts = reconnect.as_ref().is_some_and(|it| *it == it.clone().attempts(None));
        let echoes = rng.u8(0..8) == 0;
        let buffer_limit = choose(rng, &[16 << 20, 16 << 20, 600]);
        let stream_window = choose(rng, &[1 << 20, 1 << 20, 300, 1]);
        let outbox_limit = choose(rng, &[16 << 20, 16 << 20, 300]);
        // On a narrow connection, a client with a short ping timeout may take a live router for dead.
        let has_long_timeout = self.weather == Weather::Calm || rng.u8(0..4) > 0;
        let ping_timeout = if has_long_timeout { 30_000 } else { 2000 };
        // In the classic framing, a router cannot state its frame limit.
        let max_frame = self.max_frame.filter(|_| echoes).unwrap_or(DEFAULT_MAX_FRAME);
        let builder = Bus::builder()
            .network(self.network.clone())
            .max_frame(max_frame)
            .framing(if echoes { Framing::Classic } else { Framing::Packet })
            .max_running(choose(rng, &[1000, 1000, 1000, 2]))
            .buffer_limit(buffer_limit)
            .stream_window(stream_window)
            .outbox_limit(outbox_limit)
            .request_timeout(millis(choose(rng, &[10_000, 10_000, 10_000, 100])))
            .ping_timeout(millis(ping_timeout))
            .wait_for_router(millis(choose(rng, &[0, 50, 3000])))
            .reconnect(reconnect.clone());
        // The other constructor, `connect_lazy`, is for clients without a router.
        let connected = match rng.bool() {
            true => builder.clone().connect(LABEL).await.ok(),
            false => None,
        };
        let Some(bus) = connected.or_else(|| builder.connect_lazy(LABEL).ok()) else {
            return self.world.problem("a label is no address");
        };
        if self.weather == Weather::Calm {
            let settled = bus.settled().await;
            self.world.expect(settled.is_ok(), || format!("no connection: {settled:?}"));
        }
        let id = self.next_id();
        self.world.log(format_args!("client {id}: echoes: {echoes}, {reconnect:?}"));
        self.world.facts().classic.extend(echoes.then_some(id));
        let (publisher, orders) = mpsc::unbounded_channel();
        let publishing = events::publish(self.world.clone(), id, echoes, bus.clone(), orders);
        let kept = Kept { bus: Some(bus), publisher: Some(publisher), ..Kept::default() };
        self.clients.push(Arc::new(Client { id, echoes, lasts, kept: Mutex::new(kept) }));
        self.serve(format!("the publisher of client {id}"), publishing);
    }

    pub(crate) fn next_id(&mut self) -> usize {
        self.next_client += 1;
        self.next_client - 1
    }

    fn client(&mut self) -> Option<(Arc<Client>, Bus)> {
        let client = self.rng.choice(&self.clients)?.clone();
        let bus = client.bus()?;
        Some((client, bus))
    }

    fn leave(&mut self) {
        if self.clients.len() <= 2 {
            return;
        }
        let client = self.clients.swap_remove(self.rng.usize(0..self.clients.len()));
        let how = self.rng.bool();
        self.world.log(format_args!("client {} leaves, closing: {how}", client.id));
        let bus = client.leave().filter(|_| how);
        if let Some(bus) = bus {
            self.serve(format!("closing of client {}", client.id), bus.close());
        }
    }

    fn shut_down(&mut self) {
        // In a run without faults, the time is enough to serve all accepted calls.
        let is_calm = self.weather == Weather::Calm;
        let timeout = if is_calm { LONG_TIMEOUT } else { self.rng.u64(0..3000) };
        let Some((client, bus)) = self.client() else {
            return;
        };
        if let Some(calm_but) = &mut self.world.facts().calm_but {
            calm_but.insert(client.id);
        }
        let (world, id) = (self.world.clone(), client.id);
        let shutting_down = async move {
            let started = world.now();
            world.log(format_args!("client {id} shuts down in {timeout} ms"));
            let result = bus.shutdown(Duration::from_millis(timeout)).await;
            world.log(format_args!("client {id} is shut down: {result:?}"));
            if let Err(error) = &result {
                world.reach(format_args!("shutdown: {}", kind_of(error)));
                world.expect(!is_calm, || format!("client {id} was given enough time"));
            }
            let after = world.now() - started;
            // Then its callers are told, for up to a second.
            world
                .expect(after <= timeout + 1000 + SLACK, || "a shutdown has taken too long".into());
            let has_ended = bus.settled().await.is_err();
            world.expect(has_ended, || "a bus works after its shutdown".into());
        };
        self.serve(format!("shutdown of client {id}"), shutting_down);
    }

    // What clients do.

    /// Runs an operation that must not be dropped before its end.
    fn serve(&mut self, what: String, future: impl Future<Output = ()> + Send + 'static) {
        self.tasks.push(Task { what, handle: tokio::spawn(future), may_be_dropped: false });
    }

    fn spawn(&mut self, what: String, future: impl Future<Output = ()> + Send + 'static) {
        self.tasks.push(Task { what, handle: tokio::spawn(future), may_be_dropped: true });
    }

    fn drop_something(&mut self) {
        let droppable = self.tasks.iter().filter(|task| task.may_be_dropped).collect::<Vec<_>>();
        if let Some(task) = self.rng.choice(&droppable) {
            self.world.log(format_args!("{} is dropped", task.what));
            task.handle.abort();
        }
    }

    fn register(&mut self) {
        let name = choose(&mut self.rng, NAMES);
        let kinds = [Kind::Reply, Kind::Reply, Kind::Stream, Kind::Push];
        let kind = choose(&mut self.rng, &kinds);
        let in_process = self.rng.u8(0..6) == 0;
        let Some((client, bus)) = self.client() else {
            return;
        };
        let world = self.world.clone();
        let what = format!("registering {name} by client {}", client.id);
        self.spawn(what, async move {
            let served = Served::register(&world, client.id, &bus, name, kind, in_process).await;
            if let Ok(served) = served {
                let mut kept = client.kept.lock();
                if kept.bus.is_some() {
                    kept.services.push(served);
                } else {
                    // Dropping it may run code of the handlers.
                    drop(kept);
                    drop(served);
                }
            }
        });
    }

    fn unregister(&mut self) {
        let Some((client, _)) = self.client() else {
            return;
        };
        let served = {
            let mut kept = client.kept.lock();
            let count = kept.services.len();
            (count > 0).then(|| kept.services.swap_remove(self.rng.usize(0..count)))
        };
        let Some(served) = served else {
            return;
        };
        let service = served.service();
        if self.rng.bool() {
            self.world.log(format_args!("service {service} is dropped"));
            return drop(served);
        }
        let world = self.world.clone();
        self.spawn(format!("unregistering service {service}"), async move {
            let result = served.unregister().await;
            world.log(format_args!("service {service} is unregistered: {result:?}"));
        });
    }

    /// Makes a random order. `depth` is how deep orders may be nested in it.
    fn order(&mut self, depth: usize) -> usize {
        let rng = &mut self.rng;
        let modes = [Mode::Call, Mode::Call, Mode::Stream, Mode::Push];
        let mut order = Order::new(choose(rng, &modes), choose(rng, ADDRESSES));
        order.in_process = rng.u8(0..8) == 0;
        order.padding = choose(rng, &[0, 0, 10, 100, 3000]);
        order.timeout = match rng.u8(0..10) {
            // Only such a call shows that a call does not end too early.
            0..3 => None,
            3..5 => Some(rng.u64(0..100)),
            5..7 => Some(rng.u64(0..2000)),
            _ => Some(10_000),
        };
        order.wait_for_router = choose(rng, &[0, 0, 100, 5000]);
        order.delay = choose(rng, &[0, 0, 1, 20, 400, 2000]);
        order.items = rng.usize(0..8);
        order.end = match rng.u8(0..20) {
            0..2 => End::Fail,
            2 => End::Refuse,
            3 => End::Panic,
            _ => End::Good,
        };
        order.pause = choose(rng, &[0, 0, 10, 200]);
        order.wanted = if rng.u8(0..6) == 0 { rng.usize(0..5) } else { usize::MAX };
        if depth > 0 && rng.u8(0..5) == 0 {
            order.nested = Some(self.order(depth - 1));
        }
        let mut facts = self.world.facts();
        facts.orders.push(order);
        facts.orders.len() - 1
    }

    /// Starts several at once, so that some are pending at the next step.
    fn call(&mut self) {
        for _ in 0..self.rng.usize(1..=3) {
            self.call_once();
        }
    }

    fn call_once(&mut self) {
        let Some((client, bus)) = self.client() else {
            return;
        };
        let id = self.order(2);
        let (mode, address) = {
            let facts = self.world.facts();
            (facts.orders[id].mode, facts.orders[id].address.clone())
        };
        self.world.log(format_args!("call {id}: {mode:?} by client {} to {address}", client.id));
        let calling = calls::perform(self.world.clone(), client.id, bus, id);
        self.spawn(format!("call {id}"), calling);
    }

    fn subscribe(&mut self) {
        let topic = choose(&mut self.rng, PATTERNS);
        let in_process = self.rng.u8(0..6) == 0;
        let slowness = choose(&mut self.rng, &[0, 0, 0, 5, 50]);
        let Some((client, bus)) = self.client() else {
            return;
        };
        let bus = if in_process { bus.in_process() } else { bus };
        let (stop, stopped) = oneshot::channel();
        client.kept.lock().subscriptions.push(stop);
        let (world, id, echoes) = (self.world.clone(), client.id, client.echoes);
        let listening = events::subscribe(world, id, echoes, bus, topic, slowness, stopped);
        self.listeners.push(tokio::spawn(listening));
    }

    fn unsubscribe(&mut self) {
        let Some((client, _)) = self.client() else {
            return;
        };
        let mut kept = client.kept.lock();
        let count = kept.subscriptions.len();
        if count > 0 {
            let stop = kept.subscriptions.swap_remove(self.rng.usize(0..count));
            let _ = stop.send(choose(&mut self.rng, &[Stop::Unsubscribe, Stop::Drop]));
        }
    }

    fn broadcast(&mut self) {
        let topics = if self.rng.u8(0..8) == 0 { PATTERNS } else { TOPICS };
        let topic = choose(&mut self.rng, topics);
        let in_process = self.rng.u8(0..6) == 0;
        let timeout = (self.rng.u8(0..8) == 0).then(|| self.rng.u64(0..20));
        let Some((client, _)) = self.client() else {
            return;
        };
        if let Some(publisher) = &client.kept.lock().publisher {
            for _ in 0..self.rng.usize(1..4) {
                let _ = publisher.send(Publish { topic, in_process, timeout });
            }
        }
    }

    /// Drops all publishers, so that their tasks end after the remaining events.
    pub(crate) fn stop_publishing(&mut self) {
        for client in &self.clients {
            client.kept.lock().publisher = None;
        }
    }
}

pub(crate) fn choose<T: Clone>(rng: &mut Rng, all: &[T]) -> T {
    all[rng.usize(0..all.len())].clone()
}
