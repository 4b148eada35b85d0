//! Commands that a peer program reads from its standard input, one per line.

use std::io::BufRead as _;

use tokio::sync::mpsc;

/// The lines of standard input. They end when the test ends.
pub fn commands() -> mpsc::UnboundedReceiver<String> {
    let (sender, receiver) = mpsc::unbounded_channel();
    // In its own thread, because the standard input of tokio would block the end of the runtime.
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
