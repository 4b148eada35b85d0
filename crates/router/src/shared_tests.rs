use gsb_bus::Limits;
use gsb_net::{Inbox, Stream};
use gsb_proto::FrameDecoder;
use gsb_proto::messages::{CallRequest, Message, Ping, RegisterRequest};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;

use super::*;

fn shared() -> Shared {
    Shared::new(BusConfig { limits: Limits::default(), ..BusConfig::default() })
}

/// A connection whose peer never reads; the other end keeps the socket open.
fn connect(shared: &Shared, limit: usize) -> (ConnId, Arc<Link>, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    let link = Arc::new(Link::new(Stream::Unix(near), limit));
    let id = shared.connect(Identity::Unknown, link.clone()).unwrap();
    (id, link, far)
}

fn receive(shared: &Shared, from: ConnId, framing: Framing, mut frames: Vec<Frame>) {
    shared.receive(from, Some(framing), &mut frames, &mut Afterwards::default());
}

// The task of a connection may still be at work when the bus has closed it and another has its place.
#[tokio::test]
async fn a_connection_that_is_gone_leaves_nothing_to_its_successor() {
    let shared = shared();
    let (old, ..) = connect(&shared, 1000);
    shared.close(old, CloseReason::Replaced);
    let (new, link, mut far) = connect(&shared, 1000);
    assert_eq!(old.slot(), new.slot());
    receive(&shared, old, Framing::Packet, vec![Ping {}.to_frame()]);
    receive(&shared, new, Framing::Classic, vec![Ping {}.to_frame()]);
    // Nothing but a Pong, in the framing of its own.
    let mut inbox = Inbox::new(FrameDecoder::new(Framing::Classic, 100));
    let mut received = [0; 8];
    tokio::select! {
        _ = link.receive(&mut inbox) => panic!("nothing was sent to the router"),
        read = far.read_exact(&mut received) => assert_eq!(read.unwrap(), 8),
    }
    assert_eq!(received, [0, 0, 0, 13, 0, 0, 0, 0]);
}

// Whoever does not read is closed, and gets nothing of what comes behind what did not fit.
#[tokio::test]
async fn nothing_is_sent_behind_a_gap() {
    let shared = shared();
    let (service, link, _far) = connect(&shared, 10_000);
    let (caller, ..) = connect(&shared, 10_000);
    let register = RegisterRequest { service_id: "/s".into() }.to_frame();
    receive(&shared, service, Framing::Classic, vec![register]);
    let push = |length: usize| {
        let data = vec![0; length].into();
        CallRequest { address: "/s".into(), no_reply: true, data, ..Default::default() }.to_frame()
    };
    receive(&shared, caller, Framing::Classic, vec![push(9_000), push(9_000), push(10)]);
    assert!(link.is_closed());
    assert_eq!(shared.counters().closes["outbox full"], 1);
    assert_eq!(shared.usage().services, 0);
}

#[tokio::test]
async fn a_stopping_router_takes_nobody_in() {
    let shared = shared();
    let (_, link, _far) = connect(&shared, 1000);
    let links = shared.stop();
    assert!(links.len() == 1 && Arc::ptr_eq(&links[0], &link));
    let (near, _far) = UnixStream::pair().unwrap();
    let late = Arc::new(Link::new(Stream::Unix(near), 1000));
    assert!(shared.connect(Identity::Unknown, late).is_none());
}
