//! The task that runs the broker's timers.

use std::sync::Arc;

use crate::router_state::RouterState;

/// Runs the broker's timers, and reads the clock often enough for it to notice a standstill. Runs for ever.
pub(crate) async fn run(state: Arc<RouterState>) {
    loop {
        let next = state.tick();
        // More may be due already; other tasks run first.
        tokio::task::yield_now().await;
        tokio::select! {
            biased;
            () = state.earlier_tick() => {}
            () = state.clock.sleep_until(next) => {}
        }
    }
}

#[cfg(test)]
#[path = "timer_tests.rs"]
mod tests;
