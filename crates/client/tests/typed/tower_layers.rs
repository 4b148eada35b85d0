//! Layers of tower around calls to a typed service, and around handlers.

use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use gsb_client::{Answer, Bus, Call, Error, Failure, Message, Reply};
use gsb_testkit::{TestRouter, within};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc};
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

/// A local bus, and two buses with a router between them: the side of services, and that of callers.
async fn sides() -> (TestRouter, [(Bus, Bus); 2]) {
    let router = TestRouter::start().await;
    let local = Bus::local();
    let service = Bus::connect(&router.unix).await.unwrap();
    let caller = Bus::connect(&router.unix).await.unwrap();
    (router, [(local.clone(), local), (service, caller)])
}

#[tokio::test]
async fn a_service_of_bytes_has_layers() {
    let (router, sides) = sides().await;
    for (service, caller) in sides {
        let refuse = |call: Call| match call.headers().text("authorization") {
            Some("sesame") => Ok(call),
            _ => Err(Failure::bad_request("the token is wrong")),
        };
        let answer = |call: Call| async move {
            match &call.data[..] {
                b"" => Err(Failure::new("nothing to do")),
                b"never" => std::future::pending().await,
                _ => Ok(Reply::new(call.data).header("seen", "yes")),
            }
        };
        let layered = ServiceBuilder::new()
            .timeout(Duration::from_millis(50))
            .filter(refuse)
            .service_fn(answer);
        let _echo = service.register_service("/echo", layered).await.unwrap();

        let endpoint = caller.endpoint("/echo").header("authorization", "sesame");
        let reply = endpoint.call_reply("data").await.unwrap();
        assert_eq!(reply, Reply::new("data").header("seen", "yes"));
        let (address, target) = ("/echo".to_owned(), "/echo".to_owned());
        let message = "the token is wrong".to_owned();
        assert_eq!(caller.call("/echo", "x").await, Err(Error::BadRequest { target, message }));
        let failed = |message: &str| {
            Err(Error::ServiceFailure { address: address.clone(), message: message.to_owned() })
        };
        assert_eq!(endpoint.call("").await, failed("nothing to do"));
        assert_eq!(endpoint.call("never").await, failed("request timed out"));
    }
    router.stop().await;
}

// A call waits until its service is ready, or is shed.
#[tokio::test]
async fn a_service_that_is_not_ready_is_not_called() {
    let (router, sides) = sides().await;
    for (service, caller) in sides {
        let (entered, mut running) = mpsc::unbounded_channel();
        let gate = Arc::new(Notify::new());
        let held = gate.clone();
        let inside = Arc::new(AtomicU32::new(0));
        let handler = move |call: Call| {
            let (entered, held, inside) = (entered.clone(), held.clone(), inside.clone());
            async move {
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "the limit is 1");
                entered.send(call.data.clone()).unwrap();
                held.notified().await;
                inside.fetch_sub(1, Ordering::SeqCst);
                Ok::<_, Failure>(call.data)
            }
        };
        // One limit for both.
        let limited = ServiceBuilder::new().concurrency_limit(1).service_fn(handler);
        let shedding = ServiceBuilder::new().load_shed().service(limited.clone());
        let _limited = service.register_service("/limited", limited).await.unwrap();
        let _probe = service.register("/probe", |_: Call| async { Ok("") }).await.unwrap();
        let _shedding = service.register_service("/shedding", shedding).await.unwrap();

        let first = caller.call("/limited", "1");
        let others = async {
            assert_eq!(within("the first call", running.recv()).await.unwrap(), "1");
            let shed = caller.call("/shedding", "shed").await;
            let Err(Error::ServiceFailure { message, .. }) = &shed else { panic!("{shed:?}") };
            assert_eq!(message, "service overloaded");
            let second = async {
                assert_eq!(caller.call("/limited", "2").await.unwrap(), "2");
            };
            let released = async {
                // The answer shows that the second call has arrived, too.
                caller.call("/probe", "").await.unwrap();
                gate.notify_one();
                assert_eq!(within("the second call", running.recv()).await.unwrap(), "2");
                gate.notify_one();
            };
            tokio::join!(second, released);
        };
        let (first, ()) = tokio::join!(first, others);
        assert_eq!(first.unwrap(), "1");
    }
    router.stop().await;
}

#[derive(Serialize, Deserialize, Message)]
#[message(id = "half", item = u32, error = String)]
struct Half(u32);

#[tokio::test]
async fn a_typed_service_has_layers() {
    let (router, sides) = sides().await;
    for (service, caller) in sides {
        let half = |call: Call<Half>| async move {
            match call.data.0 {
                0 => std::future::pending().await,
                odd if odd % 2 == 1 => Ok::<_, Failure>(Err(format!("{odd} is odd"))),
                even => Ok(Ok(even / 2)),
            }
        };
        let layered = ServiceBuilder::new().timeout(Duration::from_millis(50)).service_fn(half);
        let _half = service.bind_service("/math", layered).await.unwrap();
        let math = caller.service("/math");
        assert_eq!(math.call(Half(8)).await.unwrap(), Ok(4));
        assert_eq!(math.call(Half(7)).await.unwrap(), Err("7 is odd".to_owned()));
        let late = math.call(Half(0)).await;
        let Err(Error::ServiceFailure { message, .. }) = &late else { panic!("{late:?}") };
        assert_eq!(message, "request timed out");
        let garbled = caller.call("/math/half", "no number").await;
        assert!(matches!(garbled, Err(Error::BadRequest { .. })), "{garbled:?}");
    }
    router.stop().await;
}
