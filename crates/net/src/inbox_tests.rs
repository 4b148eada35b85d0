use gsb_proto::MessageKind;
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;

use super::*;
use crate::{Link, Received};

fn frame(length: usize) -> BytesMut {
    let mut wire = BytesMut::new();
    let frame = Frame::new(MessageKind::CallRequest, vec![7; length]);
    assert!(frame.encode(Framing::Packet, &mut wire));
    wire
}

/// The frames that an inbox reads from these bytes.
async fn frames(wire: BytesMut, count: usize) -> (Vec<Frame>, Inbox) {
    let (near, mut far) = UnixStream::pair().unwrap();
    let link = Link::new(Stream::Unix(near), 1000);
    let mut inbox = Inbox::new(FrameDecoder::new(Framing::Packet, 64 << 20));
    let mut frames = Vec::new();
    let read = async {
        while frames.len() < count {
            assert_eq!(link.receive(&mut inbox).await.unwrap(), Received::Bytes);
            frames.extend(std::iter::from_fn(|| inbox.next_frame().unwrap()));
        }
    };
    let (written, ()) = tokio::join!(far.write_all(&wire), read);
    written.unwrap();
    (frames, inbox)
}

// A small frame after a large one has memory of its own.
#[tokio::test]
async fn a_frame_does_not_keep_the_memory_of_a_large_one() {
    let mut wire = frame(5 << 20);
    wire.extend_from_slice(&frame(20 << 10));
    let (frames, _) = frames(wire, 2).await;
    let [large, small] = frames.as_slice() else { panic!("two frames") };
    let memory = large.body.segments()[0].as_ptr_range();
    let start = small.body.segments()[0].as_ptr();
    // The memory after the large frame, where the small one would have been read to.
    let beyond = memory.end as usize..memory.end as usize + (20 << 10);
    assert!(!beyond.contains(&(start as usize)));
}

// Rule LI-2: a queued frame takes as much memory as its connection is charged for.
#[tokio::test]
async fn a_large_frame_keeps_only_its_own_bytes_in_memory() {
    for length in [65_537, 70_000, 100_000, 128 << 10, 200_000, 1 << 20, 5 << 20] {
        let mut wire = BytesMut::new();
        for _ in 0..10 {
            wire.extend_from_slice(&frame(length));
            wire.extend_from_slice(&frame(100));
        }
        let whole = frame(length).len();
        let (frames, _) = frames(wire, 20).await;
        for frame in frames.into_iter().filter(|frame| frame.body.len() > 100) {
            let memory = frame.body.into_bytes().try_into_mut().expect("memory of its own");
            assert!(memory.capacity() <= whole.max(2 * LARGE), "{} for {whole}", memory.capacity());
        }
    }
}

#[tokio::test]
async fn no_buffer_is_held_while_nothing_is_waiting() {
    let (_, inbox) = frames(frame(1 << 20), 1).await;
    assert_eq!(inbox.buffer.capacity(), 0);
}

/// Writes bytes to a link from its peer, reads all of them until nothing is left, and appends the frames to `frames`.
async fn pass(
    wire: &[u8],
    far: &mut UnixStream,
    link: &Link,
    inbox: &mut Inbox,
    frames: &mut Vec<Frame>,
) {
    let mut left = wire.len();
    let read = async {
        while left > 0 {
            link.stream().ready(Interest::READABLE).await.unwrap();
            left -= inbox.fill(link.stream(), false).unwrap().unwrap_or(0);
            frames.extend(std::iter::from_fn(|| inbox.next_frame().unwrap()));
        }
        assert_eq!(inbox.fill(link.stream(), false).unwrap(), None);
    };
    let (written, ()) = tokio::join!(far.write_all(wire), read);
    written.unwrap();
}

// Many connections may wait long for the rest of a frame.
#[tokio::test]
async fn a_small_part_of_a_frame_takes_little_memory() {
    let (near, mut far) = UnixStream::pair().unwrap();
    let link = Link::new(Stream::Unix(near), 1000);
    let mut inbox = Inbox::new(FrameDecoder::new(Framing::Packet, 64 << 20));
    let mut frames = Vec::new();
    // Many small frames before the partial one, so that the buffer is large.
    let many = frame(10).repeat((400 << 10) / frame(10).len());
    for next in [frame(100), frame(64 << 10), frame(1 << 20)] {
        for held in [1, 4, 90] {
            let (start, rest) = next.split_at(held);
            pass(&[&many, start].concat(), &mut far, &link, &mut inbox, &mut frames).await;
            assert!(inbox.unfinished() > 0);
            assert_eq!(inbox.buffer.capacity(), held);
            // While nothing arrives, the buffer is not replaced again: a buffer with a spare byte stays.
            let mut marked = BytesMut::with_capacity(held + 1);
            marked.extend_from_slice(start);
            inbox.buffer = marked;
            for _ in 0..3 {
                assert_eq!(inbox.fill(link.stream(), false).unwrap(), None);
                assert_eq!((&inbox.buffer[..], inbox.buffer.capacity()), (start, held + 1));
            }
            frames.clear();
            pass(rest, &mut far, &link, &mut inbox, &mut frames).await;
            let [whole] = frames.as_slice() else { panic!("one frame") };
            let mut again = BytesMut::new();
            assert!(whole.encode(Framing::Packet, &mut again));
            assert!(again == next, "another frame of {} bytes", next.len());
        }
    }
}

