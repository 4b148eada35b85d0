use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use bytes::BytesMut;
use gsb_proto::{FrameDecoder, MessageKind};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::*;
use crate::inbox::Inbox;

const LIMIT: usize = 1 << 20;

fn pair() -> (Arc<Link>, Arc<Link>) {
    let (a, b) = UnixStream::pair().unwrap();
    let link = |stream| Arc::new(Link::new(Stream::Unix(stream), LIMIT));
    (link(a), link(b))
}

fn frame(number: u32, length: usize) -> Frame {
    let mut body = number.to_be_bytes().to_vec();
    body.resize(length.max(4), 7);
    Frame::new(MessageKind::CallRequest, body)
}

fn append<T: QueuedFrame>(link: &Link<T>, frame: &Frame, companion: T) {
    let outgoing = Outgoing { kind: frame.kind, slices: &frame.body.slices() };
    link.push_unlimited(Framing::Packet, outgoing, |_| Some(companion));
}

/// Reads `count` frames. Returns their numbers and lengths.
async fn read(link: &Link, count: usize) -> Vec<(u32, usize)> {
    let mut inbox = Inbox::new(FrameDecoder::new(Framing::Packet, 64 << 20));
    let mut numbers = Vec::new();
    while numbers.len() < count {
        assert_eq!(link.receive(&mut inbox).await.unwrap(), Received::Bytes);
        collect(&mut inbox, &mut numbers);
    }
    numbers
}

fn collect(inbox: &mut Inbox, numbers: &mut Vec<(u32, usize)>) {
    while let Some(frame) = inbox.next_frame().unwrap() {
        let body = frame.body.into_bytes();
        let number = u32::from_be_bytes(*body.first_chunk().unwrap());
        numbers.push((number, body.len()));
    }
}

async fn drive(link: Arc<Link>) {
    let mut inbox = Inbox::new(FrameDecoder::new(Framing::Packet, LIMIT));
    while link.receive(&mut inbox).await.unwrap() == Received::Bytes {}
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), future).await.unwrap()
}

// A stream of replies is written in few system calls. It must not wait for room that only its own flush makes.
#[tokio::test]
async fn frames_can_be_flushed_together() {
    let (a, b) = pair();
    assert!(a.enqueue(Framing::Packet, &frame(0, 100)).await);
    assert!(!a.enqueue(Framing::Packet, &frame(1, 100)).await, "the first flush writes it, too");
    assert_eq!(a.progress().1, 0);
    a.flush();
    assert_eq!(soon(read(&b, 2)).await, [(0, 100), (1, 100)]);
    assert_eq!(a.queued(), 0);

    let driver = tokio::spawn(drive(a.clone()));
    let fill = async {
        for number in 0..10 {
            a.enqueue(Framing::Packet, &frame(number, LIMIT / 3)).await;
        }
        a.flush();
    };
    let ((), received) = soon(async { tokio::join!(fill, read(&b, 10)) }).await;
    assert_eq!(received, Vec::from_iter((0..10).map(|number| (number, LIMIT / 3))));
    a.close();
    soon(driver).await.unwrap();
}

// Small frames are copied together, large ones are not. A full socket changes no order and loses no byte.
#[tokio::test]
async fn frames_leave_in_order_whatever_their_size() {
    let (a, b) = pair();
    let driver = tokio::spawn(drive(a.clone()));
    let lengths: Vec<usize> = (0..400).map(|n| [5, 16 << 10, 17 << 10, 100_000][n % 4]).collect();
    let sender = async {
        for (number, &length) in lengths.iter().enumerate() {
            a.send(Framing::Packet, &frame(number as u32, length)).await;
        }
    };
    let ((), received) = soon(async { tokio::join!(sender, read(&b, lengths.len())) }).await;
    let expected: Vec<_> = (0..).zip(lengths).collect();
    assert_eq!(received, expected);
    soon(a.drained()).await;
    assert_eq!(a.queued(), 0);
    a.close();
    soon(driver).await.unwrap();
}

