use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gsb_proto::{Frame, MessageKind};

use super::*;

fn append<T: Ticket>(outbox: &mut Outbox<T>, frame: &Frame, ticket: T) {
    append_with(outbox, frame, |_| Some(ticket));
}

fn append_with<T: Ticket>(
    outbox: &mut Outbox<T>,
    frame: &Frame,
    ticket: impl FnOnce(Option<&mut T>) -> Option<T>,
) {
    let outgoing = Outgoing { kind: frame.kind, slices: &frame.body.slices() };
    outbox.push(Framing::Classic, outgoing, ticket, usize::MAX).unwrap();
}

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

/// What the outbox should hold.
#[derive(Default)]
struct Naive {
    frames: VecDeque<NaiveFrame>,
}

/// A frame, or several that leave as one.
struct NaiveFrame {
    number: usize,
    /// Those that are left.
    bytes: Vec<u8>,
    begun: bool,
    /// It was asked about, and stays.
    seen: bool,
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

    /// One step; which are taken back, and whether there may be more.
    fn take_back(&mut self, decide: impl Fn(usize) -> Fate) -> (Vec<usize>, bool) {
        let mut taken = Vec::new();
        let (mut frames, mut bytes) = (0, 0);
        let mut at = self.frames.iter().take_while(|frame| frame.seen).count();
        while let Some(frame) = self.frames.get_mut(at) {
            if frames == STEP || bytes >= STEP_BYTES {
                return (taken, true);
            }
            let fate = if frame.begun { Fate::Stay } else { decide(frame.number) };
            frames += 1;
            bytes += frame.bytes.len();
            match fate {
                Fate::NotYet => break,
                Fate::Stay => {
                    frame.seen = true;
                    at += 1;
                }
                Fate::TakeBack => taken.push(self.frames.remove(at).unwrap().number),
            }
        }
        (taken, false)
    }
}

/// Writes so many bytes, or fewer if there is more than is taken out at once. Returns how many.
fn write<T: Ticket>(outbox: &mut Outbox<T>, most: usize, written: &mut Vec<u8>) -> usize {
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

fn write_all<T: Ticket>(outbox: &mut Outbox<T>, written: &mut Vec<u8>) {
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
        match naive.frames.back_mut().filter(|last| is_joined && !last.begun && !last.seen) {
            Some(last) => last.bytes.append(&mut bytes),
            None => {
                naive.frames.push_back(NaiveFrame { number, bytes, begun: false, seen: false });
            }
        }
        if random.u8(0..3) == 0 {
            let most = if random.bool() { outbox.queued() } else { outbox.queued().min(20) };
            let count = write(&mut outbox, random.usize(0..=most), &mut written);
            naive.write(count, &mut expected);
        }
        if random.u8(0..10) == 0 {
            let (divisor, unwanted) = (random.usize(1..4), random.usize(0..4));
            let last = random.usize(0..=2 * number);
            let decide = |number: usize| match number % divisor == unwanted {
                _ if number > last => Fate::NotYet,
                true => Fate::TakeBack,
                false => Fate::Stay,
            };
            let (taken, _) = outbox.take_back(|ticket| decide(ticket.number));
            let numbers: Vec<_> = taken.tickets.iter().map(|ticket| ticket.number).collect();
            assert_eq!((numbers, taken.is_more), naive.take_back(decide), "seed {seed}");
        }
        let queued: usize = naive.frames.iter().map(|frame| frame.bytes.len()).sum();
        assert_eq!(outbox.queued(), queued, "seed {seed}");
        assert_eq!(all.load(Ordering::Relaxed), queued, "seed {seed}");
        let tickets: Vec<_> =
            outbox.tickets().map(|(ticket, begun)| (ticket.number, begun)).collect();
        let frames: Vec<_> = naive.frames.iter().map(|frame| (frame.number, frame.begun)).collect();
        assert_eq!(tickets, frames, "seed {seed}");
    }
    let rest = outbox.queued();
    write_all(&mut outbox, &mut written);
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
        append(&mut outbox, &frame, ticket);
    }
    let mut steps = 0;
    let mut tickets = Vec::new();
    loop {
        let (mut taken, _) = outbox.take_back(|ticket| match ticket.number % 60 {
            0 => Fate::Stay,
            _ => Fate::TakeBack,
        });
        tickets.append(&mut taken.tickets);
        steps += 1;
        if !taken.is_more {
            break;
        }
    }
    assert_eq!((tickets.len(), outbox.queued(), steps), (983, 17 * 1008, 4));
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
        append(&mut outbox, &frame, ());
    };
    push(vec![7; BACKLOG + 1].into());
    for _ in 0..10 {
        let read = Bytes::from(vec![7; 128 << 10]);
        push(read.slice(1000..21_000));
        assert!(read.is_unique(), "it was copied");
    }
}

