//! Threads, each with its own runtime.

use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;
use tokio::task;

use crate::failure::Failure;

/// The threads of a load. Dropping this ends them and the tasks that run on them.
#[derive(Debug)]
pub(crate) struct Threads {
    threads: Vec<Thread>,
    /// The runtime of the thread that waits for their tasks.
    own: Runtime,
}

#[derive(Debug)]
struct Thread {
    handle: Handle,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Threads {
    /// Starts `count` threads, or one if `count` is 0.
    pub(crate) fn start(count: u32) -> Result<Threads, Failure> {
        let start = |_| -> Result<Thread, Failure> {
            let runtime = runtime()?;
            let handle = runtime.handle().clone();
            let (end, is_over) = oneshot::channel::<()>();
            // Dropping the sender ends the thread.
            let thread = std::thread::spawn(move || drop(runtime.block_on(is_over)));
            Ok(Thread { handle, end: Some(end), thread: Some(thread) })
        };
        let threads = (0..count.max(1)).map(start).collect::<Result<_, _>>()?;
        Ok(Threads { threads, own: runtime()? })
    }

    /// Spawns a task on the thread with this number, modulo their count.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        number: usize,
        task: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> task::JoinHandle<Result<T, Failure>> {
        self.threads[number % self.threads.len()].handle.spawn(task)
    }

    /// Blocks until a task ends, and returns its result.
    pub(crate) fn wait<T>(&self, task: task::JoinHandle<Result<T, Failure>>) -> Result<T, Failure> {
        self.own.block_on(task).unwrap_or(Err(Failure::Panicked))
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        for thread in &mut self.threads {
            thread.end.take();
        }
        for thread in &mut self.threads {
            // `wait` has already reported a panic.
            let _ = thread.thread.take().map(JoinHandle::join);
        }
    }
}

/// A runtime for the current thread.
pub(crate) fn runtime() -> Result<Runtime, Failure> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}