#[tokio::test]
async fn several_writers_each_keep_their_order() {
    let (a, b) = pair();
    let driver = tokio::spawn(drive(a.clone()));
    let writers: Vec<_> = (0..4u32)
        .map(|writer| {
            let a = a.clone();
            tokio::spawn(async move {
                for number in 0..500 {
                    let length = if number % 50 == 0 { 50_000 } else { 10 };
                    a.send(Framing::Packet, &frame(writer << 16 | number, length)).await;
                }
            })
        })
        .collect();
    let received = soon(read(&b, 2000)).await;
    for writer in 0..4u32 {
        let own: Vec<u32> = received
            .iter()
            .filter(|(number, _)| number >> 16 == writer)
            .map(|(number, _)| number & 0xffff)
            .collect();
        assert_eq!(own, (0..500).collect::<Vec<_>>());
    }
    for writer in writers {
        soon(writer).await.unwrap();
    }
    a.close();
    soon(driver).await.unwrap();
}

// Rule LI-2.
#[tokio::test]
async fn the_limit_holds_but_one_frame_always_fits() {
    let (a, _b) = pair();
    assert_eq!(a.push(Framing::Packet, &frame(0, 3 * LIMIT)), Ok(true));
    assert_eq!(a.push(Framing::Packet, &frame(1, 4)), Err(OutboxFull { limit: LIMIT }));
    assert!(a.queued() > 3 * LIMIT);
    a.close();
    assert_eq!(a.push(Framing::Packet, &frame(2, 4)), Ok(false), "dropped, not refused");
}

// The same in the middle of a write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_while_others_write_is_fine() {
    for _ in 0..200 {
        let (a, b) = pair();
        let reader = tokio::spawn(drive(b));
        let writer = tokio::spawn({
            let a = a.clone();
            async move { while a.send(Framing::Packet, &frame(0, 10_000)).await {} }
        });
        tokio::task::yield_now().await;
        a.close();
        soon(writer).await.unwrap();
        soon(reader).await.unwrap();
        assert_eq!(a.queued(), 0);
    }
}

// The peer sees the end at once, although others hold the link.
#[tokio::test]
async fn closing_ends_the_stream_for_the_peer() {
    let (a, b) = pair();
    let _held = a.clone();
    a.close();
    let mut inbox = Inbox::new(FrameDecoder::new(Framing::Packet, LIMIT));
    assert_eq!(soon(b.receive(&mut inbox)).await.unwrap(), Received::End);
}

// Rule CO-16: a peer that closes only its reading side has ended, too. The frames that it sent before are read.
#[tokio::test]
async fn a_peer_that_takes_nothing_more_is_gone() {
    let (near, mut far) = UnixStream::pair().unwrap();
    let a = Link::new(Stream::Unix(near), LIMIT);
    let mut wire = BytesMut::new();
    assert!(frame(7, 10).encode(Framing::Packet, &mut wire));
    far.write_all(&wire).await.unwrap();
    socket2::SockRef::from(&far).shutdown(std::net::Shutdown::Read).unwrap();
    assert!(a.send(Framing::Packet, &frame(1, 10)).await);
    let mut inbox = Inbox::new(FrameDecoder::new(Framing::Packet, LIMIT));
    assert_eq!(soon(a.receive(&mut inbox)).await.unwrap(), Received::Bytes);
    assert!(inbox.next_frame().unwrap().is_some());
    assert_eq!(soon(a.receive(&mut inbox)).await.unwrap(), Received::End);
}

// Later small frames do not overtake a waiting large frame for ever.
#[tokio::test]
async fn a_large_frame_gets_its_turn() {
    let (a, b) = pair();
    let driver = tokio::spawn(drive(a.clone()));
    let reader = tokio::spawn(drive(b));
    let small: Vec<_> = (0..8)
        .map(|_| {
            let a = a.clone();
            tokio::spawn(async move { while a.send(Framing::Packet, &frame(1, 8000)).await {} })
        })
        .collect();
    for _ in 0..5 {
        assert!(soon(a.send(Framing::Packet, &frame(2, LIMIT - 100))).await);
    }
    a.close();
    for task in small.into_iter().chain([driver, reader]) {
        soon(task).await.unwrap();
    }
}