/// An outbox of small frames with these numbers as their bodies.
fn numbered(numbers: std::ops::Range<u32>) -> Outbox<u32> {
    let mut outbox = Outbox::default();
    numbers.for_each(|number| push_numbered(&mut outbox, number));
    outbox
}

fn push_numbered(outbox: &mut Outbox<u32>, number: u32) {
    let frame = Frame::new(MessageKind::CallRequest, number.to_be_bytes().to_vec());
    append(outbox, &frame, number);
}

impl Ticket for u32 {
    fn written(&mut self, _bytes: usize) {}
}

/// The numbers in what was written.
fn numbers(written: &[u8]) -> Vec<u32> {
    let frames = written.chunks(12);
    frames.map(|frame| u32::from_be_bytes(*frame.last_chunk().unwrap())).collect()
}

// Rule LI-4: what is queued behind what is taken back is neither looked at nor moved.
#[test]
fn taking_back_costs_what_is_taken_back() {
    let mut outbox = numbered(0..100_000);
    let last_ticket = std::ptr::from_ref(outbox.tickets().last().unwrap().0);
    let pieces = outbox.take();
    let (second, last) = (pieces[1].as_ptr(), pieces.back().unwrap().as_ptr());
    outbox.put_back(pieces, 0);

    let mut asked = 0;
    let (taken, _) = outbox.take_back(|&number| {
        asked += 1;
        if number < 1000 { Fate::TakeBack } else { Fate::NotYet }
    });
    assert_eq!((taken.tickets.len(), taken.is_more, asked), (1000, false, 1001));
    assert!(taken.tickets.into_iter().eq(0..1000));

    assert_eq!(std::ptr::from_ref(outbox.tickets().last().unwrap().0), last_ticket);
    let pieces = outbox.take();
    assert_eq!((pieces[1].as_ptr(), pieces.back().unwrap().as_ptr()), (second, last));
    outbox.put_back(pieces, 0);
    let mut written = Vec::new();
    write_all(&mut outbox, &mut written);
    assert!(numbers(&written).into_iter().eq(1000..100_000));
}

// However many there are, others do not wait long, and what stays is looked at once.
#[test]
fn a_step_of_taking_back_is_bounded() {
    let mut outbox = numbered(0..10_000);
    let mut written = Vec::new();
    // Within the first frame.
    assert_eq!(write(&mut outbox, 5, &mut written), 5);
    let (mut all_asked, mut steps) = (Vec::new(), 0);
    let mut next = 10_000;
    loop {
        let before = all_asked.len();
        let (taken, _) = outbox.take_back(|&number| {
            all_asked.push(number);
            match number % 2 {
                _ if number >= 5000 => Fate::NotYet,
                0 => Fate::TakeBack,
                _ => Fate::Stay,
            }
        });
        assert!(all_asked.len() - before <= STEP);
        assert!(taken.tickets.iter().all(|number| number % 2 == 0 && *number > 0));
        steps += 1;
        if !taken.is_more {
            break;
        }
        // Meanwhile the peer takes some, and others append.
        assert_eq!(write(&mut outbox, 100, &mut written), 100);
        push_numbered(&mut outbox, next);
        next += 1;
    }
    assert_eq!(steps, 5);
    assert!(all_asked.into_iter().eq(1..=5000), "each is asked about once, in order");
    let (taken, _) = outbox.take_back(|&number| {
        assert_eq!(number, 5000, "what stays is not asked about again");
        Fate::NotYet
    });
    assert!(taken.tickets.is_empty());

    write_all(&mut outbox, &mut written);
    let stays = (0..next).filter(|&number| number == 0 || number % 2 == 1 || number >= 5000);
    assert!(numbers(&written).into_iter().eq(stays));
}

// Copying it would take long.
#[test]
fn a_large_frame_that_stays_is_not_copied() {
    let mut outbox = Outbox::default();
    let body = Bytes::from(vec![7; 4 << 20]);
    let frame = Frame::new(MessageKind::CallReply, body.clone());
    for number in 0..3 {
        append(&mut outbox, &frame, number);
    }
    // Each is more than a step.
    for is_more in [true, true, false] {
        let (taken, _) = outbox.take_back(|_| Fate::Stay);
        assert_eq!((taken.tickets.len(), taken.is_more), (0, is_more));
    }
    let pieces = outbox.take();
    assert_eq!(pieces.iter().filter(|piece| piece.as_ptr() == body.as_ptr()).count(), 3);
}

// The room for very many frames is not kept for a few.
#[test]
fn few_that_are_left_do_not_keep_the_room_of_many() {
    let mut outbox = numbered(0..100_000);
    let decide = |number: &u32| if *number < 99_990 { Fate::TakeBack } else { Fate::NotYet };
    while outbox.take_back(decide).0.is_more {}
    assert!(outbox.rest.spans.capacity() <= 4 * STEP);
    let mut written = Vec::new();
    write_all(&mut outbox, &mut written);
    assert!(numbers(&written).into_iter().eq(99_990..100_000));
}
