//! The program `router`: its options, addresses, messages and exit codes.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use gsb_proto::messages::*;
use gsb_proto::{Address, Framing};
use gsb_testkit::{Peer, RouterProcess, Spawned, within};
use socket2::{Domain, SockAddr, Socket, Type};
use tempfile::TempDir;
use tokio::process::Command;

const ROUTER: &str = env!("CARGO_BIN_EXE_router");

/// A directory, and the path and address of a socket in it.
fn place() -> (TempDir, PathBuf, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gsb.sock");
    let url = format!("unix:{}", path.display());
    (directory, path, url)
}

/// Runs the program until it ends by itself.
async fn run(arguments: &[&str]) -> Output {
    let run = Command::new(ROUTER)
        .args(arguments)
        .env_remove("GSB_URL")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    within("the end of the program", run).await.unwrap()
}

/// A router whose standard error is redirected to a file.
async fn logging_to(file: &Path, arguments: &[&str]) -> RouterProcess {
    let mut command = Command::new(ROUTER);
    command.args(arguments).env_remove("RUST_LOG").stderr(std::fs::File::create(file).unwrap());
    RouterProcess::start_command(&mut command, &[]).await
}

/// Runs the program with arguments with which it does not start, and prints its output.
async fn assert_fails(arguments: &[&str], code: i32, expected: &str) {
    let output = run(arguments).await;
    assert_eq!(output.status.code(), Some(code), "{arguments:?}");
    let sentence = text(&output.stderr);
    println!("{}", sentence.trim_end());
    assert!(sentence.contains(expected), "{arguments:?}: {sentence}");
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn it_prints_its_addresses_and_stops_cleanly() {
    for signal in ["TERM", "INT"] {
        let (_directory, path, url) = place();
        let arguments = ["-l", &url, "-l", "127.0.0.1:0"];
        let mut router = RouterProcess::start(ROUTER, arguments, &[]).await;
        assert_eq!(router.addresses[0].to_string(), url);
        let Address::Tcp { port, .. } = &router.addresses[1] else { panic!() };
        assert_ne!(*port, 0, "the chosen port");
        let mut service = Peer::connect(&router.addresses[0], Framing::Packet).await;
        let mut caller = Peer::connect(&router.addresses[1], Framing::Classic).await;
        service.register("/a").await;
        caller.call("/a", "1", "hello").await;
        assert_eq!(service.expect::<CallRequest>().await.data, "hello");

        router.process.signal(signal).await;
        assert_eq!(router.process.wait().await.code(), Some(0), "SIG{signal}");
        assert!(!path.exists(), "the socket is removed");
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 0);
        service.expect_close().await;
    }
}

#[tokio::test]
async fn the_environment_and_a_file_set_options() {
    let (directory, path, url) = place();
    let file = directory.path().join("router.toml");
    std::fs::write(&file, "unix-mode = \"0660\"\nmax-services = 1\n").unwrap();
    let variables = [
        ("GSB_URL", url.as_str()),
        ("GSB_CONFIG", file.to_str().unwrap()),
        ("GSB_MAX_FRAME", "1KiB"),
        ("GSB_WORKERS", ""),
    ];
    let router = RouterProcess::start(ROUTER, ["--max-services", "2"], &variables).await;
    let mode = path.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let mut peer = Peer::connect(&router.addresses[0], Framing::Packet).await;
    let codes = [peer.register("/a").await, peer.register("/b").await, peer.register("/c").await];
    assert_eq!(codes, [0, 0, 400], "a flag has priority over the file");
    peer.call("/a", "1", &"x".repeat(2000)).await;
    peer.expect_close().await;
}

