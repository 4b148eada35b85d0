use std::sync::Arc;

use gsb_net::Stream;
use gsb_proto::MessageKind;
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use super::*;
use crate::calls::Waiting;

const LIMIT: usize = 1000;

/// A session with a router of this level, that reads nothing while the other end is kept.
fn session(level: u32) -> (Session, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    let link = Arc::new(Link::new(Stream::Unix(near), LIMIT));
    let router = RouterInfo { level, ..RouterInfo::default() };
    (Session::new(link, Framing::Packet, &router, usize::MAX), far)
}

/// Opens a call and cancels it; whether the router is to be told.
fn cancel(session: &mut Session, number: u64) -> bool {
    let (waiting, _) = oneshot::channel();
    session.calls.open(number, "/dead".to_owned(), Waiting::Once(waiting));
    let call = session.calls.give_up(number).unwrap();
    let before = session.link.queued();
    // Whoever pushed first flushes, which nobody does here.
    drop(session.cancel(number, format!("id-{number}"), &call, LIMIT));
    session.link.queued() > before
}

// However many calls are given up, what waits for a router that does not read has a limit.
#[tokio::test]
async fn a_router_that_does_not_read_is_not_told_more() {
    let (mut session, _router) = session(1);
    for number in 0..100 {
        assert!(cancel(&mut session, number));
    }
    let filler = Frame::new(MessageKind::Ping, vec![0; LIMIT + CANCELLATIONS]);
    session.link.push_urgent(Framing::Packet, &filler);
    for number in 100..100 + 1024 {
        session.unanswered.check("/dead").unwrap();
        assert!(!cancel(&mut session, number));
    }
    // It holds those open.
    session.unanswered.check("/dead").unwrap_err();
    session.unanswered.check("/other").unwrap();
}

#[tokio::test]
async fn a_router_of_level_0_is_told_nothing() {
    let (mut session, _router) = session(0);
    assert!(!cancel(&mut session, 1));
    assert_eq!(session.link.queued(), 0);
}
