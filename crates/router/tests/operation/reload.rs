//! SIGHUP reloads the configuration: limits and the level of the log, together, without closing a connection.

#![allow(clippy::unwrap_used)]

use std::fs;

use gsb_proto::Framing;
use gsb_proto::messages::CallRequest;
use gsb_testkit::{Peer, RouterProcess};
use tempfile::TempDir;
use tokio::process::Command;

const ROUTER: &str = env!("CARGO_BIN_EXE_router");

/// A router with a configuration file, whose log goes to its standard output.
async fn with_file(directory: &TempDir, text: &str, arguments: &[&str]) -> RouterProcess {
    let file = directory.path().join("router.toml");
    fs::write(&file, text).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" \"$@\" 2>&1", ROUTER, "-l", "127.0.0.1:0", "--config"]);
    command.arg(&file).args(arguments);
    command.env_remove("RUST_LOG");
    RouterProcess::start_command(&mut command, &[]).await
}

async fn reload(router: &mut RouterProcess, directory: &TempDir, text: &str, says: &str) -> String {
    fs::write(directory.path().join("router.toml"), text).unwrap();
    router.process.signal("HUP").await;
    router.process.line_with(says).await
}

#[tokio::test]
async fn limits_change_for_connections_that_are_open() {
    let directory = tempfile::tempdir().unwrap();
    let mut router = with_file(&directory, "max-services = 1", &["--max-open-calls", "7"]).await;
    let mut peer = Peer::connect(&router.addresses[0], Framing::Packet).await;
    assert_eq!((peer.register("/a").await, peer.register("/b").await), (0, 400));

    let text = "max-services = 3\nlog-level = \"debug\"\nmax-open-calls = 9";
    let line = reload(&mut router, &directory, text, "was reloaded").await;
    assert!(line.contains("max-services = 3"), "{line}");
    assert!(line.contains("log-level = debug"), "{line}");
    assert!(!line.contains("max-open-calls"), "a flag overrides the file: {line}");
    assert_eq!((peer.register("/b").await, peer.register("/c").await), (0, 0));
    assert_eq!(peer.register("/d").await, 400);
    // At the new level the router logs connections that end.
    drop(Peer::connect(&router.addresses[0], Framing::Packet).await);
    router.process.line_with("DEBUG").await;

    // What the connection has stays.
    reload(&mut router, &directory, "max-services = 1", "max-services = 1").await;
    assert_eq!(peer.register("/d").await, 400);
    peer.call("/c", "1", "").await;
    let CallRequest { .. } = peer.expect().await;
    router.process.signal("TERM").await;
}

#[tokio::test]
async fn an_unusable_file_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut router = with_file(&directory, "max-services = 1", &[]).await;
    let mut peer = Peer::connect(&router.addresses[0], Framing::Packet).await;
    for (text, problem) in [
        ("max-services = 5\nmax-open-calls = 0", "write at least 1"),
        ("max-services = 5\nmax-servces = 5", "did you mean max-services?"),
        ("max-services = 5\nmax-services = 6", "line 2"),
    ] {
        let line = reload(&mut router, &directory, text, "was not reloaded").await;
        assert!(line.contains(problem) && line.contains("router.toml"), "{line}");
    }
    assert_eq!((peer.register("/a").await, peer.register("/b").await), (0, 400));
    reload(&mut router, &directory, "max-services = 1", "nothing has changed").await;
    let text = "max-services = 2\nworkers = 2\nlisten = \"unix:/x\"";
    fs::write(directory.path().join("router.toml"), text).unwrap();
    router.process.signal("HUP").await;
    let line = router.process.line_with("workers has changed").await;
    assert!(line.contains("restart the router"), "{line}");
    router.process.line_with("was reloaded: max-services = 2").await;
    assert_eq!(peer.register("/b").await, 0);
    router.stop().await;
}
