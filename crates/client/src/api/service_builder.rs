//! Handlers with a state, and services of several messages.

use std::fmt;

use futures::{FutureExt as _, Stream, StreamExt as _};

use crate::api::bind::{ReplyHandler, StreamHandler};
use crate::api::bus::Bus;
use crate::api::registration::{Binding, Registering};
use crate::call::Call;
use crate::failure::Failure;
use crate::message::{Answer, Message};
use crate::reply::Reply;

impl Bus {
    /// [`Bus::bind`] with a handler that gets a state: each call gets a clone of it. The state is for example an
    /// [`Arc`](std::sync::Arc) of data that the calls share, or a [`WeakBus`](crate::WeakBus).
    ///
    /// ```
    /// # use gsb_client::{Bus, Error, Message};
    /// # use serde::{Deserialize, Serialize};
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicU64, Ordering};
    ///
    /// #[derive(Serialize, Deserialize, Message)]
    /// #[message(id = "add", item = u64)]
    /// struct Add(u64);
    ///
    /// async fn add(total: Arc<AtomicU64>, Add(amount): Add) -> Result<u64, String> {
    ///     Ok(total.fetch_add(amount, Ordering::Relaxed) + amount)
    /// }
    ///
    /// # async fn example(bus: Bus) -> Result<(), Error> {
    /// let total = Arc::new(AtomicU64::new(0));
    /// let _total = bus.bind_with("/total", total, add).await?;
    /// assert_eq!(bus.service("/total").call(Add(3)).await?, Ok(3));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// For a service of several messages see [`Bus::serve`].
    ///
    /// # Errors
    /// Those of [`Bus::register`].
    pub fn bind_with<T, M, F, R>(&self, service_id: &str, state: T, handler: F) -> Registering
    where
        T: Clone + Send + Sync + 'static,
        M: Message,
        F: Fn(T, M) -> R + Send + Sync + 'static,
        R: Future<Output = Answer<M>> + Send + 'static,
    {
        self.bind(service_id, move |message| handler(state.clone(), message))
    }

    /// [`Bus::bind_stream`] with a handler that gets a clone of `state`; see [`Bus::bind_with`].
    ///
    /// # Errors
    /// Those of [`Bus::register`].
    pub fn bind_stream_with<T, M, F, S>(
        &self,
        service_id: &str,
        state: T,
        handler: F,
    ) -> Registering
    where
        T: Clone + Send + Sync + 'static,
        M: Message,
        F: Fn(T, M) -> S + Send + Sync + 'static,
        S: Stream<Item = Answer<M>> + Send + 'static,
    {
        self.bind_stream(service_id, move |message| handler(state.clone(), message))
    }

    /// [`Bus::register`] with a handler that gets a clone of `state`; see [`Bus::bind_with`].
    ///
    /// ```
    /// use gsb_client::{Bus, Bytes, Call, Failure, WeakBus};
    ///
    /// /// A handler that calls. It holds a `WeakBus`, because the bus keeps its handlers.
    /// async fn relay(bus: WeakBus, call: Call) -> Result<Bytes, Failure> {
    ///     let bus = bus.upgrade().ok_or("the bus has ended")?;
    ///     Ok(bus.call("/echo", call.data).await?)
    /// }
    ///
    /// # async fn example(bus: Bus) -> Result<(), gsb_client::Error> {
    /// let _relay = bus.register_with("/relay", bus.downgrade(), relay).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`Bus::register`].
    pub fn register_with<T, F, R, B>(&self, service_id: &str, state: T, handler: F) -> Registering
    where
        T: Clone + Send + Sync + 'static,
        F: Fn(T, Call) -> R + Send + Sync + 'static,
        R: Future<Output = Result<B, Failure>> + Send + 'static,
        B: Into<Reply>,
    {
        self.register(service_id, move |call| handler(state.clone(), call))
    }

    /// [`Bus::register_stream`] with a handler that gets a clone of `state`; see [`Bus::bind_with`].
    ///
    /// # Errors
    /// Those of [`Bus::register`].
    pub fn register_stream_with<T, F, S, B>(
        &self,
        service_id: &str,
        state: T,
        handler: F,
    ) -> Registering
    where
        T: Clone + Send + Sync + 'static,
        F: Fn(T, Call) -> S + Send + Sync + 'static,
        S: Stream<Item = Result<B, Failure>> + Send + 'static,
        B: Into<Reply>,
    {
        self.register_stream(service_id, move |call| handler(state.clone(), call))
    }

    /// [`Bus::register_push`] with a handler that gets a clone of `state`; see [`Bus::bind_with`].
    ///
    /// # Errors
    /// Those of [`Bus::register`].
    pub fn register_push_with<T, F, R>(&self, service_id: &str, state: T, handler: F) -> Registering
    where
        T: Clone + Send + Sync + 'static,
        F: Fn(T, Call) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.register_push(service_id, move |call| handler(state.clone(), call))
    }

    /// Registers a service of several messages with one state: all messages are registered, or none. Each handler gets
    /// a clone of the state, and may be a method of it.
    ///
    /// ```
    /// # use gsb_client::{Bus, Error, Message};
    /// # use serde::{Deserialize, Serialize};
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicU64, Ordering};
    ///
    /// # #[derive(Serialize, Deserialize, Message)]
    /// # #[message(id = "add", item = u64)]
    /// # struct Add(u64);
    /// # #[derive(Serialize, Deserialize, Message)]
    /// # #[message(id = "total", item = u64)]
    /// # struct Total;
    /// #[derive(Default)]
    /// struct Counter(AtomicU64);
    ///
    /// impl Counter {
    ///     async fn add(self: Arc<Self>, Add(amount): Add) -> Result<u64, String> {
    ///         Ok(self.0.fetch_add(amount, Ordering::Relaxed) + amount)
    ///     }
    ///
    ///     async fn total(self: Arc<Self>, _: Total) -> Result<u64, String> {
    ///         Ok(self.0.load(Ordering::Relaxed))
    ///     }
    /// }
    ///
    /// # async fn example(bus: Bus) -> Result<(), Error> {
    /// let _counter = bus
    ///     .serve("/counter", Arc::new(Counter::default()))
    ///     .on(Counter::add)
    ///     .on(Counter::total)
    ///     .register()
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn serve<T>(&self, service_id: impl Into<String>, state: T) -> ServiceBuilder<T>
    where
        T: Clone + Send + Sync + 'static,
    {
        let bus = self.clone();
        ServiceBuilder { bus, service_id: service_id.into(), state, bindings: Vec::new() }
    }
}

