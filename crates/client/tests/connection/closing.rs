//! Data that was sent before a bus is closed, shut down or dropped arrives, also over TCP, and also while unread data
//! comes in: a TCP socket that is closed with unread data drops what the other side has not read.

use std::time::Duration;

use futures::StreamExt as _;
use gsb_client::{Bus, Call};
use gsb_testkit::{TIMEOUT, TestRouter, within};
use tokio::sync::mpsc;

const ROUNDS: usize = 5;
const PUSHES: usize = 300;

#[derive(Debug, Clone, Copy)]
enum End {
    Close,
    Shutdown,
    Drop,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_it_ends() {
    let router = TestRouter::start().await;
    let service = Bus::connect(&router.unix).await.unwrap();
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let handler = move |call: Call| {
        arrived.send(call.data.len()).unwrap();
        async {}
    };
    let _log = service.register_push("/log", handler).await.unwrap();
    // A publisher that sends without a pause.
    let talker = Bus::connect(&router.unix).await.unwrap();
    let talking = tokio::spawn(async move {
        loop {
            talker.broadcast("t", vec![7; 1000]).await.unwrap();
        }
    });
    for end in [End::Close, End::Shutdown, End::Drop] {
        for _ in 0..ROUNDS {
            let bus = Bus::connect(&router.tcp).await.unwrap();
            let mut events = bus.subscribe("t").await.unwrap();
            within("an event", events.next()).await.unwrap().unwrap();
            for _ in 0..PUSHES {
                bus.push("/log", vec![7; 20_000]).await.unwrap();
            }
            match end {
                End::Close => bus.close().await,
                End::Shutdown => bus.shutdown(TIMEOUT).await.unwrap(),
                End::Drop => drop((bus, events)),
            }
            for number in 0..PUSHES {
                let arrival = tokio::time::timeout(Duration::from_secs(5), arrivals.recv()).await;
                assert_eq!(arrival, Ok(Some(20_000)), "{number} of {PUSHES} after {end:?}");
            }
        }
    }
    talking.abort();
    router.stop().await;
}
