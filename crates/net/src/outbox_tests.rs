use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gsb_proto::{Frame, MessageKind};

use super::*;

fn append<T: QueuedFrame>(outbox: &mut Outbox<T>, frame: &Frame, companion: T) {
    append_with(outbox, frame, |_| Some(companion));
}

fn append_with<T: QueuedFrame>(
    outbox: &mut Outbox<T>,
    frame: &Frame,
    companion: impl FnOnce(Option<&mut T>) -> Option<T>,
) {
    let outgoing = Outgoing { kind: frame.kind, slices: &frame.body.slices() };
    outbox.push(Framing::Classic, outgoing, companion, usize::MAX).unwrap();
}

/// Counts the queued bytes of all frames.
#[derive(Debug)]
struct Counted {
    number: usize,
    left: usize,
    all: Arc<AtomicUsize>,
}

impl QueuedFrame for Counted {
    fn written(&mut self, bytes: usize) {
        self.left -= bytes;
        self.all.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.all.fetch_sub(self.left, Ordering::Relaxed);
    }
}

/// The frames that the outbox should have.
#[derive(Default)]
struct Naive {
    frames: VecDeque<NaiveFrame>,
}

/// A frame, or several that are written as one.
struct NaiveFrame {
    number: usize,
    /// The remaining bytes.
    bytes: Vec<u8>,
    begun: bool,
}

impl Naive {
    fn write(&mut self, mut count: usize, written: &mut Vec<u8>) {
        while count > 0 {
            let frame = self.frames.front_mut().unwrap();
            let part = count.min(frame.bytes.len());
            written.extend(frame.bytes.drain(..part));
            frame.begun = true;
            count -= part;
            if frame.bytes.is_empty() {
                self.frames.pop_front();
            }
        }
    }
}

/// Writes at most `most` bytes. Returns their number.
fn write<T: QueuedFrame>(outbox: &mut Outbox<T>, most: usize, written: &mut Vec<u8>) -> usize {
    let mut pieces = outbox.take();
    let mut left = most;
    for piece in &pieces {
        let part = left.min(piece.len());
        written.extend_from_slice(&piece[..part]);
        left -= part;
    }
    let count = most - left;
    advance(&mut pieces, count);
    outbox.put_back(pieces, count);
    count
}

fn write_all<T: QueuedFrame>(outbox: &mut Outbox<T>, written: &mut Vec<u8>) {
    while !outbox.is_empty() {
        assert!(write(outbox, usize::MAX, written) > 0, "something can be written");
    }
}

fn run(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let all = Arc::new(AtomicUsize::new(0));
    let (mut outbox, mut naive) = (Outbox::default(), Naive::default());
    let (mut written, mut expected) = (Vec::new(), Vec::new());
    for number in 0..random.usize(1..200) {
        let length = match random.u8(0..4) {
            0 => random.usize(0..10),
            1 => random.usize(0..COPIED + 10),
            2 => COPIED + random.usize(0..2),
            _ => random.usize(0..100),
        };
        let body: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
        let frame = Frame::new(MessageKind::CallRequest, body);
        let left = 8 + length;
        all.fetch_add(left, Ordering::Relaxed);
        let is_joined = random.u8(0..3) == 0;
        append_with(&mut outbox, &frame, |before: Option<&mut Counted>| match before {
            Some(before) if is_joined => {
                before.left += left;
                None
            }
            _ => Some(Counted { number, left, all: all.clone() }),
        });
        let mut bytes = frame.header(Framing::Classic).unwrap().as_ref().to_vec();
        bytes.extend_from_slice(&frame.body.into_bytes());
        match naive.frames.back_mut().filter(|last| is_joined && !last.begun) {
            Some(last) => last.bytes.append(&mut bytes),
            None => naive.frames.push_back(NaiveFrame { number, bytes, begun: false }),
        }
        if random.u8(0..3) == 0 {
            let most = if random.bool() { outbox.queued() } else { outbox.queued().min(20) };
            let count = write(&mut outbox, random.usize(0..=most), &mut written);
            naive.write(count, &mut expected);
        }
        let queued: usize = naive.frames.iter().map(|frame| frame.bytes.len()).sum();
        assert_eq!(outbox.queued(), queued, "seed {seed}");
        assert_eq!(all.load(Ordering::Relaxed), queued, "seed {seed}");
        let mut visited = Vec::new();
        while outbox.visit(|frame| visited.push(frame.number)) {}
        assert!(
            visited.into_iter().eq(naive.frames.iter().map(|frame| frame.number)),
            "seed {seed}"
        );
    }
    let rest = outbox.queued();
    write_all(&mut outbox, &mut written);
    naive.write(rest, &mut expected);
    assert!(written == expected, "seed {seed}");
    assert_eq!(all.load(Ordering::Relaxed), 0, "seed {seed}");
}

// Frames are written whole and in order, whatever is written between two pushes.
#[test]
fn an_outbox_is_a_queue_of_frames() {
    for seed in 0..300 {
        run(seed);
    }
}

// Rule LI-2: frames that wait long do not keep alive the buffers that they were read into.
#[test]
fn a_long_queue_keeps_no_more_than_its_frames() {
    let mut outbox = Outbox::default();
    let mut push = |body: Bytes| {
        let frame = Frame::new(MessageKind::CallReply, body);
        append(&mut outbox, &frame, ());
    };
    push(vec![7; BACKLOG + 1].into());
    for _ in 0..10 {
        let read = Bytes::from(vec![7; 128 << 10]);
        push(read.slice(1000..21_000));
        assert!(read.is_unique(), "it was copied");
    }
}

impl QueuedFrame for u32 {
    fn written(&mut self, _bytes: usize) {}
}

fn push_numbered(outbox: &mut Outbox<u32>, number: u32) {
    let frame = Frame::new(MessageKind::CallRequest, number.to_be_bytes().to_vec());
    append(outbox, &frame, number);
}

// Rule LI-3: each of many frames is visited once, in short steps, while the peer reads some and other tasks append.
#[test]
fn frames_are_visited_in_steps() {
    let mut outbox = Outbox::default();
    (0..10_000).for_each(|number| push_numbered(&mut outbox, number));
    for _ in 0..2 {
        let (mut visited, mut written) = (Vec::new(), Vec::new());
        loop {
            let before = visited.len();
            let is_more = outbox.visit(|number| visited.push(*number));
            assert!(visited.len() - before <= STEP);
            if !is_more {
                break;
            }
            write(&mut outbox, 12 * 100, &mut written);
            push_numbered(&mut outbox, 10_000);
        }
        assert!(visited.is_sorted(), "in order");
        visited.retain(|number| *number < 10_000);
        assert!(visited.windows(2).all(|pair| pair[0] + 1 == pair[1]), "each once");
        assert_eq!(visited.last(), Some(&9_999));
    }
    // Frames that are written before their turn are not visited.
    let mut outbox = Outbox::default();
    (0..5000).for_each(|number| push_numbered(&mut outbox, number));
    assert!(outbox.visit(|_| {}));
    write(&mut outbox, 12 * 3000, &mut Vec::new());
    let mut visited = Vec::new();
    while outbox.visit(|number| visited.push(*number)) {}
    assert!(visited.into_iter().eq(3000..5000));
}
