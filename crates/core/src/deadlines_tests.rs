use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// Calls by their slots, each with the place that was reported last.
type Places = BTreeMap<u32, Place>;

fn note(places: &mut Places) -> impl FnMut(CallKey, Place) + '_ {
    |call, place| {
        places.insert(call.slot, place);
    }
}

impl Deadlines {
    /// The deadline that is at a place.
    fn at(&self, place: Place) -> &Entry {
        match place.get() {
            Where::Heap(index) => &self.heap[index],
            Where::Recent(number) => {
                &self.recent[(number.wrapping_sub(self.first_recent) % PLACES) as usize]
            }
        }
    }

    fn next_expired(
        &mut self,
        now: Instant,
        mut moved: impl FnMut(CallKey, Place),
    ) -> Option<Expired> {
        loop {
            if let Due::Expired(expired) = self.next_due(now, &mut moved)? {
                return Some(expired);
            }
        }
    }
}

proptest! {
    // Rule CA-12.
    #[test]
    fn deadlines_pass_in_their_order(
        first_recent in prop_oneof![Just(0), Just(PLACES - 9), Just(u32::MAX - 9)],
        ops in proptest::collection::vec((0..3u8, prop_oneof![1..20u32, 90..200u32]), 1..300),
    ) {
        let begin = Instant::now();
        let mut deadlines = Deadlines { first_recent, ..Deadlines::default() };
        let mut places = Places::new();
        // By the time in milliseconds, and the serial of the call, which is its slot, too.
        let mut expected = BTreeSet::new();
        let (mut serial, mut time) = (0, 0);
        for (op, number) in ops {
            let now = begin + Duration::from_millis(time.into());
            match op {
                0 => {
                    serial += 1;
                    let call = CallKey { slot: serial, serial };
                    deadlines.insert(call, number, now, note(&mut places));
                    expected.insert((time + number, serial));
                }
                1 => {
                    let Some(&ended) = expected.iter().nth(number as usize % 20) else { continue };
                    expected.remove(&ended);
                    let place = places.remove(&ended.1).unwrap();
                    deadlines.remove(place, note(&mut places));
                }
                _ => {
                    time += number;
                    let now = begin + Duration::from_millis(time.into());
                    while let Some(expired) = deadlines.next_expired(now, note(&mut places)) {
                        let first = expected.pop_first().unwrap();
                        prop_assert!(first.0 <= time);
                        prop_assert_eq!(expired.call.serial, first.1);
                        places.remove(&expired.call.slot);
                    }
                }
            }
            // It may be earlier, to sort deadlines into the heap.
            let next = expected.first().map(|(due, _)| begin + Duration::from_millis((*due).into()));
            prop_assert!(next.is_none_or(|next| deadlines.next().unwrap() <= next));
            prop_assert_eq!(deadlines.len(), expected.len());
            for (slot, place) in &places {
                prop_assert_eq!(deadlines.at(*place).call.slot, *slot);
            }
        }
    }
}

// Rule CA-12: a deadline passes at its time, not before.
#[test]
fn a_deadline_is_exact() {
    for timeout_ms in [1, 100, 101, 250, u32::MAX] {
        let begin = Instant::now();
        let mut deadlines = Deadlines::default();
        let call = CallKey { slot: 7, serial: 8 };
        deadlines.insert(call, timeout_ms, begin, |_, _| {});
        let timeout = Duration::from_millis(timeout_ms.into());
        let due = begin + timeout;
        let before = due - Duration::from_nanos(1);
        assert_eq!(deadlines.next_expired(before, |_, _| {}), None);
        assert_eq!(deadlines.next(), Some(due));
        assert_eq!(deadlines.next_expired(due, |_, _| {}), Some(Expired { call, timeout }));
        assert_eq!((deadlines.next_expired(due, |_, _| {}), deadlines.next()), (None, None));
    }
}

/// The time between two calls, if there are a million in a second.
const PACE: Duration = Duration::from_micros(1);

// Rule CA-12: with the place in the call, at most 64 bytes, also when the heap has just grown.
#[test]
fn a_million_deadlines_are_small() {
    let mut now = Instant::now();
    let mut deadlines = Deadlines::default();
    let mut places = vec![Place::in_heap(0); 1_000_000];
    let note = |places: &mut Vec<Place>, call: CallKey, place| places[call.slot as usize] = place;
    let allocated = |deadlines: &Deadlines| {
        (deadlines.heap.capacity() + deadlines.recent.capacity()) * size_of::<Entry>()
    };
    let place = size_of::<Option<Place>>();
    let mut most = 0;
    for slot in 0..1_000_000 {
        now += PACE;
        while deadlines.next_due(now, |call, at| note(&mut places, call, at)).is_some() {}
        let call = CallKey { slot, serial: slot };
        // Some longer than others.
        let timeout_ms = slot % 1000 + 60_000;
        deadlines.insert(call, timeout_ms, now, |call, at| note(&mut places, call, at));
        // The list has grown, which is for a tenth of a second.
        if slot > 200_000 {
            most = most.max(allocated(&deadlines) / (slot as usize + 1));
        }
    }
    assert!(most + place <= 64, "{most} bytes and a place of {place}");
    println!("{} bytes each", allocated(&deadlines) / 1_000_000 + place);
    // Calls that end leave nothing behind, and the memory is used again.
    let before = allocated(&deadlines);
    for _ in 0..3 {
        for slot in 0..100_000_u32 {
            now += PACE;
            let at = places[slot as usize];
            deadlines.remove(at, |call, at| note(&mut places, call, at));
            let call = CallKey { slot, serial: slot };
            deadlines.insert(call, u32::MAX, now, |call, at| note(&mut places, call, at));
            while deadlines.next_due(now, |call, at| note(&mut places, call, at)).is_some() {}
        }
    }
    assert_eq!((deadlines.len(), allocated(&deadlines)), (1_000_000, before));
}

// A call that stays open keeps the later ones in the list for a tenth of a second, and they are removed in small steps.
#[test]
fn ended_calls_behind_an_open_one_are_removed_in_steps() {
    let now = Instant::now();
    let mut deadlines = Deadlines::default();
    let mut places = Places::new();
    let call = |slot| CallKey { slot, serial: slot };
    for slot in 0..1000 {
        deadlines.insert(call(slot), 1000, now, note(&mut places));
    }
    for slot in 1..1000 {
        deadlines.remove(places[&slot], |_, _| {});
    }
    assert_eq!((deadlines.len(), deadlines.recent.len()), (1, 1000));
    deadlines.remove(places[&0], |_, _| {});
    assert_eq!((deadlines.len(), deadlines.recent.len()), (0, 1000 - AT_ONCE));
    while deadlines.next().is_some() {
        assert_eq!(deadlines.next_due(now, |_, _| {}), Some(Due::Nothing));
    }
    assert_eq!((deadlines.len(), deadlines.void), (0, 0));
}
