use std::time::Duration;

use gsb_bus::Limits;
use gsb_net::{Inbox, Stream};
use gsb_proto::FrameDecoder;
use gsb_proto::messages::{BroadcastRequest, Message, Ping, SubscribeRequest};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;

use super::*;

fn shared() -> Shared {
    let config = BusConfig { limits: Limits::default(), ..BusConfig::default() };
    Shared::new(config, Clock::new(Duration::from_secs(1)))
}

/// A connection, and the other end of its socket.
fn connect(shared: &Shared) -> (ConnId, Arc<Link<Ticket>>, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    let link = Arc::new(Link::with_tickets(Stream::Unix(near)));
    let id = shared.connect(Identity::Unknown, link.clone()).unwrap();
    (id, link, far)
}

fn receive(shared: &Shared, from: ConnId, framing: Framing, frame: Frame) {
    let mut frames = VecDeque::from([frame]);
    let wait = shared.receive(from, Some(framing), &mut frames, &mut Afterwards::default());
    assert!(wait.is_none() && frames.is_empty());
}

// The task of a connection may still be at work when the bus has closed it and another has its place.
#[tokio::test]
async fn a_connection_that_is_gone_leaves_nothing_to_its_successor() {
    let shared = shared();
    let (old, ..) = connect(&shared);
    shared.close(old, CloseReason::Replaced);
    let (new, link, mut far) = connect(&shared);
    assert_eq!(old.slot(), new.slot());
    receive(&shared, old, Framing::Packet, Ping {}.to_frame());
    receive(&shared, new, Framing::Classic, Ping {}.to_frame());
    // Nothing but a Pong, in the framing of its own.
    let mut inbox = Inbox::new(FrameDecoder::new(Framing::Classic, 100));
    let mut received = [0; 8];
    tokio::select! {
        _ = link.receive(&mut inbox) => panic!("nothing was sent to the router"),
        read = far.read_exact(&mut received) => assert_eq!(read.unwrap(), 8),
    }
    assert_eq!(received, [0, 0, 0, 13, 0, 0, 0, 0]);
}

#[tokio::test]
async fn a_stopping_router_takes_nobody_in() {
    let shared = shared();
    let (_, link, _far) = connect(&shared);
    let links = shared.stop();
    assert!(links.len() == 1 && Arc::ptr_eq(&links[0], &link));
    let (near, _far) = UnixStream::pair().unwrap();
    let late = Arc::new(Link::with_tickets(Stream::Unix(near)));
    assert!(shared.connect(Identity::Unknown, late).is_none());
}

// Whatever they cost: who sends many broadcasts to somebody with very many subscriptions does not keep the
// others from the state for all of them together.
#[tokio::test]
async fn a_batch_that_takes_long_is_interrupted() {
    let shared = shared();
    let (subscriber, ..) = connect(&shared);
    for number in 0..60_000 {
        let topic = format!("{number}/b/c");
        receive(&shared, subscriber, Framing::Packet, SubscribeRequest { topic }.to_frame());
    }
    let (sender, _link, _far) = connect(&shared);
    let event = BroadcastRequest { topic: "*/*/nobody".into(), ..Default::default() }.to_frame();
    let mut frames: VecDeque<_> = std::iter::repeat_n(event, 64).collect();
    let all = frames.len();
    let wait =
        shared.receive(sender, Some(Framing::Packet), &mut frames, &mut Afterwards::default());
    assert!(wait.is_none() && (1..all).contains(&frames.len()), "{} are left", frames.len());
}
