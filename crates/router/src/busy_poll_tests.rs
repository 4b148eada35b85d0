use super::Outcome::{Idle, Preempted, Useful};
use super::*;

const SHORT: Duration = Duration::from_micros(100);
const LONG: Duration = Duration::from_millis(12);

/// The wake-ups, out of `wake_ups`, at which a thread polls if each phase has this outcome and takes `time`.
fn polled(backoff: &mut Backoff, wake_ups: u32, outcome: Outcome, time: Duration) -> Vec<u32> {
    let mut polled = Vec::new();
    for wake_up in 0..wake_ups {
        if backoff.should_poll() {
            backoff.record(outcome, time);
            polled.push(wake_up);
        }
    }
    polled
}

#[test]
fn each_outcome_changes_the_wake_ups_that_are_skipped() {
    // Phases, and the number of wake-ups that are skipped after the last phase.
    let cases: &[(&[(Outcome, Duration)], u32)] = &[
        (&[], 0),
        (&[(Useful, SHORT)], 0),
        (&[(Idle, SHORT)], 1),
        (&[(Idle, SHORT); 2], 2),
        (&[(Idle, SHORT); 8], 128),
        (&[(Idle, SHORT); 9], MOST_SKIPPED_IDLE),
        (&[(Idle, SHORT); 100], MOST_SKIPPED_IDLE),
        (&[(Idle, SHORT), (Idle, SHORT), (Useful, SHORT)], 0),
        (&[(Preempted, SHORT)], 1),
        (&[(Preempted, SHORT); 2], 4),
        (&[(Preempted, SHORT); 7], MOST_SKIPPED_PREEMPTED),
        (&[(Preempted, SHORT); 100], MOST_SKIPPED_PREEMPTED),
        // Rare preemption does not count.
        (&[(Preempted, LONG); 100], 0),
        (&[(Useful, LONG), (Preempted, SHORT)], 0),
        // Useful phases in between do not hide that the thread is preempted often.
        (&[(Preempted, SHORT), (Useful, SHORT), (Useful, SHORT), (Preempted, SHORT)], 4),
        // Polling without preemption halves what preempted phases caused.
        (&[(Preempted, SHORT), (Preempted, SHORT), (Useful, LONG)], 4),
        (&[(Preempted, SHORT), (Preempted, SHORT), (Useful, LONG), (Useful, LONG)], 2),
        // The two causes do not affect each other.
        (&[(Preempted, SHORT), (Preempted, SHORT), (Idle, SHORT)], 4),
        (&[(Idle, SHORT), (Idle, SHORT), (Idle, SHORT), (Preempted, SHORT)], 4),
    ];
    for (phases, expected) in cases {
        let mut backoff = Backoff::default();
        for (outcome, time) in *phases {
            while !backoff.should_poll() {}
            backoff.record(*outcome, *time);
        }
        let skipped = std::iter::repeat_with(|| backoff.should_poll()).take_while(|polls| !polls);
        assert_eq!(skipped.count(), *expected as usize, "{phases:?}");
    }
}

#[test]
fn idle_phases_become_rare() {
    let polled = polled(&mut Backoff::default(), 1000, Idle, SHORT);
    assert_eq!(polled, [0, 2, 5, 10, 19, 36, 69, 134, 263, 519, 775]);
}

#[test]
fn preempted_phases_become_rarer() {
    let polled = polled(&mut Backoff::default(), 100_000, Preempted, SHORT);
    assert_eq!(polled[..6], [0, 2, 7, 24, 89, 346]);
    assert!(polled.len() <= 32, "{polled:?}");
}

#[test]
fn polling_returns_when_preemption_ends() {
    let mut backoff = Backoff::default();
    polled(&mut backoff, 100_000, Preempted, SHORT);
    assert_eq!(backoff.after_preempted, MOST_SKIPPED_PREEMPTED);
    polled(&mut backoff, 3 * MOST_SKIPPED_PREEMPTED, Useful, LONGEST_PHASE);
    assert_eq!(backoff, Backoff::default());
}

#[tokio::test]
async fn a_task_that_runs_makes_a_phase_useful() {
    let busy_poll = Arc::new(BusyPoll::new(Duration::from_millis(1)));
    assert_ne!(busy_poll.poll_once().await, Useful);
    let task = busy_poll.watch(async {
        for _ in 0..10 {
            yield_now().await;
        }
    });
    let (outcome, ()) = tokio::join!(busy_poll.poll_once(), task);
    assert_ne!(outcome, Idle);
}

#[tokio::test]
async fn a_phase_ends_though_there_is_always_work() {
    let busy_poll = Arc::new(BusyPoll::new(Duration::from_secs(1)));
    let work = busy_poll.watch(async {
        loop {
            busy_poll.note_work();
            yield_now().await;
        }
    });
    tokio::select! {
        outcome = busy_poll.poll_once() => assert_ne!(outcome, Idle),
        () = work => {}
    }
}

#[tokio::test(start_paused = true)]
async fn it_wakes_with_the_tasks_and_never_polls_for_no_time() {
    for time in [Duration::ZERO, Duration::from_micros(1)] {
        let busy_poll = Arc::new(BusyPoll::new(time));
        let polling = tokio::spawn({
            let busy_poll = busy_poll.clone();
            async move { busy_poll.run().await }
        });
        for _ in 0..20 {
            // Paused time passes only while no task is ready: endless polling would stop it.
            tokio::time::sleep(Duration::from_secs(1)).await;
            busy_poll.watch(yield_now()).await;
        }
        assert!(!polling.is_finished());
        polling.abort();
    }
}

// Waits for the scheduler, which takes some milliseconds to preempt one of several threads of a processor.
#[cfg(target_os = "linux")]
#[test]
fn preemption_is_noticed() {
    use std::thread;

    let is_over = AtomicBool::new(false);
    let deadline = Instant::now() + Duration::from_secs(20);
    let spin_until = |is_over: &dyn Fn() -> bool| {
        while !is_over() && Instant::now() < deadline {
            std::hint::spin_loop();
        }
    };
    let is_preempted = thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().unwrap().get() {
            scope.spawn(|| spin_until(&|| is_over.load(Ordering::Relaxed)));
        }
        let before = involuntary_switches();
        spin_until(&|| involuntary_switches() != before);
        is_over.store(true, Ordering::Relaxed);
        involuntary_switches() != before
    });
    assert!(is_preempted);
}
