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

// Frames for several peers are collected at once, and broadcasts are not collected.
#[tokio::test]
async fn frames_between_two_peers_keep_their_order() {
    const RECEIVERS: usize = 20;
    let state = state();
    let (sender, ..) = connect(&state);
    receive(&state, sender, Framing::Packet, Ping {}.to_frame());
    let mut receivers = Vec::new();
    for number in 0..RECEIVERS {
        let (id, _link, far) = connect(&state);
        let framing = if number % 2 == 0 { Framing::Packet } else { Framing::Classic };
        let register = RegisterRequest { service_id: format!("/{number}"), ..Default::default() };
        receive(&state, id, framing, register.to_frame());
        let subscribe = SubscribeRequest { topic: format!("{}", number % 5) };
        receive(&state, id, framing, subscribe.to_frame());
        receivers.push((framing, far, Vec::new()));
    }
    let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut frames = Vec::new();
    // Of few receivers at a time, and of all.
    for count in [2, 7, 8, 9, RECEIVERS] {
        for _ in 0..100 {
            let to = random.usize(..count);
            let (number, data) = (frames.len().to_string(), frames.len().to_string().into());
            let is_call = random.u8(..4) > 0;
            for (other, (_, _, expected)) in receivers.iter_mut().enumerate() {
                if other == to || !is_call && other % 5 == to % 5 {
                    expected.push(number.clone());
                }
            }
            frames.push(if is_call {
                let address = format!("/{to}");
                CallRequest { address, request_id: number, data, ..Default::default() }.to_frame()
            } else {
                let topic = format!("{}", to % 5);
                BroadcastRequest { topic, data, ..Default::default() }.to_frame()
            });
        }
    }
    let mut inbox = inbox(Framing::Packet, &frames);
    while let Routed::Some = state.receive(sender, &mut inbox, &mut Deferred::default()).unwrap() {}
    for (framing, mut far, expected) in receivers {
        let mut decoder = FrameDecoder::new(framing, 1 << 24);
        let mut bytes = BytesMut::new();
        let mut seen = Vec::new();
        while seen.len() < expected.len() {
            let Some(frame) = decoder.decode(&mut bytes).unwrap() else {
                assert_ne!(far.read_buf(&mut bytes).await.unwrap(), 0);
                continue;
            };
            let data = match frame.kind {
                MessageKind::CallRequest => frame.decode::<CallRequest>().unwrap().data,
                MessageKind::BroadcastRequest => frame.decode::<BroadcastRequest>().unwrap().data,
                _ => continue,
            };
            seen.push(String::from_utf8(data.to_vec()).unwrap());
        }
        assert_eq!(seen, expected);
    }
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
