use super::*;

/// How many frames of a kind and length a turn has, if each takes `time`, and how often the turn reads the clock.
fn frames_and_looks(kind: MessageKind, length: usize, time: Duration) -> (usize, usize) {
    let begin = Instant::now();
    let (mut turn, mut frames, mut looks) = (Turn::new(begin), 0, 0);
    loop {
        frames += 1;
        let clock = || {
            looks += 1;
            begin + time * u32::try_from(frames).unwrap()
        };
        if turn.is_over(kind, length, clock) {
            return (frames, looks);
        }
    }
}

// A turn ends soon after a frame that takes long, whatever its kind and length.
#[test]
fn a_frame_that_takes_long_ends_the_turn() {
    for &kind in MessageKind::ALL {
        let (frames, _) = frames_and_looks(kind, 1024, SLICE);
        assert!(frames <= 8, "{frames} of {kind:?}");
        let (frames, _) = frames_and_looks(kind, COST_OF_LOOK, SLICE);
        assert_eq!(frames, 1, "{kind:?}");
    }
    for kind in [
        MessageKind::RegisterRequest,
        MessageKind::UnregisterRequest,
        MessageKind::SubscribeRequest,
        MessageKind::UnsubscribeRequest,
        MessageKind::BroadcastRequest,
        MessageKind::Hello,
    ] {
        assert_eq!(frames_and_looks(kind, 10, SLICE).0, 1, "{kind:?}");
    }
}

// A call to a name with very many owners that cannot take it takes long, as does the choice by affinity.
#[test]
fn steps_beside_a_frame_end_the_turn() {
    let begin = Instant::now();
    for (steps, frames) in [(1024, 1), (100, 16), (0, BATCH)] {
        let mut turn = Turn::new(begin);
        let is_over = |_: &usize| {
            turn.add_steps(steps);
            turn.is_over(MessageKind::CallRequest, 0, || begin + SLICE)
        };
        let count = (1..).find(is_over).unwrap();
        assert!(count <= frames, "{count} frames of {steps} steps");
    }
}

#[test]
fn a_turn_of_small_calls_hardly_looks_at_the_clock() {
    for kind in [MessageKind::CallRequest, MessageKind::CallReply] {
        let (frames, looks) = frames_and_looks(kind, 100, Duration::from_nanos(200));
        assert_eq!(frames, BATCH);
        assert!(looks <= 2, "{looks} looks in a turn of {kind:?}");
    }
}