#[tokio::test]
async fn a_socket_is_private_by_default() {
    let (_directory, path, url) = place();
    let _router = RouterProcess::start(ROUTER, ["-l", &url], &[]).await;
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn without_a_listen_option_the_default_address_is_used() {
    let (directory, _, url) = place();
    let runtime_directory = directory.path().to_str().unwrap();
    // An empty variable counts as not set.
    let variables = [("XDG_RUNTIME_DIR", runtime_directory), ("GSB_URL", "")];
    let router = RouterProcess::start(ROUTER, [""; 0], &variables).await;
    assert_eq!(router.addresses[0].to_string(), url);
}

#[tokio::test]
async fn a_path_with_a_live_router_is_an_error() {
    let (_directory, _, url) = place();
    let router = RouterProcess::start(ROUTER, ["-l", &url], &[]).await;
    let output = run(&["-l", &url]).await;
    assert_eq!(output.status.code(), Some(3));
    let sentence = text(&output.stderr);
    assert!(sentence.contains(&url) && sentence.contains("in use"), "{sentence}");
    assert!(text(&output.stdout).is_empty());
    // The first router is not disturbed.
    Peer::connect(&router.addresses[0], Framing::Packet).await.expect_nothing().await;
}

// A live socket of another program has no lock.
#[tokio::test]
async fn a_path_with_another_live_listener_is_an_error() {
    let (_directory, path, url) = place();
    let _other = UnixListener::bind(&path).unwrap();
    assert_eq!(run(&["-l", &url]).await.status.code(), Some(3));
    assert!(path.exists());
}

#[tokio::test]
async fn tcp_addresses_that_cannot_be_listened_on_are_errors() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", other.local_addr().unwrap());
    assert_fails(&["-l", &url], 3, &format!("{url} is in use")).await;
    assert_fails(&["-l", "192.0.2.1:7464"], 3, "an address of this machine").await;
}

#[tokio::test]
async fn a_stale_socket_is_replaced() {
    let (_directory, path, url) = place();
    // Bound and closed, as after a crash. It never listens, because a process that another test forks at this moment
    // would keep a listening socket alive.
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
    drop(socket);
    let router = RouterProcess::start(ROUTER, ["-l", &url], &[]).await;
    Peer::connect(&router.addresses[0], Framing::Packet).await.expect_nothing().await;
}

// A killed router leaves a stale socket and a stale lock.
#[tokio::test]
async fn the_files_of_a_killed_router_are_replaced() {
    let (_directory, path, url) = place();
    let mut router = RouterProcess::start(ROUTER, ["-l", &url], &[]).await;
    router.process.kill().await;
    assert!(path.exists());
    let router = RouterProcess::start(ROUTER, ["-l", &url], &[]).await;
    Peer::connect(&router.addresses[0], Framing::Packet).await.expect_nothing().await;
}

#[tokio::test]
async fn a_file_that_is_not_a_socket_is_refused() {
    let (directory, path, url) = place();
    std::fs::write(&path, "precious").unwrap();
    assert_fails(&["-l", &url], 3, "not a socket").await;
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    let inside = format!("unix:{}/no/such/directory/gsb.sock", directory.path().display());
    assert_fails(&["-l", &inside], 3, "create the directory").await;
}

#[tokio::test]
async fn a_socket_of_another_process_is_not_removed() {
    let (_directory, path, url) = place();
    let mut router = RouterProcess::start(ROUTER, ["-l", &url], &[]).await;
    std::fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    router.process.signal("TERM").await;
    assert_eq!(router.process.wait().await.code(), Some(0));
    assert!(path.metadata().unwrap().file_type().is_socket());
}

#[tokio::test]
async fn a_lock_of_another_process_is_not_removed() {
    let (directory, path, url) = place();
    let lock = directory.path().join("gsb.sock.lock");
    let mut first = RouterProcess::start(ROUTER, ["-l", &url], &[]).await;
    std::fs::remove_file(&lock).unwrap();
    std::fs::remove_file(&path).unwrap();
    let _second = RouterProcess::start(ROUTER, ["-l", &url], &[]).await;
    first.process.signal("TERM").await;
    assert_eq!(first.process.wait().await.code(), Some(0));
    // It still locks out other routers.
    let sentence = text(&run(&["-l", &url]).await.stderr);
    assert!(sentence.contains(lock.to_str().unwrap()), "{sentence}");
}

#[tokio::test]
async fn a_missing_lock_is_not_an_error() {
    let (directory, path, url) = place();
    let log = directory.path().join("log");
    let mut router = logging_to(&log, &["-l", &url, "--log-level", "warn"]).await;
    std::fs::remove_file(directory.path().join("gsb.sock.lock")).unwrap();
    router.process.signal("TERM").await;
    assert_eq!(router.process.wait().await.code(), Some(0));
    assert!(!path.exists());
    let log = std::fs::read_to_string(log).unwrap();
    assert!(!log.contains("cannot remove"), "{log}");
}

