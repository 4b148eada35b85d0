//! Accepting connections, also when the system is short of what they need.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use gsb_net::Stream;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::connection;
use crate::listener::Listener;
use crate::patience::Timeouts;
use crate::quiet::Quiet;
use crate::shared::Shared;
use crate::workers::Workers;

/// First and longest pause after accepting failed.
const BACKOFF: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_secs(1);

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

impl Reception {
    /// Accepts for as long as it is polled.
    pub(crate) async fn accept_all(&self, listener: &Listener) {
        let mut backoff = *BACKOFF.start();
        let mut trouble = Quiet::default();
        loop {
            match listener.accept().await {
                Ok(stream) => {
                    backoff = *BACKOFF.start();
                    self.welcome(stream, &mut trouble);
                }
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => {
                    // Out of descriptors, most of all. The connections that are open go on, and one
                    // that ends makes room.
                    if trouble.may_log() {
                        log::error!("cannot accept connections for now: {error}");
                    }
                    tokio::time::sleep(backoff).await;
                    backoff = (backoff * 2).min(*BACKOFF.end());
                }
            }
        }
    }

    fn welcome(&self, stream: Stream, trouble: &mut Quiet) {
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            if trouble.may_log() {
                let (identity, limit) = (connection::identify(&stream), self.max_connections);
                log::warn!(
                    "a connection of {identity} was turned away: {limit} are open, which is the limit \
                     (--max-connections)"
                );
            }
            return;
        };
        let Ok(stream) = stream.into_std() else {
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
