//! Where the tasks of connections run.

use std::future::Future;
use std::num::NonZeroUsize;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::error::BindError;

/// Runs tasks on threads of its own, one after the other, or on the current runtime.
///
/// A connection stays with its worker: handing its work from thread to thread costs more than it
/// brings. Each thread runs a single-threaded runtime.
#[derive(Debug)]
pub(crate) struct Workers {
    threads: Vec<Worker>,
    next: usize,
}

#[derive(Debug)]
struct Worker {
    handle: Handle,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Workers {
    /// Starts the threads; `None` is for none of its own.
    pub(crate) fn start(count: Option<NonZeroUsize>) -> Result<Workers, BindError> {
        let count = count.map_or(0, NonZeroUsize::get);
        let threads = (0..count).map(Worker::start).collect::<Result<_, _>>()?;
        Ok(Workers { threads, next: 0 })
    }

    /// Runs a task on the next worker.
    pub(crate) fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        if self.threads.is_empty() {
            tokio::spawn(task);
            return;
        }
        self.next = (self.next + 1) % self.threads.len();
        self.threads[self.next].handle.spawn(task);
    }

    /// Ends the threads with whatever tasks are left on them.
    pub(crate) async fn stop(self) {
        for worker in self.threads {
            // Gone already if its thread has panicked, which is logged below.
            let _ = worker.stop.send(());
            let joined = tokio::task::spawn_blocking(|| worker.thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                log::error!("a worker thread has panicked");
            }
        }
    }
}

impl Worker {
    fn start(index: usize) -> Result<Worker, BindError> {
        let runtime =
            Builder::new_current_thread().enable_all().build().map_err(BindError::Worker)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name(format!("gsb-worker-{index}"))
            .spawn(move || {
                // An error means that the `Workers` were dropped, which ends the thread as well.
                let _ = runtime.block_on(stopped);
            })
            .map_err(BindError::Worker)?;
        Ok(Worker { handle, stop, thread })
    }
}
