//! A subscriber that never reads costs no more memory than its queue limit, however much is broadcast, and other
//! subscribers get all events in order. Rule LI-2; with small limits: flow/stalled_peers.rs.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::time::Instant;

use gsb_proto::Framing;
use gsb_proto::messages::*;
use gsb_testkit::{Peer, RouterProcess, mebibytes};
use tokio::sync::Semaphore;

const ROUTER: &str = env!("CARGO_BIN_EXE_router");

/// Bytes of one event.
const EVENT: usize = 64 << 10;

/// How many events the healthy subscriber may be behind: half of its queue limit.
const AHEAD: usize = (8 << 20) / EVENT;

/// `LI-2`, per connection and purpose.
const LIMIT: u64 = 16 << 20;

async fn broadcast(total: usize) {
    let router = RouterProcess::isolated(ROUTER, ["--write-timeout", "1h"]).await;
    let mut deaf = Peer::connect(router.unix(), Framing::Packet).await;
    let mut healthy = Peer::connect(router.unix(), Framing::Packet).await;
    let mut sender = Peer::connect(router.tcp(), Framing::Packet).await;
    assert_eq!((deaf.subscribe("news").await, healthy.subscribe("news").await), (0, 0));
    let start = router.usage();
    let began = Instant::now();
    let count = total / EVENT;
    let ahead = Semaphore::new(AHEAD);
    let sending = async {
        for number in 0..count as u64 {
            ahead.acquire().await.unwrap().forget();
            let mut data = vec![0; EVENT];
            data[..8].copy_from_slice(&number.to_be_bytes());
            let (caller, topic) = ("/test".into(), "news".into());
            sender
                .send_frame(
                    BroadcastRequest {
                        caller,
                        topic,
                        data: data.into(),
                        missed: 0,
                        ..Default::default()
                    }
                    .into_frame(),
                )
                .await;
            assert_eq!(sender.expect::<BroadcastReply>().await.code, 0);
        }
    };
    let reading = async {
        for number in 0..count as u64 {
            let event: BroadcastRequest = healthy.expect().await;
            assert_eq!((event.data.len(), &event.data[..8]), (EVENT, &number.to_be_bytes()[..]));
            ahead.add_permits(1);
        }
    };
    tokio::join!(sending, reading);
    let took = began.elapsed().as_secs_f64();
    println!("{} broadcast in {took:.1} s beside a deaf subscriber:", mebibytes(total as u64));
    // For either subscriber.
    router.assert_memory_within(start, 2 * LIMIT);
    // The missed events are counted, and the connection stays open: when the peer reads, it gets the first events.
    for number in 0..10u64 {
        let event: BroadcastRequest = deaf.expect().await;
        assert_eq!(&event.data[..8], &number.to_be_bytes()[..]);
    }
    drop((deaf, healthy, sender));
}

#[tokio::test]
async fn sixty_four_mebibytes() {
    broadcast(64 << 20).await;
}

#[tokio::test]
#[ignore = "takes longer than ten seconds where nothing is optimized"]
async fn one_gibibyte() {
    broadcast(1 << 30).await;
}
