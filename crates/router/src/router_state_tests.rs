use std::time::Duration;

use bytes::BytesMut;
use gsb_core::Limits;
use gsb_net::{Inbox, Stream};
use gsb_proto::messages::{
    BroadcastRequest, CallRequest, Message, Ping, RegisterRequest, SubscribeRequest,
};
use gsb_proto::{Frame, FrameDecoder};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;

use super::*;

pub(crate) fn state() -> RouterState {
    let config = BrokerConfig { limits: Limits::default(), ..BrokerConfig::default() };
    RouterState::new(config, Clock::new(Duration::from_secs(1)))
}

/// A connection, and the other end of its socket.
pub(crate) fn connect(state: &RouterState) -> (ConnId, Arc<Link<QueuedFrame>>, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    let link = Arc::new(Link::unlimited(Stream::Unix(near)));
    let id = state.connect(Identity::Unknown, link.clone(), Waker::noop().clone()).unwrap();
    (id, link, far)
}

/// An inbox that has received these frames.
fn inbox(framing: Framing, frames: &[Frame]) -> Inbox {
    let mut bytes = BytesMut::new();
    assert!(frames.iter().all(|frame| frame.encode(framing, &mut bytes)));
    Inbox::with_bytes(FrameDecoder::new(framing, 1 << 24), bytes)
}

/// Routes a frame, which must not have to wait.
pub(crate) fn receive(state: &RouterState, from: ConnId, framing: Framing, frame: Frame) {
    let mut inbox = inbox(framing, &[frame]);
    loop {
        match state.receive(from, &mut inbox, &mut Deferred::default()).unwrap() {
            Routed::All => return,
            // The turn is over.
            Routed::Some => {}
            Routed::Paused => panic!("the frame has to wait"),
        }
    }
}

// The task of a connection may still run when the broker has closed it and another connection has its slot.
#[tokio::test]
async fn a_connection_that_is_gone_leaves_nothing_to_its_successor() {
    let state = state();
    let (old, ..) = connect(&state);
    state.close(old, CloseReason::Replaced);
    let (new, link, mut far) = connect(&state);
    assert_eq!(old.slot(), new.slot());
    receive(&state, old, Framing::Packet, Ping {}.to_frame());
    receive(&state, new, Framing::Classic, Ping {}.to_frame());
    // The only message is a Pong, in the framing of the new connection.
    let mut inbox = Inbox::new(FrameDecoder::new(Framing::Classic, 100));
    let mut received = [0; 8];
    tokio::select! {
        _ = link.receive(&mut inbox) => panic!("nothing was sent to the router"),
        read = far.read_exact(&mut received) => assert_eq!(read.unwrap(), 8),
    }
    assert_eq!(received, [0, 0, 0, 13, 0, 0, 0, 0]);
}

#[tokio::test]
async fn a_stopping_router_accepts_no_connections() {
    let state = state();
    let (_, link, _far) = connect(&state);
    let links = state.stop();
    assert!(links.len() == 1 && Arc::ptr_eq(&links[0], &link));
    let (near, _far) = UnixStream::pair().unwrap();
    let late = Arc::new(Link::unlimited(Stream::Unix(near)));
    assert!(state.connect(Identity::Unknown, late, Waker::noop().clone()).is_none());
}

// A peer with many expensive frames does not lock the state for all of them at once.
#[tokio::test]
async fn a_batch_that_takes_long_is_interrupted() {
    let state = state();
    let (subscriber, ..) = connect(&state);
    for number in 0..60_000 {
        let topic = format!("{number}/b/c");
        receive(&state, subscriber, Framing::Packet, SubscribeRequest { topic }.to_frame());
    }
    let (sender, _link, _far) = connect(&state);
    let event = BroadcastRequest { topic: "*/*/nobody".into(), ..Default::default() }.to_frame();
    let odd = "\u{e000}".repeat(300);
    let refused =
        RegisterRequest { service_id: format!("{odd}\n"), ..Default::default() }.to_frame();
    let in_vain = CallRequest { address: odd, ..Default::default() }.to_frame();
    for costly in [event, refused, in_vain] {
        let mut inbox = inbox(Framing::Packet, &vec![costly; BATCH]);
        let routed = state.receive(sender, &mut inbox, &mut Deferred::default()).unwrap();
        assert!(matches!(routed, Routed::Some), "{routed:?}");
        let left = std::iter::from_fn(|| inbox.next_frame().unwrap()).count();
        assert!((1..BATCH).contains(&left), "{left} are left");
    }
}
