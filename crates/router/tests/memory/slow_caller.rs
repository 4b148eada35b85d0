//! A caller that asks for a long stream and never reads costs no more memory than its queue limit, and delays the other
//! callers of that service once, by the stall timeout. Rules LI-2, LI-3; with small limits: flow/stalled_peers.rs.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use gsb_proto::Framing;
use gsb_proto::messages::*;
use gsb_testkit::{Peer, RouterProcess, mebibytes};

const ROUTER: &str = env!("CARGO_BIN_EXE_router");

const STALL: Duration = Duration::from_secs(1);

/// How much longer than the stall timeout a delayed call may take on a busy machine.
const SLACK: Duration = Duration::from_secs(1);

/// Bytes of one reply of the stream.
const PART: usize = 64 << 10;

/// `LI-2`, per connection and purpose.
const LIMIT: u64 = 16 << 20;

async fn stream(total: usize) {
    let arguments = ["--stall-timeout", "1s", "--write-timeout", "1h"];
    let router = RouterProcess::isolated(ROUTER, arguments).await;
    let mut service = Peer::connect(router.unix(), Framing::Packet).await;
    let mut deaf = Peer::connect(router.unix(), Framing::Packet).await;
    let mut caller = Peer::connect(router.tcp(), Framing::Packet).await;
    assert_eq!(service.register("/s").await, 0);
    let start = router.usage();
    deaf.call("/s", "stream", "").await;
    let CallRequest { request_id: stream, .. } = service.expect().await;
    let (mut parts, mut waits) = (0, Vec::new());
    let data = Bytes::from(vec![b'x'; PART]);
    while parts * PART < total {
        // After four replies, the call of another caller is answered, behind the replies that were sent before.
        for _ in 0..4 {
            let (request_id, data) = (stream.clone(), data.clone());
            let part = CallReply { request_id, data, reply_type: 1, ..Default::default() };
            service.send_frame(part.into_frame()).await;
            parts += 1;
        }
        let began = Instant::now();
        caller.call("/s", &parts.to_string(), "").await;
        let call: CallRequest = service.expect().await;
        service.reply(&call.request_id, "").await;
        let reply: CallReply = caller.expect().await;
        assert_eq!((reply.request_id, reply.code), (parts.to_string(), 0));
        waits.push(began.elapsed());
    }
    let delayed = waits.iter().filter(|wait| **wait >= STALL / 2).count();
    let worst = waits.iter().max().unwrap();
    let total = mebibytes(total as u64);
    println!("beside {total} that are not read {delayed} of {} calls were delayed:", waits.len());
    println!("the worst took {worst:?}, with a stall timeout of {STALL:?}");
    router.assert_memory_within(start, LIMIT);
    assert!(delayed <= 1, "{delayed} calls were delayed");
    assert!(*worst <= STALL + SLACK, "{worst:?}");
    // The stream ends with an error.
    let mut read = 0;
    let end = loop {
        let reply: CallReply = deaf.expect().await;
        if reply.reply_type == 0 {
            break reply;
        }
        read += reply.data.len() as u64;
    };
    assert_eq!((end.code, end.reason()), (500, CallReplyReason::ReasonCallerStalled));
    assert!(read <= LIMIT + (1 << 20), "{} waited", mebibytes(read));
}

#[tokio::test]
async fn a_hundred_and_twenty_eight_mebibytes() {
    stream(128 << 20).await;
}

#[tokio::test]
#[ignore = "takes longer than ten seconds where nothing is optimized"]
async fn one_gibibyte() {
    stream(1 << 30).await;
}
