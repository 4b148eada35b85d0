//! A queue between the router and standard error. A thread of its own empties it, so that a full pipe does not block
//! the router.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// The most lines that may wait to be written. Further lines are dropped and counted.
const MAX_LINES: usize = 1024;

/// How long the program waits, before it exits, for lines to be written.
const FLUSH_TIME: Duration = Duration::from_millis(500);

/// The pause before a full queue is tried again.
const RETRY_TIME: Duration = Duration::from_millis(5);

/// A writer that queues lines and never blocks.
#[derive(Debug, Clone)]
pub(crate) struct LogQueue {
    entries: SyncSender<Entry>,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Entry {
    Line(Vec<u8>),
    /// Asks for a message when all lines before it are written.
    Flush(SyncSender<()>),
}

impl LogQueue {
    /// Starts a thread that writes the lines to `output`.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(crate) fn start(output: impl Write + Send + 'static) -> io::Result<LogQueue> {
        let (entries, queue) = sync_channel(MAX_LINES);
        let dropped = Arc::new(AtomicU64::new(0));
        let counter = dropped.clone();
        thread::Builder::new()
            .name("gsb-log".to_owned())
            .spawn(move || write_all(&queue, &counter, output))?;
        Ok(LogQueue { entries, dropped })
    }

    /// Waits until all lines are written, for half a second at most.
    pub(crate) fn flush_with_timeout(&self) {
        let deadline = Instant::now() + FLUSH_TIME;
        let (done, is_done) = sync_channel(1);
        while let Err(TrySendError::Full(_)) = self.entries.try_send(Entry::Flush(done.clone())) {
            if Instant::now() >= deadline {
                return;
            }
            thread::sleep(RETRY_TIME);
        }
        let _ = is_done.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

impl Write for LogQueue {
    /// Queues a whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.entries.try_send(Entry::Line(line.to_vec())).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs work that may block on another thread, and waits for its end for at most half a second.
pub(crate) fn run_with_timeout(run: impl FnOnce() + Send + 'static) {
    let (done, is_done) = sync_channel(1);
    // If no thread can be started, the program goes on without it.
    let _ = thread::Builder::new().spawn(move || {
        run();
        let _ = done.send(());
    });
    let _ = is_done.recv_timeout(FLUSH_TIME);
}

fn write_all(queue: &Receiver<Entry>, dropped: &AtomicU64, mut output: impl Write) {
    for entry in queue {
        match entry {
            // If writing fails, as on a full disk, the line is lost. There is no other place to report that.
            Entry::Line(line) => {
                let _ = output.write_all(&line);
                let count = dropped.swap(0, Ordering::Relaxed);
                if count > 0 {
                    let _ = writeln!(
                        output,
                        "{count} lines of the log were dropped, because standard error was blocked"
                    );
                }
            }
            Entry::Flush(done) => {
                let _ = output.flush();
                let _ = done.send(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    /// An output that blocks while the gate is closed.
    #[derive(Clone, Default)]
    struct Gate {
        closed: Arc<Mutex<()>>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _open = self.closed.lock();
            self.written.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_beyond_the_queue_are_dropped_and_counted() {
        let gate = Gate::default();
        let closed = gate.closed.lock();
        let mut queue = LogQueue::start(gate.clone()).unwrap();
        let lines = MAX_LINES + 100;
        for number in 0..lines {
            queue.write_all(format!("line {number}\n").as_bytes()).unwrap();
        }
        // Times out, because the output blocks.
        queue.flush_with_timeout();
        drop(closed);
        queue.flush_with_timeout();
        let written = String::from_utf8(gate.written.lock().clone()).unwrap();
        let kept = written.lines().filter(|line| line.starts_with("line ")).count();
        let said = format!("{} lines of the log were dropped", lines - kept);
        assert!(kept >= MAX_LINES && kept < lines, "{kept} of {lines}");
        assert!(written.contains(&said), "no {said:?}");
    }
}
