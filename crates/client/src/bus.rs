//! The handle that users hold.

use std::fmt;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use futures::{FutureExt as _, Stream, StreamExt as _};
use gsb_proto::messages::BroadcastRequest;
use gsb_proto::{Address, ServiceId, Topic};

use crate::builder::BusBuilder;
use crate::endpoint::{Endpoint, ReplyStream};
use crate::error::{Error, Failure, LostReason};
use crate::queue::{Queue, WhenFull};
use crate::services::{Call, Handler, Registration, ServiceEntry};
use crate::shared::Shared;
use crate::subscriptions::Subscription;

/// A connection to a bus. Cheap to clone; all clones share the connection, which is closed when the
/// last of them and of the [`Registration`]s, [`Subscription`]s and streams made from them is dropped,
/// and by [`Bus::close`].
///
/// The connection is served by a task of the runtime that it was made on, which needs I/O and time
/// enabled; when that runtime ends, the connection is lost.
#[derive(Clone)]
pub struct Bus {
    handle: Arc<Handle>,
}

/// A [`Bus`] that does not keep the connection. For a handler that makes calls itself: one that held a
/// [`Bus`] would keep the connection that keeps the handler.
#[derive(Debug, Clone)]
pub struct WeakBus {
    handle: Weak<Handle>,
}

/// Ends the connection when the last handle is dropped.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared().fmt(f)
    }
}

impl WeakBus {
    /// The bus, if anybody still holds it.
    pub fn upgrade(&self) -> Option<Bus> {
        self.handle.upgrade().map(|handle| Bus { handle })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.finish();
    }
}

impl Bus {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Bus { handle: Arc::new(Handle { shared }) }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    /// A handle that does not keep the connection.
    pub fn downgrade(&self) -> WeakBus {
        WeakBus { handle: Arc::downgrade(&self.handle) }
    }

    /// Options for a connection.
    pub fn builder() -> BusBuilder {
        BusBuilder::default()
    }

    /// Connects to a bus, given as an [`Address`] or as text such as `unix:/run/gsb.sock`.
    ///
    /// # Errors
    /// [`Error::Address`] or [`Error::Connect`].
    pub async fn connect<A>(address: A) -> Result<Bus, Error>
    where
        A: TryInto<Address>,
        A::Error: Into<Error>,
    {
        Bus::builder().connect(address).await
    }

    /// Connects to the bus of this user: where `GSB_URL` says, or where a router listens that is told
    /// nothing else (see [`Address::from_environment`]).
    ///
    /// # Errors
    /// [`Error::Address`] or [`Error::Connect`].
    pub async fn connect_default() -> Result<Bus, Error> {
        Bus::connect(Address::from_environment()?).await
    }

