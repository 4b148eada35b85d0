//! A caller gets the replies to its own calls from the service that it called, and no other replies, whatever ids
//! callers choose and whatever peers reply. Rules CA-1 to CA-6, CO-8; each rule alone: crates/core/tests/calls.rs.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::collections::HashMap;

use gsb_proto::Framing;
use gsb_proto::messages::*;
use gsb_testkit::{Peer, RouterProcess};

const ROUTER: &str = env!("CARGO_BIN_EXE_router");

/// Callers that use the same ids at the same time.
const CALLERS: usize = 8;

/// Open calls of each caller.
const CALLS: usize = 50;

async fn start() -> RouterProcess {
    // Stopping checks that no call is open.
    RouterProcess::isolated(ROUTER, ["--drain-timeout", "1h"]).await
}

/// Connects with each combination of framing and socket in turn.
async fn connect(router: &RouterProcess, number: usize) -> Peer {
    let framing = if number % 4 < 2 { Framing::Packet } else { Framing::Classic };
    Peer::connect(&router.addresses[number % 2], framing).await
}

/// Sends replies with the ids of a service, from a peer that was not called.
async fn forge(peer: &mut Peer, given: &[CallRequest]) {
    for call in given {
        peer.part(&call.request_id, "forged").await;
        peer.reply(&call.request_id, "forged").await;
    }
    peer.expect_nothing().await;
}

#[tokio::test]
async fn forged_and_late_replies_and_equal_ids_do_not_mix_up_callers() {
    let router = start().await;
    let mut random = fastrand::Rng::with_seed(7);
    let mut service = connect(&router, 0).await;
    let mut forger = connect(&router, 1).await;
    assert_eq!((service.register("/s").await, forger.register("/forger").await), (0, 0));
    let mut callers = Vec::new();
    for number in 0..CALLERS {
        callers.push(connect(&router, number).await);
    }
    // The next round uses the same ids again.
    for round in 0..5 {
        for id in 0..CALLS {
            for (number, caller) in callers.iter_mut().enumerate() {
                let data = format!("caller {number} call {id} round {round}");
                caller.call("/s", &id.to_string(), &data).await;
            }
        }
        let mut given = Vec::new();
        for _ in 0..CALLERS * CALLS {
            given.push(service.expect::<CallRequest>().await);
        }
        let ids: HashMap<_, _> = given.iter().map(|call| (&call.request_id, call)).collect();
        assert_eq!(ids.len(), given.len(), "each call has its own id at the service");
        forge(&mut forger, &given).await;
        // A caller may not reply, either.
        forge(&mut callers[0], &given).await;
        random.shuffle(&mut given);
        for call in &given {
            let data = std::str::from_utf8(&call.data).unwrap();
            service.part(&call.request_id, &format!("{data} part")).await;
            service.reply(&call.request_id, &format!("{data} last")).await;
            // These calls have ended.
            service.part(&call.request_id, "late").await;
            service.reply(&call.request_id, "late").await;
        }
        service.expect_nothing().await;
        for (number, caller) in callers.iter_mut().enumerate() {
            let mut ended = Vec::new();
            let mut parts = Vec::new();
            while ended.len() < CALLS {
                let reply: CallReply = caller.expect().await;
                assert_eq!(reply.code, 0);
                let (id, is_last) = (reply.request_id, reply.reply_type == 0);
                let what = if is_last { "last" } else { "part" };
                let expected = format!("caller {number} call {id} round {round} {what}");
                assert_eq!(std::str::from_utf8(&reply.data).unwrap(), expected);
                if is_last {
                    assert!(parts.contains(&id), "the part comes before the end");
                    ended.push(id);
                } else {
                    parts.push(id);
                }
            }
            caller.expect_nothing().await;
            for mut ids in [ended, parts] {
                ids.sort();
                ids.dedup();
                assert_eq!(ids.len(), CALLS, "one of each for each call");
            }
        }
    }
    router.stop().await;
}

#[tokio::test]
async fn a_new_caller_gets_no_reply_for_an_old_caller_with_the_same_id() {
    let router = start().await;
    let mut service = connect(&router, 0).await;
    assert_eq!(service.register("/s").await, 0);
    let mut late = Vec::new();
    for round in 0..20 {
        let mut leaver = connect(&router, round).await;
        for id in 0..CALLS {
            leaver.call("/s", &id.to_string(), "old").await;
        }
        for _ in 0..CALLS {
            late.push(service.expect::<CallRequest>().await);
        }
        // The router has handled the end when it closes its side, too.
        leaver.hang_up().await;
        leaver.expect_close().await;
        let mut newcomer = connect(&router, round + 1).await;
        for id in 0..CALLS {
            newcomer.call("/s", &id.to_string(), "new").await;
        }
        let mut given = Vec::new();
        for _ in 0..CALLS {
            given.push(service.expect::<CallRequest>().await);
        }
        // Late replies for the old callers, and then the replies for the new ones.
        for call in late.drain(..) {
            service.part(&call.request_id, "for one who is gone").await;
            service.reply(&call.request_id, "for one who is gone").await;
        }
        for call in &given {
            assert_eq!(call.data, "new");
            service.reply(&call.request_id, "right").await;
        }
        for _ in 0..CALLS {
            let reply: CallReply = newcomer.expect().await;
            assert_eq!((&reply.data[..], reply.reply_type), (&b"right"[..], 0));
        }
        newcomer.expect_nothing().await;
    }
    router.stop().await;
}

// Rule CA-3.
#[tokio::test]
async fn a_second_call_with_an_open_id_does_not_disturb_the_first() {
    let router = start().await;
    let mut service = connect(&router, 0).await;
    assert_eq!(service.register("/s").await, 0);
    let mut caller = connect(&router, 1).await;
    for id in 0..CALLS {
        caller.call("/s", &id.to_string(), "first").await;
        caller.call("/s", &id.to_string(), "second").await;
        let refused: CallReply = caller.expect().await;
        assert_eq!((refused.request_id, refused.code), (id.to_string(), 400));
        let call: CallRequest = service.expect().await;
        assert_eq!(call.data, "first");
        service.reply(&call.request_id, "first").await;
        let reply: CallReply = caller.expect().await;
        assert_eq!((reply.code, &reply.data[..]), (0, &b"first"[..]));
    }
    service.expect_nothing().await;
    caller.expect_nothing().await;
    router.stop().await;
}
