//! A typed service with layers of tower around it.

use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use gsb_client::{Answer, Bus, Error, Message};
use gsb_testkit::TestRouter;
use serde::{Deserialize, Serialize};
use tower::retry::Policy;
use tower::{ServiceBuilder, ServiceExt as _};

#[derive(Clone, Serialize, Deserialize)]
struct Sleep {
    milliseconds: u64,
}

impl Message for Sleep {
    const ID: &'static str = "sleep";
    type Item = ();
    type Error = ();
}

/// A retry policy for calls that the service failed.
#[derive(Clone)]
struct Again;

impl Policy<Sleep, Answer<Sleep>, Error> for Again {
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _: &mut Sleep,
        result: &mut Result<Answer<Sleep>, Error>,
    ) -> Option<Self::Future> {
        matches!(result, Err(Error::ServiceFailure { .. })).then(|| ready(()))
    }

    fn clone_request(&mut self, request: &Sleep) -> Option<Sleep> {
        Some(request.clone())
    }
}

#[tokio::test]
async fn timeouts_and_retries_come_from_tower() {
    let router = TestRouter::start().await;
    let server = Bus::connect(&router.unix).await.unwrap();
    let bus = Bus::connect(&router.unix).await.unwrap();
    let calls = Arc::new(AtomicU32::new(0));
    let handler = {
        let calls = calls.clone();
        move |Sleep { milliseconds }| {
            // The first two fail.
            assert!(calls.fetch_add(1, Ordering::SeqCst) >= 2, "on purpose");
            async move {
                tokio::time::sleep(Duration::from_millis(milliseconds)).await;
                Ok(())
            }
        }
    };
    let _sleep = server.bind("/bed", handler).await.unwrap();
    let service = ServiceBuilder::new().retry(Again).service(bus.service("/bed"));
    assert_eq!(service.oneshot(Sleep { milliseconds: 0 }).await.unwrap(), Ok(()));
    assert_eq!(calls.load(Ordering::SeqCst), 3);

    let short = Duration::from_millis(20);
    let service = ServiceBuilder::new().timeout(short).service(bus.service("/bed"));
    let error = service.oneshot(Sleep { milliseconds: 60_000 }).await.unwrap_err();
    assert!(error.is::<tower::timeout::error::Elapsed>(), "{error}");
    router.stop().await;
}
