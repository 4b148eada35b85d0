//! A router as a whole, from its configuration to its end.

use std::sync::Arc;
use std::time::Duration;

use gsb_core::{BrokerConfig, Counters, LONGEST_TIMEOUT, Limits, Usage};
use gsb_proto::framing::LARGEST_MAX_FRAME;
use gsb_proto::messages::Hello;
use gsb_proto::{Address, LEVEL};
use tokio::task::JoinSet;

use crate::accept::Acceptor;
use crate::clock::Clock;
use crate::config::{RouterConfig, SMALLEST_MAX_FRAME};
use crate::error::BindError;
use crate::listener::Listener;
use crate::memory_limit;
use crate::router_state::RouterState;
use crate::stopping::{CloseOnDrop, ShutdownHandle, drain};
use crate::timer;

/// A router that listens. It serves its connections while [`run`](Router::run) runs.
///
/// Dropping a router, or the future of [`run`](Router::run), leaves the files of its Unix sockets, as a killed process
/// does. The next router at the same path replaces them.
#[derive(Debug)]
pub struct Router {
    listeners: Vec<Listener>,
    addresses: Vec<Address>,
    acceptor: Acceptor,
    drain_timeout: Duration,
    shutdown: ShutdownHandle,
}

/// Counters, current usage and limits of a [`Router`].
#[derive(Debug, Clone)]
pub struct RouterStatus {
    state: Arc<RouterState>,
}

impl RouterStatus {
    /// Counts of events since the router was started.
    pub fn counters(&self) -> Counters {
        self.state.counters()
    }

    /// Replaces the limits of each connection and of the memory; `None` as in [`RouterConfig::memory_limit`]. What a
    /// connection holds stays, also if it is more than a lower limit allows.
    ///
    /// # Errors
    /// [`BindError::ZeroLimit`]; then the limits stay as they are.
    pub fn set_limits(&self, limits: Limits, memory_limit: Option<usize>) -> Result<(), BindError> {
        check_limits(limits)?;
        let memory_limit = memory_limit.unwrap_or_else(memory_limit::of_this_machine);
        self.state.set_limits(limits, memory_limit);
        Ok(())
    }

    /// What the router holds at this moment: connections, names, calls and bytes.
    pub fn usage(&self) -> Usage {
        self.state.usage()
    }
}

impl Router {
    /// Checks a configuration without listening. That no address is in use, for example, is seen only when the router
    /// [listens](Router::bind).
    ///
    /// # Errors
    /// The [`BindError`] with which [`bind`](Router::bind) would fail because of the configuration itself.
    pub fn check(config: &RouterConfig) -> Result<(), BindError> {
        check(config)?;
        let mut earlier = config.listen.iter().enumerate();
        let twice = earlier.find(|(at, address)| config.listen[..*at].contains(address));
        match twice {
            Some((_, address)) => {
                Err(BindError::NamedTwice { address: address.clone(), first: address.clone() })
            }
            None => Ok(()),
        }
    }

    /// Listens on all addresses of the configuration. Peers can connect from now on; they are served once
    /// [`run`](Router::run) is called.
    ///
    /// # Errors
    /// A [`BindError`] for an unusable configuration, or for the first address that cannot be listened on; the
    /// router then listens on none.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O and time enabled.
    pub async fn bind(config: RouterConfig) -> Result<Router, BindError> {
        if config.listen.is_empty() {
            return Err(BindError::NoAddress);
        }
        let acceptor = start(&config)?;
        let mut listeners = Vec::new();
        match listen(&config, &mut listeners).await {
            Ok(addresses) => Ok(Router::new(&config, acceptor, listeners, addresses)),
            Err(error) => {
                listeners.into_iter().for_each(Listener::close);
                Err(error)
            }
        }
    }

    /// A router on a simulated network, for tests. It ignores `config.listen`. A router without
    /// [workers](RouterConfig::workers) uses only the current runtime and its clock, which may be paused.
    ///
    /// # Errors
    /// A [`BindError`] for an unusable configuration, or if a worker cannot be started.
    #[cfg(feature = "memory")]
    pub fn bind_memory(
        config: RouterConfig,
        listener: gsb_net::memory::MemoryListener,
    ) -> Result<Router, BindError> {
        let acceptor = start(&config)?;
        Ok(Router::new(&config, acceptor, vec![Listener::Memory(listener)], Vec::new()))
    }

    fn new(
        config: &RouterConfig,
        acceptor: Acceptor,
        listeners: Vec<Listener>,
        addresses: Vec<Address>,
    ) -> Router {
        let (drain_timeout, shutdown) = (config.drain_timeout, ShutdownHandle::new());
        Router { listeners, addresses, acceptor, drain_timeout, shutdown }
    }

