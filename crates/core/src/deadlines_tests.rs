use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// Calls by their slots, each with the index that the heap has told.
type Indices = BTreeMap<u32, HeapIndex>;

fn note(indices: &mut Indices) -> impl FnMut(CallKey, HeapIndex) + '_ {
    |call, index| {
        indices.insert(call.slot, index);
    }
}

proptest! {
    // Rule CA-12.
    #[test]
    fn deadlines_pass_in_their_order(ops in proptest::collection::vec((0..3u8, 0..20u32), 1..300)) {
        let begin = Instant::now();
        let (mut deadlines, mut indices) = (Deadlines::default(), Indices::new());
        // By the time in milliseconds, and the serial of the call, which is its slot, too.
        let mut expected = BTreeSet::new();
        let (mut serial, mut time) = (0, 0);
        for (op, number) in ops {
            let now = begin + Duration::from_millis(time.into());
            match op {
                0 => {
                    serial += 1;
                    let call = CallKey { slot: serial, serial };
                    deadlines.insert(call, number, now, note(&mut indices));
                    expected.insert((time + number, serial));
                }
                1 => {
                    let Some(&ended) = expected.iter().nth(number as usize) else { continue };
                    expected.remove(&ended);
                    let index = indices.remove(&ended.1).unwrap();
                    deadlines.remove(index, note(&mut indices));
                }
                _ => {
                    time += number;
                    let now = begin + Duration::from_millis(time.into());
                    while let Some(expired) = deadlines.pop_expired(now, note(&mut indices)) {
                        let first = expected.pop_first().unwrap();
                        prop_assert!(first.0 <= time);
                        prop_assert_eq!(expired.call.serial, first.1);
                        indices.remove(&expired.call.slot);
                    }
                }
            }
            let next = expected.first().map(|(due, _)| begin + Duration::from_millis((*due).into()));
            prop_assert_eq!(deadlines.next(), next);
            prop_assert_eq!(deadlines.len(), expected.len());
            for (slot, index) in &indices {
                prop_assert_eq!(deadlines.heap[index.get()].call.slot, *slot);
            }
        }
    }
}

// Rule CA-12: a deadline passes at its time, not before.
#[test]
fn a_deadline_is_exact() {
    let begin = Instant::now();
    let mut deadlines = Deadlines::default();
    let call = CallKey { slot: 7, serial: 8 };
    deadlines.insert(call, 250, begin, |_, _| {});
    let timeout = Duration::from_millis(250);
    let due = begin + timeout;
    assert_eq!(deadlines.next(), Some(due));
    assert_eq!(deadlines.pop_expired(due - Duration::from_nanos(1), |_, _| {}), None);
    assert_eq!(deadlines.pop_expired(due, |_, _| {}), Some(Expired { call, timeout }));
    assert_eq!((deadlines.pop_expired(due, |_, _| {}), deadlines.next()), (None, None));
}

// Rule CA-12: with the index in the call, at most 64 bytes, also when the heap has just grown.
#[test]
fn a_million_deadlines_are_small() {
    let begin = Instant::now();
    let mut deadlines = Deadlines::default();
    let mut indices = vec![HeapIndex::new(0); 1_000_000];
    let allocated = |deadlines: &Deadlines| deadlines.heap.capacity() * size_of::<Entry>();
    let mut most = 0;
    for slot in 0..1_000_000 {
        let call = CallKey { slot, serial: slot };
        // Some longer than others.
        let timeout_ms = slot % 1000 + 60_000;
        let moved = |call: CallKey, index| indices[call.slot as usize] = index;
        deadlines.insert(call, timeout_ms, begin, moved);
        if slot > 1000 {
            most = most.max(allocated(&deadlines) / (slot as usize + 1));
        }
    }
    let index = size_of::<Option<HeapIndex>>();
    assert!(most + index <= 64, "{most} bytes and an index of {index}");
    println!("{} bytes each", allocated(&deadlines) / 1_000_000 + index);
    // Calls that end leave nothing behind, and the memory is used again.
    let capacity = deadlines.heap.capacity();
    for _ in 0..3 {
        for slot in 0..100_000_u32 {
            let moved = |indices: &mut Vec<HeapIndex>, call: CallKey, index| {
                indices[call.slot as usize] = index;
            };
            let index = indices[slot as usize];
            deadlines.remove(index, |call, index| moved(&mut indices, call, index));
            let call = CallKey { slot, serial: slot };
            let again = |call: CallKey, index| moved(&mut indices, call, index);
            deadlines.insert(call, u32::MAX, begin, again);
        }
    }
    assert_eq!((deadlines.len(), deadlines.heap.capacity()), (1_000_000, capacity));
}
