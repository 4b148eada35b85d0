use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gsb_proto::MessageKind;

use super::*;

/// Counts what is queued of all frames together.
#[derive(Debug)]
struct Counted {
    number: usize,
    left: usize,
    all: Arc<AtomicUsize>,
}

impl Ticket for Counted {
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

/// What the outbox should hold: the frames' numbers, and their bytes that are left.
#[derive(Default)]
struct Naive {
    frames: VecDeque<(usize, Vec<u8>, bool)>,
}

impl Naive {
    fn write(&mut self, mut count: usize, written: &mut Vec<u8>) {
        while count > 0 {
            let (_, bytes, begun) = self.frames.front_mut().unwrap();
            let part = count.min(bytes.len());
            written.extend(bytes.drain(..part));
            *begun = true;
            count -= part;
            if bytes.is_empty() {
                self.frames.pop_front();
            }
        }
    }

    fn remove(&mut self, is_unwanted: impl Fn(usize) -> bool) -> Vec<usize> {
        let mut removed = Vec::new();
        self.frames.retain(|&(number, _, begun)| {
            let stays = begun || !is_unwanted(number);
            if !stays {
                removed.push(number);
            }
            stays
        });
        removed
    }
}

fn write(outbox: &mut Outbox<Counted>, count: usize, written: &mut Vec<u8>) {
    let mut pieces = outbox.take();
    let mut left = count;
    for piece in &pieces {
        let part = left.min(piece.len());
        written.extend_from_slice(&piece[..part]);
        left -= part;
    }
    advance(&mut pieces, count);
    outbox.put_back(pieces, count);
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
        let ticket = Counted { number, left, all: all.clone() };
        outbox.push(Framing::Classic, &frame, ticket, usize::MAX).unwrap();
        let mut bytes = frame.header(Framing::Classic).unwrap().as_ref().to_vec();
        bytes.extend_from_slice(&frame.body.into_bytes());
        naive.frames.push_back((number, bytes, false));
        if random.u8(0..3) == 0 {
            let most = if random.bool() { outbox.queued() } else { outbox.queued().min(20) };
            let count = random.usize(0..=most);
            write(&mut outbox, count, &mut written);
            naive.write(count, &mut expected);
        }
        if random.u8(0..10) == 0 {
            let (divisor, unwanted) = (random.usize(1..4), random.usize(0..4));
            let is_unwanted = |number: usize| number % divisor == unwanted;
            let mut whole = outbox.take_whole();
            let (tickets, gone) = whole.remove(|ticket| is_unwanted(ticket.number));
            outbox.put_back_whole(whole, gone);
            let removed: Vec<_> = tickets.iter().map(|ticket| ticket.number).collect();
            assert_eq!(removed, naive.remove(is_unwanted), "seed {seed}");
        }
        let queued: usize = naive.frames.iter().map(|(_, bytes, _)| bytes.len()).sum();
        assert_eq!(outbox.queued(), queued, "seed {seed}");
        assert_eq!(all.load(Ordering::Relaxed), queued, "seed {seed}");
        let tickets: Vec<_> =
            outbox.tickets().map(|(ticket, begun)| (ticket.number, begun)).collect();
        let frames: Vec<_> =
            naive.frames.iter().map(|&(number, _, begun)| (number, begun)).collect();
        assert_eq!(tickets, frames, "seed {seed}");
    }
    let rest = outbox.queued();
    write(&mut outbox, rest, &mut written);
    naive.write(rest, &mut expected);
    assert!(written == expected, "seed {seed}");
    assert_eq!(all.load(Ordering::Relaxed), 0, "seed {seed}");
}

// Whatever is written and removed in between, the rest leaves whole and in order.
#[test]
fn an_outbox_is_a_queue_of_frames() {
    for seed in 0..300 {
        run(seed);
    }
}

// Of a chunk of small frames one is left; it must not keep the chunk.
#[test]
fn what_is_left_of_many_frames_keeps_no_more_than_itself() {
    let mut outbox = Outbox::default();
    let all = Arc::new(AtomicUsize::new(1000 * 1008));
    let frame = Frame::new(MessageKind::CallRequest, vec![7; 1000]);
    for number in 0..1000 {
        let ticket = Counted { number, left: 1008, all: all.clone() };
        outbox.push(Framing::Classic, &frame, ticket, usize::MAX).unwrap();
    }
    let mut whole = outbox.take_whole();
    let (tickets, gone) = whole.remove(|ticket| ticket.number % 60 != 0);
    assert_eq!((tickets.len(), gone), (983, 983 * 1008));
    outbox.put_back_whole(whole, gone);
    let pieces = outbox.take();
    let kept: usize = pieces.iter().map(Bytes::len).sum();
    assert_eq!(kept, 17 * 1008);
    // Copied together into one piece, not seventeen slices of the chunks they came from.
    assert_eq!(pieces.len(), 1);
}

// Rule LI-2: frames that have to wait long do not keep alive what they were cut from, where others have been.
#[test]
fn a_long_queue_keeps_no_more_than_its_frames() {
    let mut outbox = Outbox::default();
    let mut push = |body: Bytes| {
        let frame = Frame::new(MessageKind::CallReply, body);
        outbox.push(Framing::Classic, &frame, (), usize::MAX).unwrap();
    };
    push(vec![7; BACKLOG + 1].into());
    for _ in 0..10 {
        let read = Bytes::from(vec![7; 128 << 10]);
        push(read.slice(1000..21_000));
        assert!(read.is_unique(), "it was copied");
    }
}
