use super::Outcome::{Idle, Preempted, Useful};
use super::*;

/// The wake-ups, of so many, at which a thread polls if each phase ends like this.
fn polled(backoff: &mut Backoff, wake_ups: u32, outcome: impl Fn(usize) -> Outcome) -> Vec<u32> {
    let mut polled = Vec::new();
    for wake_up in 0..wake_ups {
        if backoff.should_poll() {
            backoff.record(outcome(polled.len()));
            polled.push(wake_up);
        }
    }
    polled
}

#[test]
fn each_outcome_changes_the_wake_ups_that_are_skipped() {
    // The outcomes, and how many wake-ups are skipped after the last one.
    let cases: &[(&[Outcome], u32)] = &[
        (&[], 0),
        (&[Useful], 0),
        (&[Idle], 1),
        (&[Idle, Idle], 2),
        (&[Idle; 8], 128),
        (&[Idle; 9], MOST_SKIPPED_IDLE),
        (&[Idle; 100], MOST_SKIPPED_IDLE),
        (&[Idle, Idle, Idle, Useful], 0),
        (&[Preempted], 1),
        (&[Preempted, Preempted], 4),
        (&[Preempted; 8], MOST_SKIPPED_PREEMPTED),
        (&[Preempted; 100], MOST_SKIPPED_PREEMPTED),
        // A phase that is preempted now and then costs one wake-up.
        (&[Preempted, Useful], 0),
        (&[Preempted, Useful, Preempted], 1),
        // Useful phases in between do not hide that most are preempted.
        (&[Preempted, Preempted, Useful], 2),
        (&[Preempted, Preempted, Useful, Preempted, Useful, Preempted], 16),
        // Idle phases do not shorten what preempted ones have caused, nor the other way round.
        (&[Preempted, Preempted, Preempted, Idle], 16),
        (&[Idle, Idle, Idle, Preempted], 4),
    ];
    for (outcomes, expected) in cases {
        let mut backoff = Backoff::default();
        for outcome in *outcomes {
            while !backoff.should_poll() {}
            backoff.record(*outcome);
        }
        let skipped = std::iter::repeat_with(|| backoff.should_poll()).take_while(|polls| !polls);
        assert_eq!(skipped.count(), *expected as usize, "{outcomes:?}");
    }
}

#[test]
fn idle_phases_become_rare() {
    let polled = polled(&mut Backoff::default(), 1000, |_| Idle);
    assert_eq!(polled, [0, 2, 5, 10, 19, 36, 69, 134, 263, 519, 775]);
}

#[test]
fn preempted_phases_become_rarer() {
    let polled = polled(&mut Backoff::default(), 100_000, |_| Preempted);
    assert_eq!(polled[..6], [0, 2, 7, 24, 89, 346]);
    assert!(polled.len() <= 14, "{polled:?}");
}

#[test]
fn polling_returns_when_preemption_ends() {
    let mut backoff = Backoff::default();
    polled(&mut backoff, 100_000, |_| Preempted);
    assert_eq!(backoff.after_preempted, MOST_SKIPPED_PREEMPTED);
    polled(&mut backoff, 3 * MOST_SKIPPED_PREEMPTED, |_| Useful);
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
