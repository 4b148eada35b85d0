//! The handle of a bus.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::api::status_watch::StatusWatch;
use crate::engine::Engine;
use crate::engine::scope::Scope;
use crate::engine::serial::Turn;
use crate::error::{Error, LostReason};
use crate::status::{Connection, Status};

/// A bus: the services and callers of this process, and those of other processes if it has a router.
///
/// It is cheap to clone, and all clones are the same bus. The bus ends with [`Bus::shutdown`] and [`Bus::close`], or
/// when the last clone and the last handle made from it is dropped (a [`Registration`](crate::Registration), a
/// [`Subscription`](crate::Subscription), an [`Endpoint`](crate::Endpoint), a [`Service`](crate::Service) and so on).
///
/// A call goes to the service with the longest matching name in this process. If there is none, it goes to the router.
///
/// A task of the runtime on which the bus was made serves the connection to the router. The runtime needs I/O and time
/// enabled, and the bus ends when the runtime ends. A bus without a router needs a tokio runtime only for pushes, and
/// for calls with a timeout whose handlers have to wait.
///
/// When the last handle is dropped or the runtime ends, as at the end of `main`, queued frames are still written for up
/// to a second, as far as the router takes them. The end of the runtime blocks for that time. A process that ends
/// otherwise, for example with [`std::process::exit`], drops queued messages. [`Bus::flush`], [`Bus::shutdown`] and
/// [`Bus::close`] show whether the router has received everything.
#[derive(Clone)]
pub struct Bus {
    handle: Arc<Handle>,
    scope: Scope,
    /// How many calls a service handles at the same time that is registered with this handle.
    max_running: usize,
    /// Set for handles of [`Bus::serial`]: the turn of the services that are registered with this handle.
    turn: Option<Turn>,
}

/// A [`Bus`] handle that does not keep the bus alive. It is meant for handlers that make calls: the bus keeps its
/// handlers, so a handler with a [`Bus`] would keep the bus alive for ever.
#[derive(Debug, Clone)]
pub struct WeakBus {
    handle: Weak<Handle>,
    scope: Scope,
    max_running: usize,
    turn: Option<Turn>,
}

/// Ends the bus when the last clone is dropped.
#[derive(Debug)]
struct Handle {
    engine: Arc<Engine>,
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.engine().fmt(f)
    }
}

impl WeakBus {
    /// The bus. `None` if its last handle was dropped.
    pub fn upgrade(&self) -> Option<Bus> {
        let handle = self.handle.upgrade()?;
        let WeakBus { scope, max_running, ref turn, .. } = *self;
        Some(Bus { handle, scope, max_running, turn: turn.clone() })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.engine.finish();
    }
}

