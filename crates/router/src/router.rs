//! A router as a whole: from its configuration to its end.

use std::sync::Arc;
use std::time::Duration;

use gsb_core::{BrokerConfig, Counters, LONGEST_TIMEOUT, Limits, Usage};
use gsb_proto::frame::LARGEST_MAX_FRAME;
use gsb_proto::messages::Hello;
use gsb_proto::{Address, LEVEL};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::accept::Reception;
use crate::clock::Clock;
use crate::config::{RouterConfig, SMALLEST_MAX_FRAME};
use crate::error::BindError;
use crate::listener::Listener;
use crate::patience::Timeouts;
use crate::shared::Shared;
use crate::workers::Workers;

/// A call of which a service takes this part of the longest frame in each stall timeout is not given up.
const STRIDES: usize = 8;

/// How long a router that stops waits for what is queued to leave.
const LEAVE_TIME: Duration = Duration::from_secs(1);

/// A router that listens. It serves its connections while [`run`](Router::run) runs.
#[derive(Debug)]
pub struct Router {
    listeners: Vec<Listener>,
    addresses: Vec<Address>,
    reception: Reception,
    drain_timeout: Duration,
    stop: watch::Sender<bool>,
}

/// Stops a [`Router`] from anywhere.
#[derive(Debug, Clone)]
pub struct ShutdownHandle {
    stop: watch::Sender<bool>,
}

/// What a [`Router`] is doing, as plain numbers.
#[derive(Debug, Clone)]
pub struct RouterStatus {
    shared: Arc<Shared>,
}

impl ShutdownHandle {
    /// Asks the router to stop. Does nothing if it has stopped.
    pub fn shutdown(&self) {
        self.stop.send_replace(true);
    }
}

impl RouterStatus {
    /// What has happened since the router was started.
    pub fn counters(&self) -> Counters {
        self.shared.counters()
    }

    /// What the router holds at this moment.
    pub fn usage(&self) -> Usage {
        self.shared.usage()
    }
}

impl Router {
    /// Listens on all addresses of the configuration. Peers can connect from now on; they are served
    /// once [`run`](Router::run) is called.
    ///
    /// # Errors
    /// A [`BindError`] for the first address that cannot be listened on; none is then.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O and time enabled.
    pub async fn bind(config: RouterConfig) -> Result<Router, BindError> {
        if config.listen.is_empty() {
            return Err(BindError::NoAddress);
        }
        check(&config)?;
        let mut listeners = Vec::new();
        let mut addresses = Vec::new();
        for address in &config.listen {
            let listener = match Listener::bind(address, config.unix_mode).await {
                Ok(listener) => listener,
                Err(error) => {
                    return Err(named_twice(address, &config.listen, &listeners)
                        .await
                        .unwrap_or(error));
                }
            };
            let local = listener
                .local_address()
                .map_err(|error| BindError::Io { address: address.clone(), error })?;
            addresses.push(local);
            listeners.push(listener);
        }
        Router::new(&config, listeners, addresses)
    }

    /// A router on a simulated network, and on nothing else: `config.listen` is not looked at. A router
    /// without [workers](RouterConfig::workers) runs on the current runtime alone and keeps to its
    /// clock, which may be paused. For tests.
    ///
    /// # Errors
    /// A [`BindError`] for a configuration that is none, or if a worker cannot be started.
    #[cfg(feature = "memory")]
    pub fn bind_memory(
        config: RouterConfig,
        listener: gsb_net::memory::MemoryListener,
    ) -> Result<Router, BindError> {
        check(&config)?;
        Router::new(&config, vec![Listener::Memory(listener)], Vec::new())
    }

    fn new(
        config: &RouterConfig,
        listeners: Vec<Listener>,
        addresses: Vec<Address>,
    ) -> Result<Router, BindError> {
        // No patience at all would disconnect everybody; it is taken for its opposite.
        let ping_timeout = config.ping_timeout.filter(|timeout| !timeout.is_zero());
        let hello = Hello {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instance_id: uuid::Uuid::new_v4().into_bytes().to_vec().into(),
            // The bus heeds it, and a client that asks for it wants to know (TO-9).
            no_echo: true,
            level: LEVEL,
            // So that a client does not lose its connection over one message (CO-19).
            max_frame: config.max_frame as u64,
        };
        let timeouts = Timeouts {
            stall: config.stall_timeout.min(LONGEST_TIMEOUT),
            stride: config.max_frame / STRIDES,
            write: config.write_timeout.min(LONGEST_TIMEOUT),
            frame: config.frame_timeout.min(LONGEST_TIMEOUT),
        };
        let clock = Clock::new(
            ping_timeout
                .map_or(timeouts.shortest(), |ping_timeout| ping_timeout.min(timeouts.shortest())),
        );
        let config_of_bus = BrokerConfig {
            ping_timeout,
            limits: config.limits,
            stall_timeout: config.stall_timeout,
            hello,
        };
        let shared = Arc::new(Shared::new(config_of_bus, clock));
        let places = config.max_connections.min(Semaphore::MAX_PERMITS);
        Ok(Router {
            listeners,
            addresses,
            reception: Reception {
                shared,
                workers: Mutex::new(Workers::start(config.workers, config.busy_poll)?),
                places: Arc::new(Semaphore::new(places)),
                max_connections: config.max_connections,
                max_frame: config.max_frame,
                timeouts,
            },
            drain_timeout: config.drain_timeout,
            stop: watch::Sender::new(false),
        })
    }

