//! Calling services, and reading replies and events, without a runtime.

use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};

use crate::api::reply_stream::ReplyStream;
use crate::api::service::AnswerStream;
use crate::api::subscription::Subscription;
use crate::blocking::runtime::Runtime;
use crate::error::Error;
use crate::headers::Headers;
use crate::message::{Answer, Message};
use crate::reply::Reply;

/// An address to call, with the options of its calls. Made by [`Bus::endpoint`](crate::blocking::Bus::endpoint).
#[derive(Debug, Clone)]
pub struct Endpoint {
    pub(super) endpoint: crate::Endpoint,
    pub(super) runtime: Arc<Runtime>,
}

impl Endpoint {
    /// The endpoint with other options, those of [`crate::Endpoint`]:
    ///
    /// ```
    /// # use std::time::Duration;
    /// # fn example(bus: gsb_client::blocking::Bus) -> Result<(), gsb_client::Error> {
    /// let wait = Duration::from_secs(5);
    /// let clock = bus.endpoint("/clock").with(|clock| clock.caller("me").wait_for_service(wait));
    /// clock.call("")?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with(self, change: impl FnOnce(crate::Endpoint) -> crate::Endpoint) -> Self {
        Endpoint { endpoint: change(self.endpoint), runtime: self.runtime }
    }

    /// Calls the service and waits for its reply.
    ///
    /// # Errors
    /// Those of [`crate::Endpoint::call`].
    ///
    /// # Panics
    /// Within an async context.
    #[track_caller]
    pub fn call(&self, data: impl Into<Bytes>) -> Result<Bytes, Error> {
        self.runtime.block_on(self.endpoint.call(data))
    }

    /// Calls the service and waits for its reply with its headers.
    ///
    /// # Errors
    /// Those of [`crate::Endpoint::call_reply`].
    ///
    /// # Panics
    /// Within an async context.
    #[track_caller]
    pub fn call_reply(&self, data: impl Into<Bytes>) -> Result<Reply, Error> {
        self.runtime.block_on(self.endpoint.call_reply(data))
    }

    /// Calls the service and returns its replies as they arrive.
    ///
    /// # Errors
    /// Those of [`crate::Endpoint::stream`].
    ///
    /// # Panics
    /// Within an async context.
    #[track_caller]
    pub fn stream(&self, data: impl Into<Bytes>) -> Result<Items<ReplyStream>, Error> {
        let stream = self.runtime.block_on(self.endpoint.stream(data))?;
        Ok(Items { stream, runtime: self.runtime.clone() })
    }

    /// Calls the service without a reply. Returns when the push is queued.
    ///
    /// # Errors
    /// Those of [`crate::Endpoint::push`].
    ///
    /// # Panics
    /// Within an async context.
    #[track_caller]
    pub fn push(&self, data: impl Into<Bytes>) -> Result<(), Error> {
        self.runtime.block_on(self.endpoint.push(data))
    }
}

/// Calls a service with typed messages. Made by [`Bus::service`](crate::blocking::Bus::service).
#[derive(Debug, Clone)]
pub struct Service {
    pub(super) service: crate::Service,
    pub(super) runtime: Arc<Runtime>,
}

impl Service {
    /// The service with other options, those of [`crate::Service`].
    #[must_use]
    pub fn with(self, change: impl FnOnce(crate::Service) -> crate::Service) -> Self {
        Service { service: change(self.service), runtime: self.runtime }
    }

    /// Sends a message and waits for the answer.
    ///
    /// # Errors
    /// Those of [`crate::Service::call`].
    ///
    /// # Panics
    /// Within an async context.
    #[track_caller]
    pub fn call<M: Message>(&self, message: M) -> Result<Answer<M>, Error> {
        self.runtime.block_on(self.service.call(message))
    }

    /// Sends a message and returns the items of the answer as they arrive.
    ///
    /// # Errors
    /// Those of [`crate::Service::stream`].
    ///
    /// # Panics
    /// Within an async context.
    #[track_caller]
    pub fn stream<M: Message>(&self, message: M) -> Result<Items<AnswerStream<M>>, Error> {
        let stream = self.runtime.block_on(self.service.stream(message))?;
        Ok(Items { stream, runtime: self.runtime.clone() })
    }

    /// Sends a message without an answer.
    ///
    /// # Errors
    /// Those of [`crate::Service::push`].
    ///
    /// # Panics
    /// Within an async context.
    #[track_caller]
    pub fn push<M: Message>(&self, message: M) -> Result<(), Error> {
        self.runtime.block_on(self.service.push(message))
    }
}

/// The items of a stream as an iterator, which waits for each: the replies of a call, the answers of a typed call, or
/// the events of a subscription. It ends as the stream does, and dropping it drops the stream.
///
/// [`Bus::shutdown`](crate::blocking::Bus::shutdown) on another thread ends an iterator that waits.
///
/// # Panics
/// Within an async context.
#[derive(Debug)]
#[must_use = "an iterator does nothing unless it is read, and dropping it drops its stream"]
pub struct Items<S> {
    pub(super) stream: S,
    pub(super) runtime: Arc<Runtime>,
}

impl<S: Stream + Unpin> Iterator for Items<S> {
    type Item = S::Item;

    #[track_caller]
    fn next(&mut self) -> Option<S::Item> {
        self.runtime.block_on(self.stream.next())
    }
}

impl Items<ReplyStream> {
    /// The headers of the reply that was read last; see [`ReplyStream::headers`].
    pub fn headers(&self) -> &Headers {
        self.stream.headers()
    }
}

impl Items<Subscription> {
    /// Ends the subscription and waits until the router has confirmed it.
    ///
    /// # Errors
    /// Those of [`Subscription::unsubscribe`].
    ///
    /// # Panics
    /// Within an async context.
    #[track_caller]
    pub fn unsubscribe(self) -> Result<(), Error> {
        self.runtime.block_on(self.stream.unsubscribe())
    }
}
