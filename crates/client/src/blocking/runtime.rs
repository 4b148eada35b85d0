//! The thread of a bus for code without a runtime.

use std::fmt;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::api::bus::Bus;
use crate::engine::Engine;
use crate::error::Error;

/// A thread with a runtime for the tasks of one bus. The handles of the bus share it, and dropping the last one ends
/// the bus and the thread.
pub(super) struct Runtime {
    handle: Handle,
    /// The bus, which ends with this runtime. `None` if it was not made.
    engine: Option<Arc<Engine>>,
    /// Tells the thread to end the bus and itself.
    end: Option<oneshot::Sender<Arc<Engine>>>,
    thread: Option<JoinHandle<()>>,
}

impl Runtime {
    /// Starts a thread, and makes a bus that it serves.
    #[track_caller]
    pub(super) fn with_bus(
        make: impl Future<Output = Result<Bus, Error>>,
    ) -> Result<(Bus, Arc<Self>), Error> {
        let mut runtime = Runtime::start()?;
        let bus = runtime.block_on(make)?;
        runtime.engine = Some(bus.engine().clone());
        Ok((bus, Arc::new(runtime)))
    }

    fn start() -> Result<Self, Error> {
        let not_started = |error: std::io::Error| Error::Thread(error.to_string());
        let runtime = Builder::new_current_thread().enable_all().build().map_err(not_started)?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<Arc<Engine>>();
        let run = move || {
            runtime.block_on(async {
                if let Ok(engine) = ended.await {
                    engine.finish();
                    // Until then the connection's task writes queued frames, for a limited time.
                    engine.ended().await;
                }
            });
            // Does not wait for handlers: the last handle may have been dropped by one.
            runtime.shutdown_background();
        };
        let thread = thread::Builder::new().name("gsb-bus".to_owned()).spawn(run);
        let thread = Some(thread.map_err(not_started)?);
        Ok(Runtime { handle, engine: None, end: Some(end), thread })
    }

    /// Waits on this thread for a future, whose timers and tasks the runtime drives.
    ///
    /// # Panics
    /// Within an async context.
    #[track_caller]
    pub(super) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.handle.block_on(future)
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").finish_non_exhaustive()
    }
}

impl Drop for Runtime {
    /// Waits until queued frames are written, except on a thread of a runtime: it must not be blocked, and may belong to
    /// a handler of this bus.
    fn drop(&mut self) {
        if let (Some(end), Some(engine)) = (self.end.take(), self.engine.take()) {
            let _ = end.send(engine);
        }
        if let Some(thread) = self.thread.take()
            && Handle::try_current().is_err()
        {
            let _ = thread.join();
        }
    }
}