// A larger part of a frame is not copied when nothing arrives for a moment.
#[tokio::test]
async fn much_of_a_frame_stays_where_it_was_read_to() {
    let (near, mut far) = UnixStream::pair().unwrap();
    let link = Link::new(Stream::Unix(near), 1000);
    let mut inbox = Inbox::new(FrameDecoder::new(Framing::Packet, 64 << 20));
    for next in [frame(64 << 10), frame(1 << 20)] {
        let (start, rest) = next.split_at(SMALL + 1);
        pass(start, &mut far, &link, &mut inbox, &mut Vec::new()).await;
        let place = inbox.buffer.as_ptr();
        assert_eq!(inbox.fill(link.stream(), false).unwrap(), None);
        assert_eq!(inbox.buffer.as_ptr(), place);
        assert!(inbox.buffer.capacity() > SMALL + 1);
        pass(rest, &mut far, &link, &mut inbox, &mut Vec::new()).await;
    }
}

// A task that always has something to read yields to others.
#[tokio::test]
async fn reading_pauses() {
    let mut wire = BytesMut::new();
    while wire.len() < 1 << 20 {
        wire.extend_from_slice(&frame(100));
    }
    let count = wire.len() / frame(100).len();
    let turns = std::cell::Cell::new(0);
    let others = async {
        loop {
            turns.set(turns.get() + 1);
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        _ = frames(wire, count) => {}
        () = others => {}
    }
    assert!(turns.get() >= 8, "only {} turns in 1 MiB", turns.get());
}

// Peeking and removing find the same frames.
#[test]
fn frames_are_seen_where_they_stand_as_they_are_taken_out() {
    let lengths = [0, 1, 100, 16_000, SHARED - 6, SHARED, 20_000, 3, 100_000, 5, 70_000, 0, 64];
    let mut wire = BytesMut::new();
    for length in lengths {
        wire.extend_from_slice(&frame(length));
    }
    // A packet with several fields, and the beginning of another frame.
    wire.extend_from_slice(&[0, 0, 0, 6, 14 << 3 | 2, 0, 14 << 3 | 2, 0, 14 << 3 | 2, 0]);
    wire.extend_from_slice(&frame(10)[..7]);
    let decoder = || FrameDecoder::detecting(1 << 20);
    let mut taken_out = Inbox::with_bytes(decoder(), wire.clone());
    let mut seen = Inbox::with_bytes(decoder(), wire);
    let mut count = 0;
    while let Some(frame) = taken_out.next_frame().unwrap() {
        // Repeatedly, as for a frame that has to wait.
        for _ in 0..2 {
            let first = seen.first().unwrap().unwrap();
            assert_eq!(
                (first.kind, first.body.bytes),
                (frame.kind, &*frame.body.clone().into_bytes())
            );
            assert_eq!(first.body.memory.is_some(), frame.body.len() + 7 > SHARED || count == 13);
        }
        seen.consume();
        count += 1;
    }
    assert_eq!(count, lengths.len() + 1);
    assert!(seen.first().unwrap().is_none() && seen.unfinished() > 0);
    assert_eq!(&seen.buffer[..], &taken_out.buffer[..]);
}

// A frame that was peeked at can be removed.
#[test]
fn a_frame_that_was_looked_at_can_be_taken_out() {
    let mut wire = frame(100);
    wire.extend_from_slice(&frame(30_000));
    let mut inbox = Inbox::with_bytes(FrameDecoder::new(Framing::Packet, 1 << 20), wire);
    for length in [100, 30_000] {
        assert_eq!(inbox.first().unwrap().unwrap().body.bytes.len(), length);
        assert_eq!(inbox.next_frame().unwrap().unwrap().body.len(), length);
    }
    assert!(inbox.next_frame().unwrap().is_none() && inbox.unfinished() == 0);
}

// Many connections may wait long for the rest of a frame.
#[tokio::test]
async fn little_of_a_frame_behind_much_is_held_in_little_memory() {
    let (near, mut far) = UnixStream::pair().unwrap();
    let link = Link::new(Stream::Unix(near), 1000);
    let mut inbox = Inbox::new(FrameDecoder::new(Framing::Packet, 64 << 20));
    let many = frame(10).repeat((56 << 10) / frame(10).len());
    let rest = frame(100);
    let mut sent = 0;
    for round in 0..6 {
        let begun: &[u8] = if round == 0 { &[] } else { &rest[1..] };
        let wire = [begun, &many[..], &rest[..1]].concat();
        far.write_all(&wire).await.unwrap();
        sent += wire.len();
        // Until all bytes were read.
        while sent > inbox.buffer.len() {
            assert_eq!(link.receive(&mut inbox).await.unwrap(), Received::Bytes);
            while let Some(first) = inbox.first().unwrap() {
                sent -= first.body.bytes.len() + (frame(10).len() - 10);
                inbox.consume();
            }
        }
        assert!(inbox.unfinished() > 0);
        assert_eq!(inbox.buffer.capacity(), 1, "in round {round}");
    }
}

/// An encoded frame of any size. Sometimes a packet with several fields.
fn random_frame(random: &mut fastrand::Rng, framing: Framing, wire: &mut BytesMut) -> Vec<u8> {
    let length = match random.u8(0..8) {
        0 => random.usize(0..LARGE * 2),
        1 => SHARED - random.usize(0..20),
        2 => random.usize(0..SHARED),
        _ => random.usize(0..200),
    };
    let body: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
    let mut whole = BytesMut::new();
    assert!(Frame::new(MessageKind::CallReply, body.clone()).encode(framing, &mut whole));
    if framing == Framing::Packet && random.u8(0..8) == 0 {
        // After the message, so that the framing can be detected from the first frame.
        let unknown_field = [0x80, 0x01, 0x00];
        let length = u32::from_be_bytes(*whole.first_chunk().unwrap());
        wire.extend_from_slice(&(length + unknown_field.len() as u32).to_be_bytes());
        wire.extend_from_slice(&whole[4..]);
        wire.extend_from_slice(&unknown_field);
    } else {
        wire.extend_from_slice(&whole);
    }
    body
}

/// Removes the first frame in one of the possible ways.
fn take_one(random: &mut fastrand::Rng, inbox: &mut Inbox) -> Option<Vec<u8>> {
    if random.bool() {
        // Peek, and leave the frame there.
        inbox.first().unwrap();
    }
    if random.bool() {
        let is_there = !matches!(inbox.peek().unwrap(), Peek::Incomplete);
        assert_eq!(inbox.first().unwrap().is_some(), is_there);
    }
    if random.bool() {
        return inbox.next_frame().unwrap().map(|frame| frame.body.into_bytes().to_vec());
    }
    let body = inbox.first().unwrap()?.body.bytes.to_vec();
    inbox.consume();
    Some(body)
}

async fn run(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let framing = random.choice([Framing::Classic, Framing::Packet]).unwrap();
    let mut wire = BytesMut::new();
    let sent: Vec<_> =
        (0..random.usize(1..40)).map(|_| random_frame(&mut random, framing, &mut wire)).collect();
    let (near, mut far) = UnixStream::pair().unwrap();
    let link = Link::new(Stream::Unix(near), 1000);
    let mut inbox = Inbox::new(FrameDecoder::detecting(64 << 20));
    let mut pieces = random.fork();
    let write = async move {
        while !wire.is_empty() {
            let most = if pieces.u8(0..4) == 0 { wire.len() } else { wire.len().min(100) };
            let piece = wire.split_to(pieces.usize(1..=most));
            far.write_all(&piece).await.unwrap();
            if pieces.bool() {
                tokio::task::yield_now().await;
            }
        }
    };
    let read = async {
        let mut taken = Vec::new();
        let mut is_over = false;
        while !is_over {
            is_over = link.receive(&mut inbox).await.unwrap() == Received::End;
            // Some frames may be left while more bytes arrive.
            while is_over || random.u8(0..8) > 0 {
                let Some(body) = take_one(&mut random, &mut inbox) else {
                    break;
                };
                taken.push(body);
            }
        }
        taken
    };
    let ((), taken) = tokio::join!(write, read);
    assert!(taken == sent, "seed {seed}");
    assert!(take_one(&mut fastrand::Rng::with_seed(0), &mut inbox).is_none(), "seed {seed}");
    assert_eq!(inbox.unfinished(), 0, "seed {seed}");
}

// However the bytes are divided, and however the frames are removed.
#[tokio::test]
async fn the_inbox_returns_the_frames_that_were_sent() {
    for seed in 0..200 {
        run(seed).await;
    }
}
