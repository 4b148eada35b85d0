//! A service sends one last reply for each call, whatever its handler does. A later reply could end a call of another
//! caller with the same request id.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::{Stream, stream};
use gsb_client::{Bus, Call, Failure};
use gsb_proto::messages::*;
use gsb_testkit::{FakeRouter, Peer};

/// Calls the service, reads replies up to the last, and checks that no other follows.
async fn replies(peer: &mut Peer, address: &str) -> Vec<CallReply> {
    peer.call(address, "1", "").await;
    let mut replies: Vec<CallReply> = Vec::new();
    while replies.last().is_none_or(|reply| reply.reply_type == 1) {
        replies.push(peer.expect().await);
    }
    peer.expect_nothing_behind().await;
    replies
}

/// A future that ends, and panics when it is dropped.
struct PanicsAtTheEnd;

impl Stream for PanicsAtTheEnd {
    type Item = Result<Bytes, Failure>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(None)
    }
}

impl Drop for PanicsAtTheEnd {
    fn drop(&mut self) {
        panic!("on purpose");
    }
}

#[tokio::test]
async fn whatever_the_handler_does() {
    let router = FakeRouter::start().await;
    let builder = Bus::builder().max_frame(1000);
    let (bus, peer) = tokio::join!(builder.connect(&router.address), router.accept());
    let (bus, mut peer) = (bus.unwrap(), peer);
    let confirm = async |peer: &mut Peer| {
        let RegisterRequest { .. } = peer.expect().await;
        peer.send(RegisterReply::default()).await;
    };
    let too_large = |_: Call| stream::iter([vec![1; 10], vec![2; 5000], vec![3; 10]].map(Ok));
    let (large, ()) = tokio::join!(bus.register_stream("/large", too_large), confirm(&mut peer));
    let ends = |_: Call| PanicsAtTheEnd;
    let (panics, ()) = tokio::join!(bus.register_stream("/panics", ends), confirm(&mut peer));
    let at_once =
        |call: Call| -> std::future::Ready<Result<Bytes, Failure>> { panic!("{}", call.address) };
    let (early, ()) = tokio::join!(bus.register("/early", at_once), confirm(&mut peer));
    let _registrations = (large.unwrap(), panics.unwrap(), early.unwrap());

    let seen = replies(&mut peer, "/large").await;
    assert_eq!(seen.iter().map(|reply| reply.code).collect::<Vec<_>>(), [0, 500]);
    assert_eq!(replies(&mut peer, "/panics").await[0].code, 0);
    assert_eq!(replies(&mut peer, "/early").await[0].code, 500);
    // A refusal is small even if the call is large.
    let long = format!("/gone/{}", "x".repeat(1 << 20));
    let seen = replies(&mut peer, &long).await;
    assert_eq!((seen[0].code, seen[0].reason()), (400, CallReplyReason::ReasonNoSuchService));
    assert!(seen[0].data.len() < 100);
}
