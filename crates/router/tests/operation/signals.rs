//! After SIGTERM the router waits for open calls; a second signal ends it at once. Rule CO-17. The same within a
//! process: stopping.rs.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use gsb_proto::Framing;
use gsb_proto::messages::*;
use gsb_testkit::{Peer, RouterProcess, within};
use rustix::process::{Pid, Signal, kill_process};

const ROUTER: &str = env!("CARGO_BIN_EXE_router");

/// A router with an open call.
async fn with_open_call(drain_timeout: &str) -> (RouterProcess, Peer, Peer) {
    // The shortest timeout determines how soon a router detects that it was suspended.
    let arguments = ["--drain-timeout", drain_timeout, "--stall-timeout", "1s"];
    let router = RouterProcess::isolated(ROUTER, arguments).await;
    let mut service = Peer::connect(router.unix(), Framing::Packet).await;
    let mut caller = Peer::connect(router.tcp(), Framing::Classic).await;
    assert_eq!(service.register("/s").await, 0);
    caller.call("/s", "open", "").await;
    let CallRequest { .. } = service.expect().await;
    (router, service, caller)
}

/// A router with an open call that is stopping.
async fn stopping(drain_timeout: &str) -> (RouterProcess, Peer, Peer) {
    let (router, service, mut caller) = with_open_call(drain_timeout).await;
    router.process.signal("TERM").await;
    until_it_refuses(&mut caller).await;
    (router, service, caller)
}

/// Waits until the router refuses new calls: then it has handled the signal.
async fn until_it_refuses(caller: &mut Peer) {
    within("a refusal", async {
        for number in 0.. {
            let id = format!("new {number}");
            caller.call("/unknown", &id, "").await;
            let refused: CallReply = caller.expect().await;
            assert_eq!((&refused.request_id, refused.code), (&id, 400));
            if refused.reason() == CallReplyReason::ReasonRouterStops {
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn sigterm_waits_for_open_calls() {
    let (mut router, mut service, mut caller) = stopping("1h").await;
    service.part("open", "on").await;
    assert_eq!(caller.expect::<CallReply>().await.data, "on");
    service.reply("open", "end").await;
    let end: CallReply = caller.expect().await;
    assert_eq!((&end.data[..], end.code, end.reply_type), (&b"end"[..], 0, 0));
    caller.expect_close().await;
    service.expect_close().await;
    assert_eq!(router.process.wait().await.code(), Some(0));
}

// Rule LI-10.
#[tokio::test]
async fn sigterm_waits_for_replies_that_came_during_a_suspension() {
    let (mut router, mut service, mut caller) = stopping("2s").await;
    router.process.signal("STOP").await;
    service.reply("open", "end").await;
    // The passing of time is what this test is about.
    tokio::time::sleep(Duration::from_secs(3)).await;
    router.process.signal("CONT").await;
    let end: CallReply = caller.expect().await;
    assert_eq!((&end.data[..], end.code), (&b"end"[..], 0));
    assert_eq!(router.process.wait().await.code(), Some(0));
}

#[tokio::test]
async fn sigterm_ends_calls_after_the_drain_timeout() {
    let (mut router, mut service, mut caller) = stopping("1s").await;
    let end: CallReply = caller.expect().await;
    assert_eq!((end.request_id.as_str(), end.code), ("open", 500));
    assert_eq!(end.reason(), CallReplyReason::ReasonRouterStops);
    caller.expect_close().await;
    service.expect_close().await;
    assert_eq!(router.process.wait().await.code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let (mut router, mut service, mut caller) = stopping("1h").await;
    // A signal within 200 ms counts as the same one.
    tokio::time::sleep(Duration::from_millis(250)).await;
    router.process.signal("TERM").await;
    let code = router.process.wait().await.code();
    assert!(code.is_some_and(|code| code != 0), "{code:?}");
    caller.expect_close().await;
    service.expect_close().await;
}

// A terminal and a supervisor may both send a signal.
#[tokio::test]
async fn simultaneous_signals_count_as_one() {
    let (mut router, mut service, mut caller) = with_open_call("1h").await;
    let id = Pid::from_raw(router.process.id().cast_signed()).unwrap();
    for signal in [Signal::INT, Signal::TERM, Signal::QUIT] {
        kill_process(id, signal).unwrap();
    }
    until_it_refuses(&mut caller).await;
    service.reply("open", "end").await;
    assert_eq!(caller.expect::<CallReply>().await.data, "end");
    assert_eq!(router.process.wait().await.code(), Some(0));
}

#[tokio::test]
async fn sigquit_drains_and_other_signals_do_not_end_it() {
    let (mut router, mut service, mut caller) = with_open_call("1h").await;
    for harmless in ["HUP", "USR1", "USR2"] {
        router.process.signal(harmless).await;
    }
    // By the time that a call is answered, they would have killed it.
    caller.call("/s", "later", "").await;
    let CallRequest { .. } = service.expect().await;
    router.process.signal("QUIT").await;
    until_it_refuses(&mut caller).await;
    for request_id in ["open", "later"] {
        service.reply(request_id, "end").await;
        assert_eq!(caller.expect::<CallReply>().await.data, "end");
    }
    assert_eq!(router.process.wait().await.code(), Some(0));
}
