//! Starts tasks in a given order, also on a runtime with several threads.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::runtime::{self, Handle};

use crate::panics::contain;

/// A queue of tasks. Each is polled for the first time after the one before it. A task that has not ended then goes on
/// as a task of the runtime, concurrently with the others.
///
/// Each runtime has a queue of its own, so that its tasks do not wait for another runtime, which may not be running, and
/// do not end with it. A task of the runtime, the starter, polls the queued tasks. It exists while there are any. The
/// limits on running calls bound the queues.
#[derive(Default)]
pub(crate) struct StartQueue {
    /// The queues that have a starter: mostly none or one.
    queues: Mutex<Vec<RuntimeQueue>>,
}

/// The tasks of one runtime.
struct RuntimeQueue {
    runtime: runtime::Id,
    tasks: VecDeque<BoxFuture<'static, ()>>,
}

impl fmt::Debug for StartQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartQueue").finish_non_exhaustive()
    }
}

impl StartQueue {
    /// Adds a task to the queue of the current runtime.
    ///
    /// # Panics
    /// Outside of a tokio runtime; nothing is added then.
    pub(crate) fn push(self: &Arc<Self>, task: BoxFuture<'static, ()>) {
        let handle = Handle::current();
        let runtime = handle.id();
        let mut queues = self.queues.lock();
        if let Some(queue) = queues.iter_mut().find(|queue| queue.runtime == runtime) {
            return queue.tasks.push_back(task);
        }
        queues.push(RuntimeQueue { runtime, tasks: VecDeque::from([task]) });
        drop(queues);
        handle.spawn(Starter { queue: Some(self.clone()), runtime });
    }

    /// The next task of a runtime.
    fn pop(&self, runtime: runtime::Id) -> Option<BoxFuture<'static, ()>> {
        let mut queues = self.queues.lock();
        queues.iter_mut().find(|queue| queue.runtime == runtime)?.tasks.pop_front()
    }

    /// Removes the queue of a runtime if it is empty. `false` if it is not.
    fn remove_empty(&self, runtime: runtime::Id) -> bool {
        let mut queues = self.queues.lock();
        queues.retain(|queue| queue.runtime != runtime || !queue.tasks.is_empty());
        queues.iter().all(|queue| queue.runtime != runtime)
    }

    /// Removes the queue of a runtime. Returns its tasks.
    fn remove(&self, runtime: runtime::Id) -> Option<RuntimeQueue> {
        let mut queues = self.queues.lock();
        let index = queues.iter().position(|queue| queue.runtime == runtime)?;
        Some(queues.swap_remove(index))
    }
}

/// Polls the tasks of a runtime for the first time.
struct Starter {
    /// `None` after the queue was found empty.
    queue: Option<Arc<StartQueue>>,
    runtime: runtime::Id,
}

impl Future for Starter {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(queue) = &self.queue else {
            return Poll::Ready(());
        };
        if let Some(task) = queue.pop(self.runtime) {
            // The destructors of a handler's values may panic.
            contain("a task of a service", || start(task, cx));
        }
        if queue.remove_empty(self.runtime) {
            self.queue = None;
            return Poll::Ready(());
        }
        // One task a turn, so that each has the whole budget of tokio for a turn: a task without budget would have to
        // wait although it could go on, and later tasks would overtake it.
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
    /// The runtime has ended, and the queued tasks end with it.
    fn drop(&mut self) {
        if let Some(queue) = self.queue.take() {
            drop(queue.remove(self.runtime));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt as _;
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

    #[test]
    fn a_push_without_a_runtime_does_not_block_others() {
        let queue = Arc::new(StartQueue::default());
        let push = || queue.push(async {}.boxed());
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(push)).expect_err("no runtime");
        assert!(starts_a_task(&queue));
    }

    #[test]
    fn a_runtime_that_does_not_run_blocks_no_other() {
        let queue = Arc::new(StartQueue::default());
        let idle = runtime::Builder::new_current_thread().build().expect("a runtime");
        let (kept, dropped) = (Arc::new(()), Arc::new(()));
        {
            let (_idle, kept) = (idle.enter(), kept.clone());
            queue.push(async move { drop(kept) }.boxed());
        }
        assert!(starts_a_task(&queue));
        assert_eq!(Arc::strong_count(&kept), 2, "the task of the idle runtime waits for it");
        let other = runtime::Builder::new_current_thread().build().expect("another");
        {
            let (_other, dropped) = (other.enter(), dropped.clone());
            queue.push(async move { drop(dropped) }.boxed());
        }
        drop(other);
        assert_eq!(Arc::strong_count(&dropped), 1, "the task has ended with its runtime");
        idle.block_on(tokio::task::yield_now());
        assert_eq!(Arc::strong_count(&kept), 1, "and no other task has");
        assert!(queue.queues.lock().is_empty());
    }

    /// Whether a task starts on a new runtime.
    fn starts_a_task(queue: &Arc<StartQueue>) -> bool {
        let runtime = runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("a runtime").block_on(async {
            let (ended, end) = tokio::sync::oneshot::channel();
            let task = async move {
                let _ = ended.send(());
            };
            queue.push(task.boxed());
            tokio::time::timeout(Duration::from_secs(20), end).await == Ok(Ok(()))
        })
    }
}
