//! Threads with a runtime each.

use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;
use tokio::task;

use crate::Failure;

/// The threads of a load. They end, and all that runs on them, when this is dropped.
#[derive(Debug)]
pub(crate) struct Threads {
    threads: Vec<Thread>,
    /// To wait for what runs on them.
    own: Runtime,
}

#[derive(Debug)]
struct Thread {
    handle: Handle,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Threads {
    /// Starts so many, one at least.
    pub(crate) fn start(count: u32) -> Result<Threads, Failure> {
        let start = |_| -> Result<Thread, Failure> {
            let runtime = runtime()?;
            let handle = runtime.handle().clone();
            let (end, is_over) = oneshot::channel::<()>();
            // An error means that the sender was dropped, which ends the thread.
            let thread = std::thread::spawn(move || drop(runtime.block_on(is_over)));
            Ok(Thread { handle, end: Some(end), thread: Some(thread) })
        };
        let threads = (0..count.max(1)).map(start).collect::<Result<_, _>>()?;
        Ok(Threads { threads, own: runtime()? })
    }

    /// Runs a task on one of them.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        number: usize,
        task: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> task::JoinHandle<Result<T, Failure>> {
        self.threads[number % self.threads.len()].handle.spawn(task)
    }

    /// Waits for a task.
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
            // What panicked there was said where it was waited for.
            let _ = thread.thread.take().map(JoinHandle::join);
        }
    }
}

pub(crate) fn runtime() -> Result<Runtime, Failure> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}
