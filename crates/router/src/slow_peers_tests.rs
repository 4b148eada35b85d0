use std::pin::pin;
use std::task::Waker;
use std::time::Duration;

use gsb_core::{BrokerConfig, Identity};
use gsb_net::Stream;
use gsb_proto::messages::*;
use gsb_proto::{Frame, Framing};
use tokio::net::UnixStream;

use super::*;
use crate::clock::Clock;

const STALL: Duration = Duration::from_secs(2);

/// A connection, its link, and the other end of its socket.
fn connect(state: &RouterState) -> (ConnId, Arc<Link<QueuedFrame>>, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    let link = Arc::new(Link::unlimited(Stream::Unix(near)));
    let id = state.connect(Identity::Unknown, link.clone(), Waker::noop().clone()).unwrap();
    (id, link, far)
}

fn state(write_timeout: Duration) -> Arc<RouterState> {
    let config = BrokerConfig { stall_timeout: STALL, write_timeout, ..BrokerConfig::default() };
    Arc::new(RouterState::new(config, Clock::new(STALL)))
}

fn receive(state: &RouterState, from: ConnId, frame: Frame) {
    crate::router_state::tests::receive(state, from, Framing::Packet, frame);
}

fn event(length: usize) -> Frame {
    let data = vec![7; length].into();
    BroadcastRequest { topic: "topic".into(), data, ..Default::default() }.to_frame()
}

/// Advances the clock while the router runs.
async fn pass(clock: &Clock, time: Duration) {
    for _ in 0..100 {
        tokio::time::advance(time / 100).await;
        clock.now();
    }
}

// Rule LI-3: the calls in the outbox of a stalled peer end, also behind other frames, and other tasks run meanwhile.
#[tokio::test(start_paused = true)]
async fn the_calls_of_a_long_outbox_end_in_steps() {
    let state = state(10 * STALL);
    let (service, link, _far) = connect(&state);
    let (peer, _link, _far) = connect(&state);
    let service_id = "/service".to_owned();
    receive(&state, service, RegisterRequest { service_id, ..Default::default() }.to_frame());
    receive(&state, service, SubscribeRequest { topic: "topic".into() }.to_frame());
    receive(&state, peer, event(1 << 20));
    assert!(link.is_full());
    for number in 0..3000 {
        receive(&state, peer, event(20_000 >> (number % 2 * 4)));
        let (address, request_id) = ("/service".into(), number.to_string());
        let call = CallRequest { address, request_id, ..Default::default() };
        receive(&state, peer, call.to_frame());
    }
    look(&state, service, &link).await;
    pass(&state.clock, STALL).await;
    assert_eq!(state.usage().open_calls, 3000);
    let mut pauses = 0;
    let mut looking = pin!(look(&state, service, &link));
    std::future::poll_fn(|context| {
        let polled = looking.as_mut().poll(context);
        pauses += usize::from(polled.is_pending());
        polled
    })
    .await;
    assert_eq!(state.usage().open_calls, 0);
    assert!(pauses >= 3000 / 64, "{pauses} pauses");
}

// Rules LI-3, LI-4: a peer is watched while its socket is full, and closed after the write timeout.
#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_is_watched_until_it_is_closed() {
    let state = state(STALL);
    let (peer, link, _far) = connect(&state);
    receive(&state, peer, SubscribeRequest { topic: "topic".into() }.to_frame());
    receive(&state, peer, event(1 << 20));
    let watching = watch(state.clone(), peer, link.clone());
    let closed = async {
        let begin = state.clock.now();
        while !link.is_closed() {
            pass(&state.clock, STALL / LOOKS).await;
            tokio::task::yield_now().await;
        }
        state.clock.now() - begin
    };
    let ((), took) = tokio::join!(watching, closed);
    assert!((STALL..STALL * 2).contains(&took), "{took:?}");
    assert_eq!(state.counters().closes["not reading"], 1);
}