    /// The addresses that the router listens on, in the order of the configuration. Port 0 is replaced by the port
    /// that the system chose.
    pub fn local_addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// A handle that stops the router.
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        self.shutdown.clone()
    }

    /// A handle to the router's counters, current usage and limits.
    pub fn status(&self) -> RouterStatus {
        RouterStatus { state: self.acceptor.state().clone() }
    }

    /// Serves connections until a [`ShutdownHandle`] is used. Then the router stops in this order: it stops
    /// listening and removes the files of its Unix sockets; refuses new calls; waits up to the
    /// [drain timeout](RouterConfig::drain_timeout) for open calls to end, and ends the rest; waits up to a second
    /// for queued frames to be written; closes all connections.
    ///
    /// Dropping the future closes all connections, without the other steps.
    pub async fn run(self) {
        let Router { listeners, acceptor, drain_timeout, shutdown, .. } = self;
        let acceptor = Arc::new(acceptor);
        let state = acceptor.state().clone();
        let _close = CloseOnDrop(state.clone());
        let mut clock = JoinSet::new();
        clock.spawn(timer::run(state.clone()));
        let mut accepting = JoinSet::new();
        for listener in listeners {
            let (acceptor, shutdown) = (acceptor.clone(), shutdown.clone());
            accepting.spawn(async move { acceptor.run(listener, &shutdown).await });
        }
        shutdown.requested().await;
        while accepting.join_next().await.is_some() {}
        drain(&state, drain_timeout).await;
        clock.shutdown().await;
        if let Some(acceptor) = Arc::into_inner(acceptor) {
            acceptor.finish().await;
        }
    }
}

/// Starts the parts of a router other than its listeners.
fn start(config: &RouterConfig) -> Result<Acceptor, BindError> {
    check(config)?;
    // Zero disables the timeout.
    let ping_timeout = config.ping_timeout.filter(|timeout| !timeout.is_zero());
    let hello = Hello {
        name: env!("CARGO_PKG_NAME").to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        instance_id: uuid::Uuid::new_v4().into_bytes().to_vec().into(),
        // Tells clients that the router supports the field in their Hello (TO-9).
        no_echo: true,
        level: LEVEL,
        // A client then refuses a larger message, for which the router would close the connection (CO-19).
        max_frame: config.max_frame as u64,
    };
    let timeouts = [config.stall_timeout, config.write_timeout, config.frame_timeout];
    let shortest = timeouts.into_iter().chain(ping_timeout).min().unwrap_or(LONGEST_TIMEOUT);
    let clock = Clock::new(shortest.min(LONGEST_TIMEOUT));
    let broker = BrokerConfig {
        ping_timeout,
        limits: config.limits,
        stall_timeout: config.stall_timeout,
        write_timeout: config.write_timeout,
        frame_timeout: config.frame_timeout,
        memory_limit: config.memory_limit.unwrap_or_else(memory_limit::of_this_machine),
        hello,
    };
    Acceptor::start(config, Arc::new(RouterState::new(broker, clock)))
}

/// Listens on all addresses, in their order. After an error, `listeners` has those that were opened before.
async fn listen(
    config: &RouterConfig,
    listeners: &mut Vec<Listener>,
) -> Result<Vec<Address>, BindError> {
    let mut addresses = Vec::new();
    for address in &config.listen {
        let listener = match Listener::bind(address, config.unix_mode).await {
            Ok(listener) => listener,
            Err(error) => {
                let twice = named_twice(address, &config.listen, listeners).await;
                return Err(twice.unwrap_or(error));
            }
        };
        let local = listener.local_address();
        listeners.push(listener);
        addresses.push(local.map_err(|error| BindError::Io { address: address.clone(), error })?);
    }
    Ok(addresses)
}

/// The error if `address` conflicts with one of `listeners`, which belong to the first addresses of `listen`.
async fn named_twice(
    address: &Address,
    listen: &[Address],
    listeners: &[Listener],
) -> Option<BindError> {
    for (first, listener) in listen.iter().zip(listeners) {
        if listener.conflicts_with(address).await {
            let (address, first) = (address.clone(), first.clone());
            return Some(BindError::NamedTwice { address, first });
        }
    }
    None
}

/// Checks the limits of connections.
fn check_limits(limits: Limits) -> Result<(), BindError> {
    let Limits { services, subscriptions, open_calls, .. } = limits;
    let counts = [
        (services, "services of a connection"),
        (subscriptions, "subscriptions of a connection"),
        (open_calls, "open calls of a connection"),
    ];
    match counts.into_iter().find(|(limit, _)| *limit == 0) {
        Some((_, what)) => Err(BindError::ZeroLimit(what)),
        None => Ok(()),
    }
}

/// Checks the limits of a configuration.
fn check(config: &RouterConfig) -> Result<(), BindError> {
    if config.max_connections == 0 {
        return Err(BindError::ZeroLimit("connections"));
    }
    check_limits(config.limits)?;
    if config.max_frame < SMALLEST_MAX_FRAME {
        return Err(BindError::MaxFrameTooSmall(config.max_frame));
    }
    if config.max_frame > LARGEST_MAX_FRAME {
        return Err(BindError::MaxFrameTooLarge(config.max_frame));
    }
    Ok(())
}
