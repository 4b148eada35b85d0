//! Tower's timeouts, retries, limits and load shedding, around the calls to a typed service and around handlers.

use std::future::poll_fn;
use std::task::{Context, Poll};

use futures::future::BoxFuture;

use crate::api::bind::{address, encode_answer, not_decoded};
use crate::api::bus::Bus;
use crate::api::registration::Registering;
use crate::api::service::Service;
use crate::call::Call;
use crate::encoding::offload::decode_owned;
use crate::error::Error;
use crate::failure::{BoxError, Failure};
use crate::message::{Answer, Message};
use crate::reply::Reply;

/// Needs the feature `tower`. The service is always ready: use a layer such as `concurrency_limit` to limit its open
/// calls.
///
/// ```
/// # use gsb_client::{Bus, Message};
/// # use serde::{Deserialize, Serialize};
/// use std::time::Duration;
/// use tower::{ServiceBuilder, ServiceExt};
///
/// # #[derive(Serialize, Deserialize)]
/// # struct Divide(f64, f64);
/// # impl Message for Divide {
/// #     const ID: &'static str = "divide";
/// #     type Item = f64;
/// #     type Error = String;
/// # }
/// # async fn example(bus: Bus) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let math = ServiceBuilder::new()
///     .concurrency_limit(10)
///     .timeout(Duration::from_secs(1))
///     .service(bus.service("/math"));
/// let half = math.oneshot(Divide(1.0, 2.0)).await?;
/// assert_eq!(half, Ok(0.5));
/// # Ok(())
/// # }
/// ```
impl<M: Message> tower_service::Service<M> for Service {
    type Response = Answer<M>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Answer<M>, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, message: M) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { Service::call(&service, message).await })
    }
}

impl Bus {
    /// Registers a tower service that answers each call with one reply, for example a handler with layers around it.
    /// Needs the feature `tower`. The service answers with any value that converts into [`Bytes`](crate::Bytes), or with a
    /// [`Reply`].
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), gsb_client::Error> {
    /// use std::task::{Context, Poll};
    /// use std::time::Duration;
    /// use futures::future::{Either, Ready, ready};
    /// use gsb_client::{Bus, Bytes, Call, Error, Failure};
    /// use tower::{Service, ServiceBuilder, layer::layer_fn};
    ///
    /// /// A layer that refuses callers without the right token.
    /// #[derive(Clone)]
    /// struct Authorized<S>(S);
    ///
    /// impl<S: Service<Call, Error = Failure>> Service<Call> for Authorized<S> {
    ///     type Response = S::Response;
    ///     type Error = Failure;
    ///     type Future = Either<S::Future, Ready<Result<S::Response, Failure>>>;
    ///
    ///     fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
    ///         self.0.poll_ready(cx)
    ///     }
    ///
    ///     fn call(&mut self, call: Call) -> Self::Future {
    ///         match call.headers().text("authorization") {
    ///             Some("Bearer sesame") => Either::Left(self.0.call(call)),
    ///             _ => Either::Right(ready(Err(Failure::bad_request("the token is wrong")))),
    ///         }
    ///     }
    /// }
    ///
    /// let echo = ServiceBuilder::new()
    ///     .timeout(Duration::from_secs(1))
    ///     .concurrency_limit(10)
    ///     .layer(layer_fn(Authorized))
    ///     .service_fn(|call: Call| async move { Ok::<Bytes, Failure>(call.data) });
    ///
    /// let bus = Bus::local();
    /// let _echo = bus.register_service("/echo", echo).await?;
    /// assert!(matches!(bus.call("/echo", "hello").await, Err(Error::BadRequest { .. })));
    /// let endpoint = bus.endpoint("/echo").header("authorization", "Bearer sesame");
    /// assert_eq!(endpoint.call("hello").await?, "hello");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Each call gets a clone of the service, which it calls when the clone is ready. Until then the call counts as
    /// running: [`Bus::with_max_running`] limits how many calls wait. An error of the service or of a layer becomes the
    /// [`Failure`] of the call; a [`Failure`] stays as it is, also within a boxed error.
    ///
    /// Put a service that is not `Sync` into a `BoxCloneSyncService` or a buffer, and a service that is not `Clone`, such
    /// as that of `rate_limit`, into a buffer.
    ///
    /// # Errors
    /// Those of [`Bus::register`].
    pub fn register_service<S>(&self, service_id: &str, service: S) -> Registering
    where
        S: tower_service::Service<Call> + Clone + Send + Sync + 'static,
        S::Response: Into<Reply>,
        S::Error: Into<BoxError>,
        S::Future: Send,
    {
        self.register(service_id, move |call| oneshot(service.clone(), call))
    }

    /// Serves a message with a tower service; see [`Bus::register_service`] and [`Bus::bind_call`]. The service answers with
    /// an [`Answer`], which includes its own error; an error of a layer becomes the [`Failure`] of the call.
    ///
    /// Messages and answers are encoded within the process, too: an `Answer` cannot hold a `Failure`.
    ///
    /// # Errors
    /// Those of [`Bus::register`].
    pub fn bind_service<M, S>(&self, service_id: &str, service: S) -> Registering
    where
        M: Message,
        S: tower_service::Service<Call<M>, Response = Answer<M>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
    {
        let encoding = self.engine().options().encoding.clone();
        self.register(&address::<M>(service_id), move |call: Call| {
            let (service, encoding) = (service.clone(), encoding.clone());
            async move {
                let message = decode_owned(&encoding, call.data.clone()).await;
                let call = call.with_data(message.map_err(not_decoded::<M>)?);
                encode_answer::<M>(&encoding, oneshot(service, call).await?).await
            }
        })
    }
}

/// Calls a service as soon as it is ready.
async fn oneshot<S, C>(mut service: S, call: C) -> Result<S::Response, Failure>
where
    S: tower_service::Service<C>,
    S::Error: Into<BoxError>,
{
    let failure = |error: S::Error| Failure::from_boxed(error.into());
    poll_fn(|cx| service.poll_ready(cx)).await.map_err(failure)?;
    service.call(call).await.map_err(failure)
}