#[tokio::test]
async fn bad_options_are_explained() {
    let too_long = format!("unix:/tmp/{}", "x".repeat(103));
    let (directory, _, url) = place();
    let dotted = format!("unix:{}/./gsb.sock", directory.path().display());
    let cases = [
        (&["-l", "http://x"][..], "tcp://"),
        (&["-l", &too_long], "too long for a Unix socket"),
        (&["--ping-timeout", "soon"], "90s"),
        (&["--max-frame", "1GiB", "-l", "127.0.0.1:0"], "at most"),
        (&["--unix-mode", "rw"], "octal"),
        (&["--unix-mode", "0"], "0600"),
        (&["--max-frame", "0"], "at least"),
        (&["--max-connections", "0"], "at least 1"),
        (&["-l", "foo"], "tcp://"),
        (&["-l", "127.0.0.1:0", "-l", &url, "-l", &dotted], "name it once"),
        (&["--workers", "0"], "at least 1"),
        (&["--workers", "some"], "a whole number"),
        (&["--queue-limit", "1"], "at least 64.0 KiB"),
        (&["--queue-limit", "much"], "16MiB"),
        (&["--stall-timeout", "0"], "at least 1ms"),
        (&["--busy-poll", "1h"], "at most 1s"),
        (&["--log-level", "loud"], "warn"),
        (&["--config", "/no/such/file"], "/no/such/file"),
        (&["--no-such-option"], "--no-such-option"),
    ];
    for (arguments, expected) in cases {
        assert_fails(arguments, 2, expected).await;
    }
    let help = run(&["--help"]).await;
    assert_eq!(help.status.code(), Some(0));
    assert!(text(&help.stdout).contains("Examples:"));
    assert_eq!(run(&["--version"]).await.status.code(), Some(0));
}

#[tokio::test]
async fn a_port_named_twice_is_not_taken_for_another_router() {
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let first = format!("127.0.0.1:{port}");
    for second in [first.clone(), format!("localhost:{port}"), format!("0.0.0.0:{port}")] {
        let output = run(&["-l", &first, "-l", &second]).await;
        assert_eq!(output.status.code(), Some(2), "{second}");
        let sentence = text(&output.stderr);
        assert!(sentence.contains("name it once"), "{sentence}");
    }
}

#[tokio::test]
async fn a_port_without_a_host_is_opened_on_ipv4_and_ipv6() {
    let router = RouterProcess::start(ROUTER, ["-l", ":0"], &[]).await;
    let Address::Tcp { port, .. } = router.addresses[0] else { panic!() };
    let has_ipv6 = std::net::TcpListener::bind("[::1]:0").is_ok();
    for host in ["127.0.0.1", "::1"].into_iter().take(1 + usize::from(has_ipv6)) {
        let address = Address::Tcp { host: host.to_owned(), port };
        Peer::connect(&address, Framing::Packet).await.expect_nothing().await;
    }
}

#[tokio::test]
async fn variables_are_trimmed_and_unknown_ones_are_reported() {
    let (directory, path, url) = place();
    let log = directory.path().join("log");
    let mut command = Command::new(ROUTER);
    command.env_remove("RUST_LOG").stderr(std::fs::File::create(&log).unwrap());
    let variables = [("GSB_URL", format!(" {url}\n")), ("GSB_PING_TIMOUT", "2".to_owned())];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    let mut router = RouterProcess::start_command(&mut command, &variables).await;
    assert!(path.exists());
    router.process.signal("TERM").await;
    assert_eq!(router.process.wait().await.code(), Some(0));
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("GSB_PING_TIMOUT") && log.contains("GSB_PING_TIMEOUT?"), "{log}");
}

#[tokio::test]
async fn the_old_variable_of_busy_polling_works_where_the_new_one_is_not_set() {
    for (new, expected) in
        [(None, "GSB_SPIN"), (Some(""), "GSB_SPIN"), (Some("2h"), "GSB_BUSY_POLL")]
    {
        let mut command = Command::new(ROUTER);
        command.env("GSB_SPIN", "1h").arg("--help");
        if let Some(new) = new {
            command.env("GSB_BUSY_POLL", new);
        }
        let help = within("the help", command.output()).await.unwrap();
        assert!(text(&help.stdout).contains(&format!("[env: {expected}=")), "{new:?}");
    }
}

