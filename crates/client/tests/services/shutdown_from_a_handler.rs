//! A handler that shuts its bus down does not wait for itself.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::join_all;
use gsb_client::{Bus, Call, Error, Failure, Message, WeakBus};
use gsb_testkit::{TestRouter, within};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc};

/// Longer than any test waits.
const TIMEOUT: Duration = Duration::from_secs(3600);

#[derive(Serialize, Deserialize, Message)]
#[message(id = "stop")]
struct Stop;

async fn shut_down(bus: WeakBus) -> Result<(), Failure> {
    let bus = bus.upgrade().ok_or_else(|| Failure::new("the bus has ended"))?;
    Ok(bus.shutdown(TIMEOUT).await?)
}

/// Registers handlers that shut the bus down in each possible way. Returns a receiver of their results.
async fn serve(bus: &Bus) -> mpsc::UnboundedReceiver<Result<(), Failure>> {
    let (done, outcomes) = mpsc::unbounded_channel();
    let note = {
        let weak = bus.downgrade();
        move || {
            let (weak, done) = (weak.clone(), done.clone());
            async move {
                let outcome = shut_down(weak).await;
                done.send(outcome).unwrap();
            }
        }
    };
    let (call, stream, push, typed) = (note.clone(), note.clone(), note.clone(), note);
    let call = move |_: Call| {
        let stop = call();
        async move {
            stop.await;
            Ok("stopped")
        }
    };
    let stream = move |_: Call| {
        let stop = stream();
        futures::stream::once(async move {
            stop.await;
            Ok(Bytes::new())
        })
    };
    let weak = bus.downgrade();
    let relay = move |call: Call| {
        let bus = weak.upgrade();
        async move {
            let bus = bus.ok_or_else(|| Failure::new("the bus has ended"))?;
            Ok(bus.call("/call", call.data).await?)
        }
    };
    let typed = move |Stop| {
        let stop = typed();
        async move {
            stop.await;
            Ok(())
        }
    };
    bus.register("/call", call).await.unwrap().detach();
    bus.register("/relay", relay).await.unwrap().detach();
    bus.register_stream("/stream", stream).await.unwrap().detach();
    bus.register_push("/push", move |_: Call| push()).await.unwrap().detach();
    bus.bind("/typed", typed).await.unwrap().detach();
    outcomes
}

#[tokio::test]
async fn in_process_and_over_a_router() {
    let router = TestRouter::start().await;
    for is_local in [true, false] {
        for address in ["/call", "/relay", "/stream", "/push", "/typed"] {
            let bus = match is_local {
                true => Bus::local(),
                false => Bus::connect(&router.unix).await.unwrap(),
            };
            let mut outcomes = serve(&bus).await;
            let caller = match is_local {
                true => bus.clone(),
                false => Bus::connect(&router.unix).await.unwrap(),
            };
            let call = tokio::spawn(async move {
                match address {
                    "/stream" => drop(caller.stream(address, "").await.unwrap().next().await),
                    "/push" => caller.push(address, "").await.unwrap(),
                    "/typed" => drop(caller.service(address).call(Stop).await),
                    _ => drop(caller.call(address, "").await),
                }
                caller
            });
            let outcome = within("the shutdown", outcomes.recv()).await.unwrap();
            assert!(outcome.is_ok(), "{address}: {outcome:?}");
            within("the end of the call", call).await.unwrap();
            assert!(matches!(bus.call("/call", "").await, Err(Error::ShutDown)));
        }
    }
    router.stop().await;
}

#[tokio::test]
async fn all_others_are_waited_for() {
    let bus = Bus::local();
    let mut outcomes = serve(&bus).await;
    let gate = Arc::new(Notify::new());
    let held = gate.clone();
    let hold = move |_: Call| {
        let gate = held.clone();
        async move {
            gate.notified().await;
            Ok("")
        }
    };
    let _held = bus.register("/held", hold).await.unwrap();
    let mut held = Box::pin(bus.call("/held", ""));
    assert!(futures::poll!(&mut held).is_pending());
    // Several shutdowns at the same time, one of them outside of a handler, do not wait for each other.
    let calls: Vec<_> = (0..3)
        .map(|_| {
            let bus = bus.clone();
            tokio::spawn(async move { bus.call("/call", "").await })
        })
        .collect();
    let outside = tokio::spawn({
        let bus = bus.clone();
        async move { bus.shutdown(TIMEOUT).await }
    });
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(outcomes.try_recv().is_err(), "it has not waited for the other call");
    gate.notify_one();
    within("the other call", held).await.unwrap();
    for _ in 0..3 {
        within("the shutdown", outcomes.recv()).await.unwrap().unwrap();
    }
    within("the other shutdown", outside).await.unwrap().unwrap();
    within("the calls", join_all(calls)).await;
}
