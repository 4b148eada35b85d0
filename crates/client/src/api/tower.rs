//! A typed service as a [`tower_service::Service`], for tower's timeouts, retries, limits and load shedding.

use std::task::{Context, Poll};

use futures::future::BoxFuture;

use crate::api::service::Service;
use crate::error::Error;
use crate::message::{Answer, Message};

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