// docs/reliability.md promises this for warnings about limits.
#[tokio::test]
async fn warnings_name_the_peer_and_the_option() {
    let (directory, path, url) = place();
    let log = directory.path().join("log");
    let arguments =
        ["-l", &url, "-l", "127.0.0.1:0", "--max-connections", "1", "--max-frame", "1KiB"];
    let mut router = logging_to(&log, &arguments).await;
    let user = path.metadata().unwrap().uid();
    let mut first = Peer::connect(&router.addresses[0], Framing::Packet).await;
    for address in &router.addresses {
        Peer::silent(address, Framing::Packet).await.expect_close().await;
    }
    first.call("/a", "1", &"x".repeat(2000)).await;
    first.expect_close().await;
    router.process.signal("TERM").await;
    assert_eq!(router.process.wait().await.code(), Some(0));

    let log = std::fs::read_to_string(log).unwrap();
    let said =
        |words: [&str; 2]| log.lines().any(|line| words.iter().all(|word| line.contains(word)));
    let user = format!(" of user id {user} ");
    assert!(said([&format!("{user}was turned away"), "(--max-connections)"]), "{log}");
    assert!(said([" of 127.0.0.1 was turned away", "(--max-connections)"]), "{log}");
    assert!(said([&format!("{user}broke the protocol"), "(--max-frame)"]), "{log}");
}

// The exit code does not depend on whether the error is read.
#[tokio::test]
async fn a_standard_error_that_is_full_changes_no_exit_code() {
    let (directory, _, _) = place();
    let inside = format!("unix:{}/no/such/directory/gsb.sock", directory.path().display());
    for (arguments, code) in [(["-l", &inside], 3), (["-l", "http://x"], 2)] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let mut router = Spawned::start(Command::new(ROUTER).args(arguments).stderr(full));
        assert_eq!(router.wait().await.code(), Some(code), "{arguments:?}");
    }
}

// Rule CO-9, set by its environment variable: T = 2 s. The lower bounds are exact; the upper bounds only distinguish T
// from 2 T.
#[tokio::test]
async fn gsb_ping_timeout_sets_the_ping_timeout() {
    let (_directory, _, url) = place();
    let router = RouterProcess::start(ROUTER, ["-l", &url], &[("GSB_PING_TIMEOUT", "2")]).await;
    let mut silent = Peer::connect(&router.addresses[0], Framing::Packet).await;
    let mut alive = Peer::connect(&router.addresses[0], Framing::Packet).await;
    let start = Instant::now();
    let answering = tokio::spawn(async move {
        for _ in 0..2 {
            let Ping {} = alive.expect().await;
            alive.send(Pong {}).await;
        }
        alive.expect_nothing().await;
    });
    let Ping {} = silent.expect().await;
    let pinged = start.elapsed();
    assert!(silent.next().await.is_none());
    let closed = start.elapsed();
    println!("pinged after {pinged:?}, closed after {closed:?}");
    let slack = Duration::from_millis(100);
    assert!(pinged + slack >= Duration::from_secs(2), "{pinged:?}");
    assert!(closed + slack >= Duration::from_secs(4), "{closed:?}");
    answering.await.unwrap();
}

// In a shared directory, the path of the lock can be anything.
#[tokio::test]
async fn a_lock_that_is_not_a_file_is_an_error() {
    let (directory, path, url) = place();
    let lock = directory.path().join("gsb.sock.lock");
    let made = Command::new("mkfifo").arg(&lock).status().await.unwrap();
    assert!(made.success());
    assert_fails(&["-l", &url], 3, "not a regular file").await;
    std::fs::remove_file(&lock).unwrap();
    let target = directory.path().join("target");
    std::os::unix::fs::symlink(&target, &lock).unwrap();
    assert_eq!(run(&["-l", &url]).await.status.code(), Some(3));
    assert!(!target.exists() && !path.exists());
}

#[tokio::test]
async fn more_workers_than_processors_are_not_started() {
    let (directory, _, url) = place();
    let log = directory.path().join("log");
    let mut router = logging_to(&log, &["-l", &url, "--workers", "100000"]).await;
    let tasks = format!("/proc/{}/task", router.process.id());
    let name = |task: PathBuf| std::fs::read_to_string(task.join("comm")).unwrap();
    let names = || std::fs::read_dir(&tasks).unwrap().map(|task| name(task.unwrap().path()));
    let processors = std::thread::available_parallelism().unwrap().get();
    let workers = (processors - 1).max(1);
    // A new thread sets its own name.
    within("their names", async {
        while names().filter(|name| name.starts_with("gsb-worker")).count() < workers {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let others = ["the main thread", "the log", "the first line of output"].len();
    assert!(names().count() <= workers + others, "{:?}", names().collect::<Vec<_>>());
    router.process.signal("TERM").await;
    assert_eq!(router.process.wait().await.code(), Some(0));
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("100000 workers (--workers) are too many"), "{log}");
}
