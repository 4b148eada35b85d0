use std::time::Duration;

use gsb_core::ConnId;
use gsb_proto::Framing;
use gsb_proto::messages::{CallRequest, Message, RegisterRequest};
use tokio::time::Instant;

use super::*;
use crate::router_state::tests::{connect, receive, state};

const MS: Duration = Duration::from_millis(1);

fn serve(state: &RouterState, peer: ConnId) {
    let register = RegisterRequest { service_id: "/a".into(), ..Default::default() };
    receive(state, peer, Framing::Packet, register.to_frame());
}

fn call(state: &RouterState, peer: ConnId, request_id: String, timeout_ms: u32) {
    let call = CallRequest { address: "/a".into(), request_id, timeout_ms, ..Default::default() };
    receive(state, peer, Framing::Packet, call.to_frame());
}

// Rule CA-12. Each deadline is earlier than those before it, and than the next time at which the timer would run.
#[tokio::test(start_paused = true)]
async fn a_deadline_passes_at_its_time() {
    let state = Arc::new(state());
    let (peer, _link, _far) = connect(&state);
    serve(&state, peer);
    let timer = tokio::spawn(run(state.clone()));
    // The timer sleeps until its next tick.
    tokio::time::sleep(3 * MS).await;
    let begin = Instant::now();
    for timeout_ms in [70_000, 200, 30] {
        call(&state, peer, timeout_ms.to_string(), timeout_ms);
    }
    for (timeout, left) in [(30, 2), (200, 1), (70_000, 0)] {
        tokio::time::sleep_until(begin + timeout * MS - MS).await;
        assert_eq!(state.usage().open_calls, left + 1, "before {timeout} ms");
        // Tokio's timers count whole milliseconds.
        tokio::time::sleep_until(begin + timeout * MS + MS).await;
        assert_eq!(state.usage().open_calls, left, "after {timeout} ms");
    }
    timer.abort();
}

// An ordinary call does not wake the timer. One with a later deadline wakes it once, for the deadline to be sorted in.
#[tokio::test(start_paused = true)]
async fn a_call_wakes_the_timer_only_if_it_must() {
    let state = state();
    let (peer, _link, _far) = connect(&state);
    serve(&state, peer);
    let next = state.tick() - state.clock.now();
    let next = u32::try_from(next.as_millis()).unwrap();
    let calls =
        [(0, false), (next + 1, true), (next - 1, false), (next, false), (10, true), (20, false)];
    for (number, (timeout_ms, wakes)) in calls.into_iter().enumerate() {
        call(&state, peer, number.to_string(), timeout_ms);
        let woken = tokio::time::timeout(Duration::ZERO, state.earlier_tick()).await;
        assert_eq!(woken.is_ok(), wakes, "{timeout_ms} ms");
    }
}
