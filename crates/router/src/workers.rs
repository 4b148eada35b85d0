//! The threads that run the tasks of connections.

use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::busy_poll::BusyPoll;
use crate::error::BindError;

/// Runs tasks on worker threads, each task on the next thread, or on the current runtime.
///
/// A task stays on its thread, which runs a single-threaded runtime: moving work between threads costs more than it
/// gains.
#[derive(Debug)]
pub(crate) struct Workers {
    threads: Vec<Worker>,
    next: usize,
}

#[derive(Debug)]
struct Worker {
    handle: Handle,
    busy_poll: Arc<BusyPoll>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Workers {
    /// Starts the threads; with `None`, tasks run on the current runtime. `busy_poll` is how long each thread polls
    /// when it has run out of work. Without a processor for other threads it does not poll.
    pub(crate) fn start(
        count: Option<NonZeroUsize>,
        busy_poll: Duration,
    ) -> Result<Workers, BindError> {
        let count = count.map_or(0, NonZeroUsize::get);
        let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let busy_poll = if count < processors { busy_poll } else { Duration::ZERO };
        let threads = (0..count).map(|index| Worker::start(index, busy_poll));
        let threads = threads.collect::<Result<_, _>>()?;
        Ok(Workers { threads, next: 0 })
    }

    /// Runs a task on the next worker.
    pub(crate) fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        if self.threads.is_empty() {
            tokio::spawn(task);
            return;
        }
        self.next = (self.next + 1) % self.threads.len();
        let worker = &self.threads[self.next];
        worker.handle.spawn(worker.busy_poll.watch(task));
    }

    /// Ends the threads and drops the tasks that are left on them.
    pub(crate) async fn stop(self) {
        for worker in self.threads {
            // The receiver is gone if the thread has panicked, which is logged below.
            let _ = worker.stop.send(());
            let joined = tokio::task::spawn_blocking(|| worker.thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                log::error!("a worker thread has panicked; its connections are lost");
            }
        }
    }
}

impl Worker {
    fn start(index: usize, busy_poll: Duration) -> Result<Worker, BindError> {
        let runtime =
            Builder::new_current_thread().enable_all().build().map_err(BindError::Worker)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let busy_poll = Arc::new(BusyPoll::new(busy_poll));
        let polling = busy_poll.clone();
        let thread = thread::Builder::new()
            .name(format!("gsb-worker-{index}"))
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        biased;
                        // Also if the `Workers` are dropped.
                        _ = stopped => {}
                        () = polling.run() => {}
                    }
                });
            })
            .map_err(BindError::Worker)?;
        Ok(Worker { handle, busy_poll, stop, thread })
    }
}
