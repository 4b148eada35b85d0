//! Accepting connections.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use gsb_net::{LogLimit, StdStream, Stream};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};

use crate::config::RouterConfig;
use crate::connection;
use crate::error::BindError;
use crate::identity::identify;
use crate::listener::Listener;
use crate::router_state::RouterState;
use crate::stopping::{FLUSH_TIMEOUT, ShutdownHandle};
use crate::unix_listener::FileState;
use crate::workers::Workers;

/// The first and the longest pause after accepting has failed.
const BACKOFF: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_secs(1);

/// The most connections that are accepted before other tasks run.
const BATCH: usize = 64;

/// Time between two checks that the file of a Unix socket exists.
const FILE_CHECK_INTERVAL: Duration = Duration::from_secs(20);

/// Accepts the connections of a router and starts a task for each.
#[derive(Debug)]
pub(crate) struct Acceptor {
    state: Arc<RouterState>,
    workers: Mutex<Workers>,
    /// One permit for each connection that may still be opened.
    permits: Arc<Semaphore>,
    max_connections: usize,
    max_frame: usize,
}

/// Limits for the log messages about one listener.
#[derive(Debug)]
struct LogLimits {
    failed: LogLimit,
    turned_away: LogLimit,
    lost_file: LogLimit,
}

impl Default for LogLimits {
    fn default() -> Self {
        let [failed, turned_away, lost_file] = [(); 3].map(|()| LogLimit::new(1));
        LogLimits { failed, turned_away, lost_file }
    }
}

impl Acceptor {
    /// Starts the workers.
    ///
    /// # Errors
    /// [`BindError::Worker`] if one cannot be started.
    pub(crate) fn start(
        config: &RouterConfig,
        state: Arc<RouterState>,
    ) -> Result<Acceptor, BindError> {
        let max_connections = config.max_connections.min(Semaphore::MAX_PERMITS);
        Ok(Acceptor {
            state,
            workers: Mutex::new(Workers::start(config.workers, config.busy_poll)?),
            permits: Arc::new(Semaphore::new(max_connections)),
            max_connections,
            max_frame: config.max_frame,
        })
    }

    pub(crate) fn state(&self) -> &Arc<RouterState> {
        &self.state
    }

    /// Accepts connections until the router is asked to stop, and closes the listener.
    pub(crate) async fn run(&self, mut listener: Listener, shutdown: &ShutdownHandle) {
        tokio::select! {
            biased;
            () = shutdown.requested() => {}
            () = self.accept_all(&mut listener) => {}
        }
        listener.close();
    }

    /// Waits for the tasks of all connections, which are closed, and ends the workers.
    pub(crate) async fn finish(self) {
        let all = u32::try_from(self.max_connections).unwrap_or(u32::MAX);
        // Each task returns its permit when it ends. Stopping the workers ends the tasks that are left.
        let _ = tokio::time::timeout(FLUSH_TIMEOUT, self.permits.acquire_many(all)).await;
        self.workers.into_inner().stop().await;
    }

    /// Accepts connections, and never ends.
    async fn accept_all(&self, listener: &mut Listener) {
        let mut backoff = *BACKOFF.start();
        let limits = LogLimits::default();
        let mut file_check = Instant::now() + FILE_CHECK_INTERVAL;
        loop {
            let accepted = tokio::select! {
                biased;
                () = sleep_until(file_check), if listener.has_file() => None,
                accepted = listener.accept() => Some(accepted),
            };
            match accepted {
                None => {
                    file_check = Instant::now() + FILE_CHECK_INTERVAL;
                    self.check_file(listener, &limits);
                }
                Some(Ok(stream)) => {
                    backoff = *BACKOFF.start();
                    self.admit(stream, &limits);
                    // An error other than an empty queue is reported by the next `accept`.
                    for _ in 1..BATCH {
                        let Ok(stream) = listener.accept_now() else {
                            break;
                        };
                        self.admit(stream, &limits);
                    }
                    tokio::task::yield_now().await;
                }
                Some(Err(error)) if concerns_one_connection(&error) => {}
                Some(Err(error)) => {
                    // The usual cause is that the process has no free file descriptor. Open connections go on, and
                    // each frees its descriptor when it ends.
                    if let Some(left_out) = limits.failed.allow() {
                        log::error!(
                            "cannot accept connections for now: {error}; if files run out, raise the limit of open files \
                             (ulimit -Hn) or lower --max-connections{left_out}"
                        );
                    }
                    tokio::time::sleep(backoff).await;
                    backoff = (backoff * 2).min(*BACKOFF.end());
                }
            }
        }
    }

    /// Creates the file of a Unix socket again if it was removed, as programs that clean /tmp do.
    fn check_file(&self, listener: &mut Listener, limits: &LogLimits) {
        let Listener::Unix(listener) = listener else {
            return;
        };
        let state = listener.restore_file();
        let path = listener.path().display();
        match state {
            FileState::InPlace => {}
            FileState::Restored(old) => {
                log::warn!("the socket file {path} was removed, and has been created again");
                while let Ok(stream) = old.accept_now() {
                    self.admit(stream, limits);
                }
            }
            FileState::Lost(problem) => {
                if let Some(left_out) = limits.lost_file.allow() {
                    log::error!(
                        "no new peer can connect to the socket {path}: {problem}{left_out}"
                    );
                }
            }
        }
    }

    /// Starts the task of a connection, or turns it away if the limit is reached.
    fn admit(&self, stream: StdStream, limits: &LogLimits) {
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            if let Some(left_out) = limits.turned_away.allow()
                && let Ok(stream) = Stream::from_std(stream)
            {
                let (identity, limit) = (identify(&stream), self.max_connections);
                log::warn!(
                    "a connection of {identity} was turned away: {limit} are open, which is the limit \
                     (--max-connections){left_out}"
                );
            }
            return;
        };
        let (state, max_frame) = (self.state.clone(), self.max_frame);
        self.workers.lock().spawn(async move {
            match Stream::from_std(stream) {
                Ok(stream) => connection::serve(state, stream, max_frame).await,
                Err(error) => log::error!("cannot serve an accepted connection: {error}"),
            }
            drop(permit);
        });
    }
}

/// Whether accepting has failed for one connection only, so that the next can be tried at once.
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::NotConnected
            | io::ErrorKind::InvalidInput
    )
}
