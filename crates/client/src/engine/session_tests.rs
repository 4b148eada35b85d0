use std::sync::Arc;

use gsb_net::Stream;
use gsb_proto::MessageKind;
use gsb_proto::messages::CallRequest;
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use super::*;
use crate::engine::pending_calls::ReplyTo;

const LIMIT: usize = 1000;

/// The largest frame of the router, in bytes.
const LARGEST: usize = 8 << 20;

/// A session with a router of this level. The router reads nothing while the returned socket is kept.
fn session(level: u32) -> (Session, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    let link = Arc::new(Link::new(Stream::Unix(near), LIMIT));
    let router = RouterInfo { level, ..RouterInfo::default() };
    (Session::new(link, Framing::Packet, &router, LARGEST), far)
}

/// Opens a call and cancels it. Returns whether a cancellation was queued.
fn cancel(session: &mut Session, number: u64) -> bool {
    let (waiting, _) = oneshot::channel();
    let request = CallRequest { address: "/dead".to_owned(), ..CallRequest::default() };
    session.calls.open(number, PendingCall::new(&request, ReplyTo::Once(waiting), None));
    let call = session.calls.cancel(number).unwrap();
    let before = session.link.queued();
    // The link is not flushed, so that frames stay queued.
    drop(session.cancel(number, format!("id-{number}"), &call, LIMIT));
    session.link.queued() > before
}

#[tokio::test]
async fn cancellations_for_a_router_that_does_not_read_are_bounded() {
    let (mut session, _router) = session(1);
    for number in 0..100 {
        assert!(cancel(&mut session, number));
    }
    let filler = Frame::new(MessageKind::Ping, vec![0; LARGEST + CANCELLATIONS]);
    session.link.push_urgent(Framing::Packet, &filler);
    for number in 100..100 + 1024 {
        session.unanswered.check("/dead").unwrap();
        assert!(!cancel(&mut session, number));
    }
    // The router keeps those open.
    session.unanswered.check("/dead").unwrap_err();
    session.unanswered.check("/other").unwrap();
}

// A frame may exceed the limit of the outbox. A grant that is lost would stop its stream.
#[tokio::test]
async fn cancellations_and_grants_follow_a_large_frame() {
    let (mut session, _router) = session(1);
    session.link.push_urgent(Framing::Packet, &Frame::new(MessageKind::Ping, vec![0; LARGEST]));
    assert!(cancel(&mut session, 0));
    let (waiting, _) = oneshot::channel();
    let call = PendingCall::new(&CallRequest::default(), ReplyTo::Once(waiting), None);
    session.calls.open(1, call);
    let before = session.link.queued();
    drop(session.grant(1, "id-1".to_owned(), 1000, LIMIT));
    assert!(session.link.queued() > before);
}

#[tokio::test]
async fn a_router_of_level_0_is_sent_no_cancellation() {
    let (mut session, _router) = session(0);
    assert!(!cancel(&mut session, 1));
    assert_eq!(session.link.queued(), 0);
}