impl Bus {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        let max_running = engine.options().max_running;
        let handle = Arc::new(Handle { engine });
        Bus { handle, scope: Scope::Everywhere, max_running, turn: None }
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.handle.engine
    }

    pub(crate) fn scope(&self) -> Scope {
        self.scope
    }

    pub(crate) fn turn(&self) -> Option<&Turn> {
        self.turn.as_ref()
    }

    pub(crate) fn max_running(&self) -> usize {
        self.max_running
    }

    /// A handle that does not keep the bus alive.
    pub fn downgrade(&self) -> WeakBus {
        let Bus { handle, scope, max_running, turn } = self;
        let (scope, max_running) = (*scope, *max_running);
        WeakBus { handle: Arc::downgrade(handle), scope, max_running, turn: turn.clone() }
    }

    /// A handle of the same bus that does not use the router: calls, services, events and subscriptions of this handle
    /// stay within the process.
    ///
    /// ```
    /// # use gsb_client::{Bus, Call, Error};
    /// # async fn example(bus: Bus) -> Result<(), Error> {
    /// let _cache = bus.in_process().register("/cache", |call: Call| async { Ok(call.data) }).await?;
    /// bus.call("/cache", "key").await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn in_process(&self) -> Bus {
        Bus { scope: Scope::InProcess, ..self.clone() }
    }

    /// A handle of the same bus with another limit: each service that is registered with it handles at most `limit`
    /// calls at the same time. See [`BusBuilder::max_running`](crate::BusBuilder::max_running) for the calls beyond it.
    #[must_use]
    pub fn with_max_running(&self, limit: usize) -> Bus {
        Bus { max_running: limit, ..self.clone() }
    }

    /// A handle of the same bus for serial services: the services that are registered with it and its clones handle
    /// one call or push after the other, all of these services together. Each call of `serial` makes a new group.
    ///
    /// Calls and pushes from the router are handled in the order in which the connection delivers them, those from
    /// this process in the order in which their callers begin to wait.
    ///
    /// Calls that wait for their turn count as running, so [`with_max_running`](Bus::with_max_running) limits how many
    /// may wait, including the one that is handled. A handler that calls a service of its own group waits for itself
    /// until the call times out.
    ///
    /// ```
    /// # use std::sync::{Arc, Mutex};
    /// # use gsb_client::{Bus, Call, Error};
    /// # async fn example(bus: Bus) -> Result<(), Error> {
    /// let journal = Arc::new(Mutex::new(Vec::new()));
    /// let append = move |call: Call| {
    ///     let journal = journal.clone();
    ///     async move { journal.lock().unwrap().push(call.data) }
    /// };
    /// let _journal = bus.serial().with_max_running(1000).register_push("/journal", append).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn serial(&self) -> Bus {
        Bus { turn: Some(Turn::new()), ..self.clone() }
    }

    /// The state of the connection, and of the names that the router knows.
    pub fn status(&self) -> Status {
        self.engine().status()
    }

    /// Watches the [`Status`]. The watch does not keep the bus alive.
    ///
    /// ```
    /// # use gsb_client::Bus;
    /// # fn example(bus: Bus) {
    /// let mut watch = bus.watch();
    /// tokio::spawn(async move {
    ///     while let Some(status) = watch.changed().await {
    ///         println!("{:?}", status.connection);
    ///     }
    /// });
    /// # }
    /// ```
    pub fn watch(&self) -> StatusWatch {
        StatusWatch::new(self.engine().clone())
    }

    /// Waits until the bus is connected and the router has answered for all services and subscriptions made so far.
    /// Returns at once if there is no router.
    ///
    /// # Errors
    /// [`Error::ShutDown`] or [`Error::NotSent`] if the bus has ended.
    pub async fn settled(&self) -> Result<(), Error> {
        match self.engine().settled().await {
            Connection::Closed(LostReason::Closed) => Err(Error::ShutDown),
            Connection::Closed(reason) => Err(Error::NotSent(reason)),
            _ => Ok(()),
        }
    }

    /// Waits until the bus has ended. A program that only serves calls waits here. The bus does not end while it
    /// reconnects.
    ///
    /// # Errors
    /// [`Error::ConnectionLost`], unless this program has ended the bus.
    pub async fn closed(&self) -> Result<(), Error> {
        match self.engine().ended().await {
            LostReason::Closed => Ok(()),
            reason => Err(Error::ConnectionLost(reason)),
        }
    }

    /// Waits until the router has taken all that this bus has sent so far. It is meant for pushes, which have no
    /// reply: a program that ends right after a push may end before the push was sent. After `flush` the router has
    /// forwarded each push to its service, or dropped it because there is none.
    ///
    /// It does not wait for handlers of this process (see [`Bus::shutdown`]), and returns at once if there is no router.
    ///
    /// ```
    /// # use gsb_client::{Bus, Error};
    /// # async fn example(bus: Bus) -> Result<(), Error> {
    /// for line in ["one", "two", "three"] {
    ///     bus.push("/journal", line).await?;
    /// }
    /// bus.flush().await
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::ConnectionLost`] if the connection is lost, or was lost after a push that no flush has covered;
    /// [`Error::NotSent`] if there is no connection; [`Error::Timeout`] after
    /// [`BusBuilder::request_timeout`](crate::BusBuilder::request_timeout); [`Error::ShutDown`]. After an error the
    /// pushes may have arrived or not.
    pub async fn flush(&self) -> Result<(), Error> {
        self.engine().flush().await
    }

    /// Ends the bus gracefully, for all handles: gives its names back, waits until the running handlers have ended, and
    /// sends queued messages. Handlers that run longer than `timeout` are dropped, and their callers get
    /// [`Error::Cancelled`]. Then the bus ends. Only [detached](crate::CallContext::detach) handlers go on, and their
    /// replies are dropped.
    ///
    /// Meanwhile calls can be made, but no service or subscription.
    ///
    /// A handler of this bus may call it, too; then no handler is dropped. The shutdown waits neither for this handler nor
    /// for the handlers within the process that have called it. Their callers behind the router get
    /// [`Error::ServiceFailure`], because the bus has ended when the handlers go on. A handler should leave the shutdown to
    /// a task that it does not wait for if it has to reply, or if it belongs to a [serial](Bus::serial) service with calls
    /// that wait for their turn.
    ///
    /// # Errors
    /// [`Error::Unfinished`] if detached handlers, or handlers that do not wait anywhere, were still running a second
    /// later, or replies were not sent. The bus has ended all the same.
    pub async fn shutdown(&self, timeout: Duration) -> Result<(), Error> {
        self.engine().shut_down(timeout).await
    }

    /// Sends queued messages, for at most [`BusBuilder::request_timeout`](crate::BusBuilder::request_timeout), then
    /// ends the bus for all handles.
    pub async fn close(self) {
        self.engine().close().await;
    }
}