#[tokio::test]
async fn closing_wakes_all_waiters() {
    let (a, _b) = pair();
    a.push(Framing::Packet, &frame(0, 2 * LIMIT)).unwrap();
    let waiting = tokio::spawn({
        let a = a.clone();
        async move { a.send(Framing::Packet, &frame(1, LIMIT)).await }
    });
    let driver = tokio::spawn(drive(a.clone()));
    tokio::task::yield_now().await;
    a.close();
    soon(waiting).await.unwrap();
    soon(driver).await.unwrap();
    soon(a.drained()).await;
}

#[tokio::test]
async fn a_waiter_that_is_not_polled_does_not_block_others() {
    let (link, peer) = pair();
    let driver = tokio::spawn(drive(link.clone()));
    let mut kept = Box::pin(async {
        for number in 0.. {
            link.send(Framing::Packet, &frame(number, 100_000)).await;
        }
    });
    tokio::select! {
        biased;
        () = &mut kept => unreachable!(),
        () = std::future::ready(()) => {}
    }
    assert!(link.queued() > LIMIT / 2, "it waits for room");
    let reader = tokio::spawn(drive(peer));
    assert!(soon(link.send(Framing::Packet, &frame(0, 1))).await);
    link.close();
    assert!(!soon(link.send(Framing::Packet, &frame(0, 1))).await);
    driver.await.unwrap();
    reader.await.unwrap();
}

#[tokio::test]
async fn frames_before_the_finish_arrive_and_no_others() {
    let (link, peer) = pair();
    link.send(Framing::Packet, &frame(1, 10)).await;
    link.finish();
    link.send(Framing::Packet, &frame(2, 10)).await;
    assert_eq!(soon(read(&peer, 1)).await, [(1, 10)]);
    peer.send(Framing::Packet, &frame(3, 10)).await;
    assert_eq!(soon(read(&link, 1)).await, [(3, 10)], "reading goes on");
    soon(drive(peer)).await;
}

// Rules LI-3, LI-4: the progress of a link is the number of bytes that its socket has taken.
#[tokio::test]
async fn a_link_knows_its_progress() {
    let (near, far) = UnixStream::pair().unwrap();
    let link = Link::unlimited(Stream::Unix(near));
    let peer = Link::new(Stream::Unix(far), LIMIT);
    append(&link, &frame(0, 4 << 20), ());
    let all = link.progress().0 as u64;
    assert_eq!((link.progress().1, link.is_full()), (0, false));
    link.flush();
    let (queued, written) = link.progress();
    assert!(link.is_full() && written > 0);
    assert_eq!(queued as u64 + written, all);
    let mut inbox = Inbox::new(FrameDecoder::new(Framing::Packet, 8 << 20));
    while inbox.next_frame().unwrap().is_none() {
        tokio::select! {
            read = peer.receive(&mut inbox) => assert_eq!(read.unwrap(), Received::Bytes),
            _ = link.write_only() => {}
        }
    }
    assert_eq!((link.progress(), link.is_full()), ((0, all), false));
}

/// A companion that counts its drops.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl QueuedFrame for Counted {
    fn written(&mut self, _bytes: usize) {}
}

// A long outbox is dropped in steps, because dropping it at once would take long.
#[tokio::test]
async fn a_long_queue_is_cleared_away_bit_by_bit() {
    let frames = 10_000;
    let (near, _far) = UnixStream::pair().unwrap();
    let link = Link::unlimited(Stream::Unix(near));
    let dropped = Arc::new(AtomicUsize::new(0));
    let count = || dropped.load(Ordering::Relaxed);
    for number in 0..frames {
        append(&link, &frame(number, 10), Counted(dropped.clone()));
    }
    link.close();
    assert_eq!(count(), 0);
    let mut steps = 0;
    while link.clear_away() {
        steps += 1;
        assert!((steps..steps * 2000).contains(&count()), "{} in {steps} steps", count());
        // Closing it again does not touch the rest.
        link.close();
    }
    assert_eq!((count(), link.clear_away()), (frames as usize, false));
    // A short outbox is dropped at once.
    let (near, _far) = UnixStream::pair().unwrap();
    let link = Link::unlimited(Stream::Unix(near));
    append(&link, &frame(0, 10), Counted(dropped.clone()));
    link.close();
    assert_eq!(count(), frames as usize + 1);
}
