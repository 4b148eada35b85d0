//! Tasks that start in a given order, on a runtime with several threads, too.

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use parking_lot::Mutex;

use crate::panics::contain;

/// A queue that keeps more room than this for tasks is given up when it is empty.
const KEPT: usize = 1024;

/// A queue of tasks of which each is polled for the first time after the one before it. A task that has
/// not ended then goes on as a task of the runtime, beside the others.
///
/// One task of the runtime, the starter, polls them. It exists while there are tasks in the queue. What
/// the queue may hold is bounded by those who fill it.
#[derive(Default)]
pub(crate) struct StartQueue {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tasks: VecDeque<BoxFuture<'static, ()>>,
    has_starter: bool,
}

impl fmt::Debug for StartQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartQueue").finish_non_exhaustive()
    }
}

impl StartQueue {
    /// Adds a task.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub(crate) fn push(self: &Arc<Self>, task: BoxFuture<'static, ()>) {
        let has_starter = {
            let mut state = self.state.lock();
            state.tasks.push_back(task);
            mem::replace(&mut state.has_starter, true)
        };
        if !has_starter {
            tokio::spawn(Starter { queue: Some(self.clone()) });
        }
    }
}

/// Polls the tasks of a queue for the first time.
struct Starter {
    /// `None` when it has found the queue empty.
    queue: Option<Arc<StartQueue>>,
}

impl Future for Starter {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(queue) = &self.queue else {
            return Poll::Ready(());
        };
        let task = queue.state.lock().tasks.pop_front();
        if let Some(task) = task {
            // The destructor of what a handler has kept may panic.
            contain("a task of a service", || start(task, cx));
        }
        let mut state = queue.state.lock();
        if state.tasks.is_empty() {
            state.has_starter = false;
            if state.tasks.capacity() > KEPT {
                state.tasks = VecDeque::new();
            }
            drop(state);
            self.queue = None;
            return Poll::Ready(());
        }
        drop(state);
        // One task a turn, so that each has the whole budget that tokio allows for a turn: a task that
        // ran out of it would have to wait where it needs not, and others would overtake it.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

fn start(mut task: BoxFuture<'static, ()>, cx: &mut Context<'_>) {
    if task.as_mut().poll(cx).is_pending() {
        tokio::spawn(task);
    }
}

impl Drop for Starter {
    /// The runtime has ended, and the tasks end with it, as all its tasks do.
    fn drop(&mut self) {
        if let Some(queue) = self.queue.take() {
            let mut state = queue.state.lock();
            state.has_starter = false;
            let tasks = mem::take(&mut state.tasks);
            drop(state);
            drop(tasks);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt as _;
    use tokio::runtime;
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn tasks_start_in_order_whatever_they_do_then() {
        let queue = Arc::new(StartQueue::default());
        let (started, mut starts) = mpsc::unbounded_channel();
        let lock = Arc::new(tokio::sync::Mutex::new(Vec::new()));
        for number in 0..10_000 {
            let (started, lock) = (started.clone(), lock.clone());
            let task = async move {
                // Takes from the budget of its turn.
                lock.lock().await.push(number);
                started.send(number).expect("a receiver");
                match number {
                    5000 => panic!("on purpose"),
                    _ if number % 2 == 0 => tokio::task::yield_now().await,
                    _ => {}
                }
            };
            queue.push(task.boxed());
        }
        for number in 0..10_000 {
            assert_eq!(starts.recv().await, Some(number));
        }
        assert!(lock.lock().await.is_sorted());
    }

    #[test]
    fn another_runtime_takes_over() {
        let queue = Arc::new(StartQueue::default());
        let (ended, mut ends) = mpsc::unbounded_channel::<()>();
        let first = runtime::Builder::new_current_thread().build().expect("a runtime");
        let task = || {
            let ended = ended.clone();
            async move {
                let _ = ended.send(());
            }
            .boxed()
        };
        {
            let _first = first.enter();
            queue.push(task());
        }
        // The starter was never polled.
        drop(first);
        let second = runtime::Builder::new_current_thread().enable_time().build().expect("another");
        second.block_on(async {
            queue.push(task());
            let end = tokio::time::timeout(Duration::from_secs(20), ends.recv()).await;
            assert_eq!(end, Ok(Some(())));
        });
        assert!(ends.try_recv().is_err(), "the first task has ended with its runtime");
    }
}
