//! The README's examples do what it says, and it prints them as they are.

#![allow(clippy::panic, clippy::unwrap_used)]

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use gsb_client::{Address, Bus};
use gsb_router::RouterConfig;
use gsb_testkit::{RouterPlace, Spawned, TestRouter};
use tokio::process::Command;

// Its unit tests run here: cargo would build the example as a test instead of a program.
#[allow(dead_code)]
#[path = "../math_service.rs"]
mod math_service;

/// The program that was built for an example beside this test.
fn program(example: &str) -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let profile = this.parent().and_then(Path::parent).unwrap();
    profile.join("examples").join(example)
}

fn start(router: &TestRouter, example: &str) -> Spawned {
    Spawned::start(Command::new(program(example)).env("GSB_URL", router.unix.to_string()))
}

#[tokio::test]
async fn echo() {
    let router = TestRouter::start().await;
    let mut service = start(&router, "echo_service");
    service.line_with("serving /echo").await;
    let mut caller = start(&router, "echo_caller");
    caller.line_with("hello, bus").await;
    assert!(caller.wait().await.success());
    router.stop().await;
}

#[tokio::test]
async fn blocking_caller() {
    let router = TestRouter::start().await;
    let mut service = start(&router, "echo_service");
    service.line_with("serving /echo").await;
    let mut caller = start(&router, "blocking_caller");
    caller.line_with("hello, bus").await;
    assert!(caller.wait().await.success());
    router.stop().await;
}

#[tokio::test]
async fn a_caller_without_a_router_says_so() {
    let router = TestRouter::start().await;
    let address = router.unix.to_string();
    router.stop().await;
    let mut caller = Spawned::start(Command::new(program("echo_caller")).env("GSB_URL", address));
    assert!(!caller.wait().await.success());
}

#[tokio::test]
async fn a_caller_without_permission_is_told_the_owner_and_the_option() {
    let closed_to_its_owner = RouterConfig { unix_mode: 0, ..RouterConfig::default() };
    let router = TestRouter::with(closed_to_its_owner).await;
    let Address::Unix(socket) = &router.unix else { panic!("not a Unix socket") };
    let (directory, owner) = (socket.parent().unwrap(), socket.metadata().unwrap().uid());
    fs::set_permissions(directory, Permissions::from_mode(0o755)).unwrap();
    // Root may do anything, so another user runs the program. That user may have no access to the built program.
    let caller = directory.join("echo_caller");
    let mut install = Command::new("install");
    install.args(["-m", "755"]).arg(program("echo_caller")).arg(&caller);
    assert!(install.status().await.unwrap().success());
    let mut caller = Command::new(caller);
    if owner == 0 {
        caller.uid(65534);
    }
    let output = caller.env("GSB_URL", router.unix.to_string()).output().await.unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    for part in [&format!("uid {owner}"), "mode 0000", "--unix-mode"] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    router.stop().await;
}

#[tokio::test]
async fn clock() {
    let place = RouterPlace::empty();
    let address = place.unix.to_string();
    let mut service =
        Spawned::start(Command::new(program("clock_service")).env("GSB_URL", address));
    service.line_with("cannot connect").await;
    for _ in 0..2 {
        let router = place.start().await;
        service.line_with("serving /clock").await;
        let caller = Bus::connect(&place.unix).await.unwrap();
        assert!(!caller.call("/clock", "").await.unwrap().is_empty());
        router.stop().await;
    }
    service.signal("INT").await;
    assert!(service.wait().await.success());
}

// The router refuses the name of the second one, which says so instead of "serving".
#[tokio::test]
async fn a_second_clock_stands_by_and_takes_over() {
    let router = TestRouter::start().await;
    let mut first = start(&router, "clock_service");
    first.line_with("serving /clock").await;
    let mut second = start(&router, "clock_service");
    let mut line = second.line_with("/clock").await;
    if line == "registering /clock" {
        line = second.line_with("/clock").await;
    }
    assert!(line.starts_with("waiting for /clock: "), "{line}");
    first.signal("INT").await;
    assert!(first.wait().await.success());
    second.line_with("serving /clock").await;
    second.signal("INT").await;
    assert!(second.wait().await.success());
    router.stop().await;
}

/// Starts an example that has several roles.
fn start_as(router: &TestRouter, example: &str, role: &str) -> Spawned {
    let mut command = Command::new(program(example));
    Spawned::start(command.arg(role).env("GSB_URL", router.unix.to_string()))
}

#[tokio::test]
async fn log_tail() {
    let router = TestRouter::start().await;
    let mut service = start_as(&router, "log_tail", "service");
    service.line_with("serving /log").await;
    let mut reader = start_as(&router, "log_tail", "reader");
    reader.line_with("line 3 for reader").await;
    assert!(reader.wait().await.success());
    service.line_with("reader reads no more").await;
    router.stop().await;
}

/// A file of 3,000,000 bytes beside the socket of the router.
fn large_file(router: &TestRouter) -> PathBuf {
    let Address::Unix(socket) = &router.unix else { panic!("not a Unix socket") };
    let file = socket.with_file_name("file");
    fs::write(&file, vec![7; 3_000_000]).unwrap();
    file
}

