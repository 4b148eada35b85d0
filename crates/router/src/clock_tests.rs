use tokio::time::advance;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Advances the clock while the router runs.
async fn run(clock: &Clock, time: Duration) {
    for _ in 0..time.div_duration_f64(clock.beat()).ceil() as usize {
        advance(clock.beat()).await;
        clock.now();
    }
}

#[tokio::test(start_paused = true)]
async fn it_goes_on_while_it_is_looked_at() {
    let clock = Clock::new(4 * SECOND);
    let (begin, real_begin) = (clock.now(), real());
    run(&clock, 60 * SECOND).await;
    assert_eq!(clock.now() - begin, 60 * SECOND);
    assert_eq!(real() - real_begin, 60 * SECOND);
}

// Rule LI-10.
#[tokio::test(start_paused = true)]
async fn it_stands_still_while_it_is_not_looked_at_and_for_a_second_more() {
    let clock = Clock::new(4 * SECOND);
    let begin = clock.now();
    advance(3600 * SECOND).await;
    assert_eq!(clock.now(), begin);
    advance(SECOND / 2).await;
    assert_eq!(clock.now(), begin);
    advance(SECOND).await;
    assert_eq!(clock.now(), begin + SECOND / 2);
}

#[tokio::test(start_paused = true)]
async fn it_stands_still_again_before_it_goes_on() {
    let clock = Clock::new(4 * SECOND);
    let begin = clock.now();
    for _ in 0..3 {
        advance(60 * SECOND).await;
        assert_eq!(clock.now(), begin);
        advance(SECOND / 2).await;
        assert_eq!(clock.now(), begin);
    }
    run(&clock, 3 * SECOND).await;
    assert_eq!(clock.now() - begin, 5 * SECOND / 2);
}

#[tokio::test(start_paused = true)]
async fn it_forgets_no_standstill() {
    let clock = Clock::new(4 * SECOND);
    let begin = clock.now();
    for _ in 0..100 {
        advance(60 * SECOND).await;
        clock.now();
        run(&clock, 2 * SECOND).await;
    }
    assert_eq!(clock.now() - begin, 100 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_sleep_lasts_longer_by_the_standstill() {
    let clock = Clock::new(4 * SECOND);
    let real_begin = real();
    let deadline = clock.now() + 10 * SECOND;
    let sleep = async {
        clock.sleep_until(deadline).await;
        real() - real_begin
    };
    let live = async {
        run(&clock, 5 * SECOND).await;
        advance(60 * SECOND).await;
        run(&clock, 10 * SECOND).await;
    };
    let (slept, ()) = tokio::join!(sleep, live);
    assert!((71 * SECOND..=72 * SECOND).contains(&slept), "{slept:?}");
}