/// The options of a service of several messages. Made by [`Bus::serve`].
#[must_use = "nothing is registered until `register` is called and awaited"]
pub struct ServiceBuilder<T> {
    bus: Bus,
    service_id: String,
    state: T,
    bindings: Vec<Binding>,
}

impl<T> fmt::Debug for ServiceBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: Vec<_> = self.bindings.iter().map(|binding| &binding.address).collect();
        f.debug_struct("ServiceBuilder")
            .field("service_id", &self.service_id)
            .field("addresses", &addresses)
            .finish_non_exhaustive()
    }
}

impl<T> ServiceBuilder<T>
where
    T: Clone + Send + Sync + 'static,
{
    /// Serves a message with one answer, as [`Bus::bind`] does.
    pub fn on<M, F, R>(mut self, handler: F) -> Self
    where
        M: Message,
        F: Fn(T, M) -> R + Send + Sync + 'static,
        R: Future<Output = Answer<M>> + Send + 'static,
    {
        let state = self.state.clone();
        let handler = move |message| handler(state.clone(), message).boxed();
        let handler = ReplyHandler::of_message(handler);
        self.bindings.push(self.bus.reply_binding(&self.service_id, handler));
        self
    }

    /// Serves a message with a stream of answers, as [`Bus::bind_stream`] does.
    pub fn on_stream<M, F, S>(mut self, handler: F) -> Self
    where
        M: Message,
        F: Fn(T, M) -> S + Send + Sync + 'static,
        S: Stream<Item = Answer<M>> + Send + 'static,
    {
        let state = self.state.clone();
        let handler = move |message| handler(state.clone(), message).boxed();
        let handler = StreamHandler::of_message(handler);
        self.bindings.push(self.bus.stream_binding(&self.service_id, handler));
        self
    }

    /// Registers all messages. If one of the names is refused, the error names it, and no message stays registered.
    ///
    /// # Errors
    /// Those of [`Bus::register`]. A message that is added twice is [`Error::AlreadyRegistered`](crate::Error).
    pub fn register(self) -> Registering {
        Registering::all(&self.bus, self.service_id, self.bindings)
    }
}
