//! Accepting connections, also when the system is short of what they need.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use gsb_net::{LogLimit, StdStream, Stream};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};

use crate::connection;
use crate::listener::Listener;
use crate::patience::Timeouts;
use crate::shared::Shared;
use crate::unix_listener::FileState;
use crate::workers::Workers;

/// First and longest pause after accepting failed.
const BACKOFF: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_secs(1);

/// How many connections that wait are accepted before other tasks have a turn.
const BATCH: usize = 64;

/// How often a router looks whether the file of its Unix socket is still there.
const FILE_CHECK_INTERVAL: Duration = Duration::from_secs(20);

/// Where accepted connections go.
#[derive(Debug)]
pub(crate) struct Reception {
    pub(crate) shared: Arc<Shared>,
    pub(crate) workers: Mutex<Workers>,
    /// One permit per connection that may be open.
    pub(crate) places: Arc<Semaphore>,
    pub(crate) max_connections: usize,
    pub(crate) max_frame: usize,
    pub(crate) timeouts: Timeouts,
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

impl Reception {
    /// Accepts for as long as it is polled.
    pub(crate) async fn accept_all(&self, mut listener: Listener) {
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
                    self.check_file(&mut listener, &limits);
                }
                Some(Ok(stream)) => {
                    backoff = *BACKOFF.start();
                    self.welcome(stream, &limits);
                    // An error other than the end of the queue is met again above.
                    for _ in 1..BATCH {
                        let Ok(stream) = listener.accept_now() else {
                            break;
                        };
                        self.welcome(stream, &limits);
                    }
                    tokio::task::yield_now().await;
                }
                Some(Err(error)) if concerns_one_connection(&error) => {}
                Some(Err(error)) => {
                    // Out of descriptors, most of all. The connections that are open go on, and one
                    // that ends makes room.
                    if let Some(left_out) = limits.failed.allow() {
                        log::error!("cannot accept connections for now: {error}{left_out}");
                    }
                    tokio::time::sleep(backoff).await;
                    backoff = (backoff * 2).min(*BACKOFF.end());
                }
            }
        }
    }

    /// Makes the file of a Unix socket anew if it was removed, as programs do that clean /tmp.
    fn check_file(&self, listener: &mut Listener, limits: &LogLimits) {
        let Listener::Unix(listener) = listener else {
            return;
        };
        let state = listener.restore_file();
        let path = listener.path().display();
        match state {
            FileState::InPlace => {}
            FileState::Restored(old) => {
                log::warn!("the socket file {path} was removed; it was made anew");
                while let Ok(stream) = old.accept_now() {
                    self.welcome(stream, limits);
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

    fn welcome(&self, stream: StdStream, limits: &LogLimits) {
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            if let Some(left_out) = limits.turned_away.allow()
                && let Ok(stream) = Stream::from_std(stream)
            {
                let (identity, limit) = (connection::identify(&stream), self.max_connections);
                log::warn!(
                    "a connection of {identity} was turned away: {limit} are open, which is the limit \
                     (--max-connections){left_out}"
                );
            }
            return;
        };
        let (shared, max_frame, timeouts) = (self.shared.clone(), self.max_frame, self.timeouts);
        self.workers.lock().spawn(async move {
            match Stream::from_std(stream) {
                Ok(stream) => connection::serve(shared, stream, max_frame, timeouts).await,
                Err(error) => log::error!("a connection is lost: {error}"),
            }
            drop(place);
        });
    }
}

/// Whether accepting failed for one connection only, so that the next may be tried at once.
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