#[tokio::test]
async fn download() {
    let router = TestRouter::start().await;
    let file = large_file(&router);
    let mut command = Command::new(program("download"));
    let command = command.arg("service").arg(&file).env("GSB_URL", router.unix.to_string());
    let mut service = Spawned::start(command);
    service.line_with("serving /file").await;
    let mut caller = start_as(&router, "download", "caller");
    caller.line_with("got 3000000 bytes").await;
    assert!(caller.wait().await.success());
    router.stop().await;
}

#[tokio::test]
async fn upload() {
    let router = TestRouter::start().await;
    let file = large_file(&router);
    let mut service = start_as(&router, "upload", "service");
    service.line_with("serving /files").await;
    let mut caller = start_as(&router, "upload", file.to_str().unwrap());
    caller.line_with(": 3000000 bytes").await;
    assert!(caller.wait().await.success());
    router.stop().await;
}

#[tokio::test]
async fn worker_pool() {
    let router = TestRouter::start().await;
    let mut workers = [(); 2].map(|()| start_as(&router, "worker_pool", "worker"));
    for worker in &mut workers {
        worker.line_with("working").await;
    }
    let mut caller = start_as(&router, "worker_pool", "caller");
    let mut by = Vec::new();
    for task in 1..=4 {
        let line = caller.line_with(&format!("task {task}: worker ")).await;
        by.push(line.rsplit(' ').next().unwrap().parse::<u32>().unwrap());
    }
    assert!(caller.wait().await.success());
    assert!(workers.iter().all(|worker| by.contains(&worker.id())), "{by:?}");
    router.stop().await;
}

#[tokio::test]
async fn hot_standby() {
    let router = TestRouter::start().await;
    let mut first = start_as(&router, "hot_standby", "service");
    first.line_with("ready").await;
    let mut caller = start_as(&router, "hot_standby", "caller");
    caller.line_with(&format!("answered by process {}", first.id())).await;
    let mut second = start_as(&router, "hot_standby", "service");
    second.line_with("ready").await;
    first.signal("INT").await;
    assert!(first.wait().await.success());
    caller.line_with(&format!("answered by process {}", second.id())).await;
    router.stop().await;
}

#[tokio::test]
async fn countdown() {
    let router = TestRouter::start().await;
    let mut service = start(&router, "countdown_service");
    service.line_with("serving /countdown").await;
    let mut caller = start(&router, "countdown_caller");
    for number in ["5", "4", "3", "2", "1", "0"] {
        assert_eq!(caller.line_with("").await, number);
    }
    assert!(caller.wait().await.success());
    router.stop().await;
}

#[tokio::test]
async fn events() {
    let router = TestRouter::start().await;
    let mut listener = start(&router, "event_listener");
    listener.line_with("listening to weather/**").await;
    let mut sender = start(&router, "event_sender");
    sender.line_with("announced to 1 receivers").await;
    listener.line_with("weather/warsaw: sunny").await;
    router.stop().await;
}

#[tokio::test]
async fn math() {
    let router = TestRouter::start().await;
    // It waits for the service.
    let mut caller = start(&router, "math_caller");
    let mut service = start(&router, "math_service");
    service.line_with("serving /math").await;
    caller.line_with("1 / 2: Ok(0.5)").await;
    caller.line_with("1 / 0: Err(DivisionByZero)").await;
    assert!(caller.wait().await.success());
    router.stop().await;
}

#[tokio::test]
async fn journal() {
    let router = TestRouter::start().await;
    let mut service = start(&router, "journal_service");
    service.line_with("serving /journal").await;
    assert!(start(&router, "journal_sender").wait().await.success());
    for line in ["one", "two", "three"] {
        assert_eq!(service.line_with("").await, line);
    }
    router.stop().await;
}

#[tokio::test]
async fn shout() {
    let router = TestRouter::start().await;
    let mut service = start(&router, "shout_service");
    service.line_with("serving /shout").await;
    let caller = Bus::connect(&router.unix).await.unwrap();
    let error = caller.call("/shout", "hello").await.unwrap_err();
    assert!(error.to_string().contains(r#"no service at "/echo""#), "{error}");
    let mut echo = start(&router, "echo_service");
    echo.line_with("serving /echo").await;
    assert_eq!(caller.call("/shout", "hello").await.unwrap(), "HELLO");
    router.stop().await;
}

#[test]
fn the_readme_prints_the_examples_as_they_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("../README.md")).unwrap();
    for example in ["echo_service", "echo_caller"] {
        let code = fs::read_to_string(root.join(example).with_extension("rs")).unwrap();
        let (_, code) = code.split_once("\n\n").unwrap();
        assert!(readme.contains(code), "the README does not print {example}.rs");
    }
    let (_, typed) = readme.split_once("## Typed messages").unwrap();
    let (_, typed) = typed.split_once("```rust\n").unwrap();
    let (typed, _) = typed.split_once("```").unwrap();
    let math = fs::read_to_string(root.join("math_service.rs")).unwrap();
    for item in typed.trim_end().split("\n\n") {
        assert!(math.contains(item), "math_service.rs has no {item:?}");
    }
    for example in fs::read_dir(root).unwrap() {
        let path = example.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let example = path.file_stem().unwrap().to_string_lossy();
        let command = format!("cargo run --example {example}");
        assert!(readme.contains(&command), "the README does not say {command:?}");
    }
}
