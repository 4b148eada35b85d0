//! Commands that a peer program reads from its standard input, one per line.

use std::io::BufRead as _;

use tokio::sync::mpsc;

/// The lines of standard input. Ends with it, which is how a peer learns that its test is gone.
pub fn commands() -> mpsc::UnboundedReceiver<String> {
    let (sender, receiver) = mpsc::unbounded_channel();
    // A thread of its own: tokio's standard input would keep the runtime from shutting down.
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// A command's name, its first argument, and the rest of the line.
pub fn words(command: &str) -> (&str, &str, &str) {
    let mut words = command.splitn(3, ' ');
    let mut next = || words.next().unwrap_or_default();
    (next(), next(), next())
}
