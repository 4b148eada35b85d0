//! Signals: SIGTERM, SIGINT and SIGQUIT stop the router, and SIGHUP reloads its configuration. Others that would kill it
//! are ignored.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

/// Signals within this time count as one, because a terminal and a supervisor may both send one.
const SAME_SIGNAL: Duration = Duration::from_millis(200);

/// Receives the signals of this process.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
    user_1: Signal,
    user_2: Signal,
}

impl Signals {
    /// Installs the handlers. From now on none of these signals kills the process.
    ///
    /// # Errors
    /// An error of the system.
    pub(crate) fn listen() -> io::Result<Self> {
        // A log file at its size limit (RLIMIT_FSIZE) then behaves like a full disk. Not logged, because that would be
        // another write to it.
        drop(signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?);
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
            user_1: signal(SignalKind::user_defined1())?,
            user_2: signal(SignalKind::user_defined2())?,
        })
    }

    /// Waits for SIGTERM, SIGINT or SIGQUIT. Calls `reload` at each SIGHUP.
    pub(crate) async fn stop(&mut self, mut reload: impl FnMut()) {
        loop {
            let ignored = tokio::select! {
                biased;
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.quit.recv() => return,
                _ = self.hangup.recv() => {
                    reload();
                    continue;
                }
                _ = self.user_1.recv() => "SIGUSR1",
                _ = self.user_2.recv() => "SIGUSR2",
            };
            log::info!("{ignored} is ignored; SIGTERM stops the router");
        }
    }

    /// Waits for a second stop signal. The first was received just now.
    pub(crate) async fn stop_again(&mut self) {
        let first = Instant::now();
        loop {
            self.stop(|| log::info!("the configuration is not reloaded while the router stops"))
                .await;
            if first.elapsed() >= SAME_SIGNAL {
                return;
            }
        }
    }
}