    /// Registers a service that answers each call once.
    ///
    /// Calls are handled concurrently, up to [`BusBuilder::max_running`]. A handler that fails or panics
    /// answers its caller with a failure. When the connection is lost, a call that is being handled
    /// goes on, a stream ends at its next item. A handler that makes calls itself should hold a
    /// [`WeakBus`].
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::AlreadyRegistered`], [`Error::BadRequest`] if the router refuses it,
    /// [`Error::Timeout`], [`Error::NotSent`], [`Error::ConnectionLost`].
    pub async fn register<F, R, B>(
        &self,
        service_id: &str,
        handler: F,
    ) -> Result<Registration, Error>
    where
        F: Fn(Call) -> R + Send + Sync + 'static,
        R: Future<Output = Result<B, Failure>> + Send + 'static,
        B: Into<Bytes>,
    {
        let handler = move |call| handler(call).map(|reply| reply.map(Into::into)).boxed();
        self.register_handler(service_id, Handler::Reply(Box::new(handler))).await
    }

    /// Registers a service that answers each call with a stream. A failure ends the stream.
    ///
    /// # Errors
    /// Those of [`Bus::register`].
    pub async fn register_stream<F, S>(
        &self,
        service_id: &str,
        handler: F,
    ) -> Result<Registration, Error>
    where
        F: Fn(Call) -> S + Send + Sync + 'static,
        S: Stream<Item = Result<Bytes, Failure>> + Send + 'static,
    {
        let handler = move |call| handler(call).boxed();
        self.register_handler(service_id, Handler::Stream(Box::new(handler))).await
    }

    /// Registers a service that takes pushes and answers nothing. A call that wants a reply is refused.
    ///
    /// # Errors
    /// Those of [`Bus::register`].
    pub async fn register_push<F, R>(
        &self,
        service_id: &str,
        handler: F,
    ) -> Result<Registration, Error>
    where
        F: Fn(Call) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let handler = move |call| handler(call).boxed();
        self.register_handler(service_id, Handler::Push(Box::new(handler))).await
    }

    async fn register_handler(
        &self,
        service_id: &str,
        handler: Handler,
    ) -> Result<Registration, Error> {
        let id = ServiceId::new(service_id)?;
        let limit = self.shared().options().max_running;
        let service = Arc::new(ServiceEntry::new(id, handler, limit));
        // Made first: if this future is dropped half way, the registration is undone.
        let registration = Registration::new(self.clone(), service.clone());
        self.shared().register(&service).await?;
        Ok(registration)
    }

    /// An address to call, with options such as a timeout.
    pub fn endpoint(&self, address: impl Into<String>) -> Endpoint {
        Endpoint::new(self.clone(), address.into())
    }

    /// Calls a service and waits for its reply; see [`Endpoint::call`].
    ///
    /// # Errors
    /// Those of [`Endpoint::call`].
    pub async fn call(&self, address: &str, data: impl Into<Bytes>) -> Result<Bytes, Error> {
        self.endpoint(address).call(data).await
    }

    /// Calls a service and returns its replies as they come; see [`Endpoint::stream`].
    ///
    /// # Errors
    /// Those of [`Endpoint::stream`].
    pub async fn stream(
        &self,
        address: &str,
        data: impl Into<Bytes>,
    ) -> Result<ReplyStream, Error> {
        self.endpoint(address).stream(data).await
    }

    /// Calls a service without wanting a reply; see [`Endpoint::push`].
    ///
    /// # Errors
    /// Those of [`Endpoint::push`].
    pub async fn push(&self, address: &str, data: impl Into<Bytes>) -> Result<(), Error> {
        self.endpoint(address).push(data).await
    }

    /// Subscribes to a topic, or to all topics that a pattern stands for: the segment `*` is any one
    /// segment, `**` any number of them. Events that are announced after this returns are received.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::BadRequest`] if the router refuses it, [`Error::Timeout`],
    /// [`Error::NotSent`], [`Error::ConnectionLost`].
    pub async fn subscribe(&self, topic: &str) -> Result<Subscription, Error> {
        let topic = Topic::new(topic)?;
        let shared = self.shared();
        let queue = Arc::new(Queue::new(shared.options().buffer_limit, WhenFull::Drop));
        let (key, confirmed) = shared.subscribe(&topic, queue.clone())?;
        // Made before the router has answered: if it refuses, or this future is dropped, the
        // subscription is undone.
        let subscription = Subscription::new(self.clone(), topic.clone(), key, queue);
        confirmed.await?;
        Ok(subscription)
    }

    /// Announces an event to everyone who subscribed to the topic; a pattern reaches all whose
    /// subscriptions share a topic with it. Waits until the router has taken it, not until it has
    /// arrived.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::TooLarge`], [`Error::Timeout`], [`Error::NotSent`], [`Error::ConnectionLost`].
    pub async fn broadcast(&self, topic: &str, data: impl Into<Bytes>) -> Result<(), Error> {
        let topic = Topic::new(topic)?;
        let event = BroadcastRequest {
            caller: self.shared().options().name.clone(),
            data: data.into(),
            topic: topic.to_string(),
        };
        self.shared().broadcast(event).await
    }

    /// Waits until the connection is gone: what a program does that only serves.
    ///
    /// # Errors
    /// [`Error::ConnectionLost`], unless it was closed on this side.
    pub async fn closed(&self) -> Result<(), Error> {
        match self.shared().wait_lost().await {
            LostReason::Closed => Ok(()),
            reason => Err(Error::ConnectionLost(reason)),
        }
    }

    /// Waits until all that was sent has left, at most for the time that a request may take, then
    /// closes the connection for all handles.
    pub async fn close(self) {
        let after = self.shared().options().request_timeout;
        // What a router does not read in this time, it never will.
        let _ = tokio::time::timeout(after, self.shared().link().drained()).await;
        self.shared().lose(LostReason::Closed);
    }
}