    /// Where the router listens, in the order of the configuration, with the ports that were chosen
    /// for port 0.
    pub fn local_addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// A handle that stops the router.
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        ShutdownHandle { stop: self.stop.clone() }
    }

    /// A handle that tells what the router does.
    pub fn status(&self) -> RouterStatus {
        RouterStatus { shared: self.reception.shared.clone() }
    }

    /// Serves until a [`ShutdownHandle`] is used. Then it accepts nobody, refuses new calls, gives
    /// open calls up to the [drain timeout](RouterConfig::drain_timeout) to end, ends those that are
    /// left, gives what is queued up to one second to leave, and closes all connections. Dropping the
    /// future does none of this but to close all connections.
    pub async fn run(self) {
        let Router { listeners, reception, drain_timeout, stop, .. } = self;
        let reception = Arc::new(reception);
        let shared = reception.shared.clone();
        let _close = CloseAll(shared.clone());
        let mut clock = JoinSet::new();
        clock.spawn(keep_time(shared.clone()));
        let mut accepting = JoinSet::new();
        for listener in listeners {
            let reception = reception.clone();
            accepting.spawn(async move { reception.accept_all(listener).await });
        }
        // The sender lives as long as this function.
        let _ = stop.subscribe().wait_for(|stop| *stop).await;
        // With the listeners goes the file of each Unix socket.
        accepting.shutdown().await;

        shared.begin_to_stop();
        if within(&shared, drain_timeout, shared.is_idle()).await.is_none() {
            let open = shared.usage().open_calls;
            log::warn!(
                "{open} calls were still open after {} s (--drain-timeout)",
                drain_timeout.as_secs_f64()
            );
            shared.end_calls();
        }

        let links = shared.stop();
        let leave = async {
            for link in &links {
                link.drained().await;
            }
        };
        if within(&shared, LEAVE_TIME, leave).await.is_none() {
            log::warn!("some connections did not take what was sent to them");
        }
        clock.shutdown().await;
        for link in links {
            link.close();
        }
        // Every task of a connection gives its place back.
        let all = reception.max_connections.min(Semaphore::MAX_PERMITS);
        let all = u32::try_from(all).unwrap_or(u32::MAX);
        let _ = tokio::time::timeout(LEAVE_TIME, reception.places.acquire_many(all)).await;
        if let Some(reception) = Arc::into_inner(reception) {
            reception.workers.into_inner().stop().await;
        }
    }
}

/// What comes of something, if it does before the router has run for so long.
async fn within<T>(shared: &Shared, time: Duration, what: impl Future<Output = T>) -> Option<T> {
    let deadline = shared.clock.now() + time.min(LONGEST_TIMEOUT);
    tokio::select! {
        biased;
        result = what => Some(result),
        () = shared.clock.sleep_until(deadline) => None,
    }
}

/// The error for an address that cannot be listened on because `listeners`, which are those of the first ones of
/// `listen`, are in its way.
async fn named_twice(
    address: &Address,
    listen: &[Address],
    listeners: &[Listener],
) -> Option<BindError> {
    for (first, listener) in listen.iter().zip(listeners) {
        if listener.is_at(address).await {
            let (address, first) = (address.clone(), first.clone());
            return Some(BindError::NamedTwice { address, first });
        }
    }
    None
}

/// What is looked at before anything is listened on.
fn check(config: &RouterConfig) -> Result<(), BindError> {
    let Limits { services, subscriptions, open_calls, .. } = config.limits;
    let counts = [
        (config.max_connections, "connections"),
        (services, "services of a connection"),
        (subscriptions, "subscriptions of a connection"),
        (open_calls, "open calls of a connection"),
    ];
    if let Some((_, what)) = counts.into_iter().find(|(limit, _)| *limit == 0) {
        return Err(BindError::ZeroLimit(what));
    }
    if config.max_frame < SMALLEST_MAX_FRAME {
        return Err(BindError::MaxFrameTooSmall(config.max_frame));
    }
    if config.max_frame > LARGEST_MAX_FRAME {
        return Err(BindError::MaxFrameTooLarge(config.max_frame));
    }
    Ok(())
}

/// Closes all connections when dropped: also where [`Router::run`] is not let to its end.
struct CloseAll(Arc<Shared>);

impl Drop for CloseAll {
    fn drop(&mut self) {
        for link in self.0.stop() {
            link.close();
        }
    }
}

/// Tells the bus of the time whenever it asked to be told, and looks at the clock often enough.
async fn keep_time(shared: Arc<Shared>) {
    let clock = &shared.clock;
    loop {
        let next = shared.tick();
        // There may be more to do at once, but not before others had their turn.
        tokio::task::yield_now().await;
        let latest = clock.now() + clock.beat();
        clock.sleep_until(next.map_or(latest, |deadline| deadline.min(latest))).await;
    }
}
