use gsb_proto::MessageKind;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;

use super::*;
use crate::{Link, Received};

fn frame(length: usize) -> BytesMut {
    let mut wire = BytesMut::new();
    let frame = Frame::new(MessageKind::CallRequest, vec![7; length]);
    assert!(frame.encode(Framing::Packet, &mut wire));
    wire
}

/// What an inbox makes of these bytes.
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

// A small frame that is kept, behind a large one that is not, must not keep the memory of both.
#[tokio::test]
async fn a_frame_does_not_keep_the_memory_of_a_large_one() {
    let mut wire = frame(5 << 20);
    wire.extend_from_slice(&frame(20 << 10));
    let (frames, _) = frames(wire, 2).await;
    let [large, small] = frames.as_slice() else { panic!("two frames") };
    let memory = large.body.segments()[0].as_ptr_range();
    let start = small.body.segments()[0].as_ptr();
    // Where it was read to, behind the large one and in its memory, which is still in use.
    let beyond = memory.end as usize..memory.end as usize + (20 << 10);
    assert!(!beyond.contains(&(start as usize)));
}

// Rule LI-2: what is queued of a connection takes as much memory as it is charged for.
#[tokio::test]
async fn a_large_frame_that_is_kept_keeps_its_own_bytes_only() {
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

// However much there is to read, others get their turn.
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
