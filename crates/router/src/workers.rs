//! Where the tasks of connections run.

use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::error::BindError;
use crate::spin::Spin;

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
    spin: Arc<Spin>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Workers {
    /// Starts the threads; `None` is for none of its own. Each stays awake for `spin` when it has nothing to do,
    /// unless others would have to wait for its processor.
    pub(crate) fn start(count: Option<NonZeroUsize>, spin: Duration) -> Result<Workers, BindError> {
        let count = count.map_or(0, NonZeroUsize::get);
        let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let spin = if count < processors { spin } else { Duration::ZERO };
        let threads = (0..count).map(|index| Worker::start(index, spin));
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
        worker.handle.spawn(worker.spin.watch(task));
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
    fn start(index: usize, spin: Duration) -> Result<Worker, BindError> {
        let runtime =
            Builder::new_current_thread().enable_all().build().map_err(BindError::Worker)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let spin = Arc::new(Spin::new(spin));
        let awake = spin.clone();
        let thread = thread::Builder::new()
            .name(format!("gsb-worker-{index}"))
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        biased;
                        // An error means that the `Workers` were dropped, which ends the thread as well.
                        _ = stopped => {}
                        () = awake.stay_awake() => {}
                    }
                });
            })
            .map_err(BindError::Worker)?;
        Ok(Worker { handle, spin, stop, thread })
    }
}
