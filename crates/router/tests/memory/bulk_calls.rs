//! Many calls that end at the same time, because their service does not read them or is gone, do not delay other calls.
//! Rules LI-3, CO-7.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::time::{Duration, Instant};

use bytes::BytesMut;
use gsb_proto::Framing;
use gsb_proto::messages::*;
use gsb_testkit::{BackgroundCalls, Peer, RouterProcess};

const ROUTER: &str = env!("CARGO_BIN_EXE_router");

const CALLS: usize = 60_000;

/// Rule LI-2, per connection and purpose.
const LIMIT: u64 = 16 << 20;

/// The most memory of an open call in bytes.
const CALL: u64 = 512;

fn bulk() -> BytesMut {
    let mut bytes = BytesMut::new();
    for number in 0..CALLS {
        let (address, request_id) = ("/stalled".to_owned(), number.to_string());
        let call = CallRequest { address, request_id, ..CallRequest::default() };
        assert!(call.to_frame().encode(Framing::Packet, &mut bytes));
    }
    bytes
}

/// Makes the calls, and checks that each ends once. After the last stalled call, the service disconnects: the calls in
/// its socket buffer count as delivered, and end then. Returns how many calls ended for each reason, and the time it
/// took.
async fn call_and_lose(mut caller: Peer, service: Peer) -> [(usize, Duration); 2] {
    caller.send_bytes(&bulk()).await;
    let mut service = Some(service);
    let mut is_open = vec![true; CALLS];
    let mut ended = [(0, Duration::ZERO); 2];
    let mut since = None;
    for _ in 0..CALLS {
        let end: CallReply = caller.expect().await;
        let begin = *since.get_or_insert_with(Instant::now);
        assert_eq!(end.code(), CallReplyCode::ServiceFailure);
        let which = match end.reason() {
            CallReplyReason::ReasonServiceStalled => 0,
            CallReplyReason::ReasonServiceGone => 1,
            other => panic!("{other:?}"),
        };
        let (count, took) = &mut ended[which];
        (*count, *took) = (*count + 1, begin.elapsed());
        let number: usize = end.request_id.parse().unwrap();
        assert!(std::mem::take(&mut is_open[number]), "call {number} ends twice");
        if number + 1 == CALLS {
            drop(service.take());
            since = None;
        }
    }
    ended
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_thousand_calls_that_end_at_once_do_not_delay_others() {
    let router = RouterProcess::isolated(ROUTER, ["--stall-timeout", "1s"]).await;
    let mut background_calls = BackgroundCalls::start(router.unix()).await;
    background_calls.call().await;
    let start = router.usage();
    let mut service = Peer::connect(router.unix(), Framing::Packet).await;
    assert_eq!(service.register("/stalled").await, 0);
    let caller = Peer::connect(router.unix(), Framing::Packet).await;

    // In its own task, so that its computation does not count as waiting.
    let calls = tokio::spawn(call_and_lose(caller, service));
    let [(stalled, stalling), (gone, going)] = background_calls.during(calls).await.unwrap();
    assert!(stalled > 0 && gone > 0);
    println!("{stalled} calls that were not read ended within {stalling:.1?},");
    println!("{gone} others ended within {going:.1?} after their service disconnected;");
    println!(
        "of {} calls beside, the longest took {:.1?}",
        background_calls.calls, background_calls.worst
    );
    router.assert_memory_within(start, LIMIT + CALLS as u64 * CALL);
}
