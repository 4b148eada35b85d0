//! `gsb bench` loads a router, and prints its measurements as text or JSON.

#![allow(clippy::unwrap_used)]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use gsb_proto::messages::*;
use gsb_proto::{Address, MessageKind};
use gsb_router::{Limits, RouterConfig};
use gsb_testkit::{FakeRouter, TestRouter, within};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::task::JoinSet;

const GSB: &str = env!("CARGO_BIN_EXE_gsb");

/// Runs the program; returns its standard output, its standard error and its exit code.
async fn gsb(arguments: &[&str]) -> (String, String, Option<i32>) {
    let mut command = Command::new(GSB);
    let output = command.args(arguments).env_remove("GSB_URL").output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code())
}

fn short(address: &str) -> Vec<&str> {
    vec!["bench", "call", "-a", address, "-d", "200ms", "--warm-up", "50ms"]
}

#[tokio::test]
async fn calls_are_counted() {
    let router = TestRouter::start().await;
    let (unix, tcp) = (router.unix.to_string(), router.tcp.to_string());
    let own = std::process::id();
    for (address, framing, depth, payload) in
        [(&unix, "packet", "64", "64"), (&tcp, "classic", "1", "100KiB")]
    {
        let arguments = ["--json", "--framing", framing, "--depth", depth, "--payload", payload];
        let (out, error, code) = gsb(&[&short(address)[..], &arguments].concat()).await;
        assert_eq!(code, Some(0), "{error}");
        let report: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(report["what"], "call");
        assert_eq!(report["errors"], 0);
        let count = report["count"].as_f64().unwrap();
        assert!(count > 0.0);
        let rate = count / report["seconds"].as_f64().unwrap();
        assert!((rate / report["per_second"].as_f64().unwrap() - 1.0).abs() < 0.01);
        let times = &report["microseconds"];
        assert!(
            times["p50"].as_f64().unwrap() > 1.0 && times["p50"].as_f64() <= times["p100"].as_f64()
        );
        // The router runs in this process, and --pid was not given.
        assert_eq!(report["pid"], own, "{address}");
        assert!(report["processor_microseconds_each"].as_f64().unwrap() > 0.0);
        assert!(report["peak_memory_bytes"].as_u64().unwrap() > 1 << 20);
    }
    let (out, _, _) = gsb(&short(&unix)).await;
    assert!(out.contains("calls/s") && out.contains("p99.9"), "{out}");
    within("the end of all connections", async {
        while router.status.usage().connections > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(router.status.usage().open_calls, 0);
    router.stop().await;
}

#[tokio::test]
async fn every_other_load_is_counted() {
    let router = TestRouter::start().await;
    let (unix, own) = (router.unix.to_string(), std::process::id());
    let short = ["-d", "100ms", "--warm-up", "20ms"];
    let few = ["--connections", "3", "-d", "10ms"];
    for (what, arguments, counted) in [
        ("stream", &[&short[..], &["--chunks", "3", "--payload", "100"]].concat()[..], "count"),
        ("broadcast", &[&short[..], &["--subscribers", "3", "--ahead", "2"]].concat(), "count"),
        ("idle", &few, "bytes_each"),
        ("register", &[&few[..], &["--names", "2500"]].concat(), "bytes_each"),
    ] {
        let common = ["bench", what, "--json", "-a", &unix];
        let (out, error, code) = gsb(&[&common[..], arguments].concat()).await;
        assert_eq!(code, Some(0), "{what}: {error}");
        let report: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(report["what"], what);
        assert!(report["per_second"].as_f64().unwrap() > 0.0, "{out}");
        assert!(report[counted].as_f64().unwrap() >= 0.0, "{out}");
        assert_eq!(report["pid"], own, "{out}");
        assert!(report.get("missed").is_none_or(|missed| missed == 0), "{out}");
    }
    router.stop().await;
}

#[tokio::test]
async fn a_denied_connection_names_the_owner_and_the_option() {
    let closed_to_its_owner = RouterConfig { unix_mode: 0, ..RouterConfig::default() };
    let router = TestRouter::with(closed_to_its_owner).await;
    let Address::Unix(socket) = &router.unix else { panic!("not a Unix socket") };
    let directory = socket.parent().unwrap();
    fs::set_permissions(directory, Permissions::from_mode(0o755)).unwrap();

    // Root may do everything, so another user runs the program. That user may have no access to the built program.
    let program = directory.join("gsb");
    // A separate process copies it: while this process has the copy open for writing, another test could fork and keep
    // it open, and then it cannot be run.
    let installed = Command::new("install").args(["-m", "755", GSB]).arg(&program).status();
    assert!(installed.await.unwrap().success());
    let mut command = Command::new(program);
    if rustix::process::geteuid().is_root() {
        command.uid(65534);
    }
    let output = command.args(short(&router.unix.to_string())).output().await.unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    let owner = format!("uid {}", rustix::process::geteuid().as_raw());
    for part in [&owner, "mode 0000", "--unix-mode"] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    assert_eq!(output.status.code(), Some(1));
    router.stop().await;
}

/// A load that the program cannot make is refused before it starts, without a panic or an abort.
#[tokio::test]
async fn unusable_loads_are_refused_with_the_value_and_the_remedy() {
    let router = TestRouter::start().await;
    let unix = router.unix.to_string();
    let huge = u64::MAX.to_string();
    for (arguments, parts) in [
        (&["call", "--payload", "16EiB"][..], &["'16EiB'", "134216703 bytes"][..]),
        (&["call", "--payload", &huge], &[&huge, "134216703 bytes"]),
        (&["call", "--payload", "100MiB"], &["256 messages of 104857600 bytes", "512 MiB"]),
        (&["call", "--depth", "4294967295"], &["17179869180 messages", "fewer or smaller"]),
        (&["call", "--callers", "4294967295", "--depth", "1"], &["4294967295 messages"]),
        (&["call", "--services", "4294967295"], &["4294967295 messages"]),
        (&["call", "-d", "0s"], &["'0s'", "500ms"]),
        (&["call", "-d", "500000000000years"], &["write at most 30days"]),
        (&["call", "--warm-up", "31days"], &["'31days'", "30days"]),
        (&["stream", "--chunks", "4294967295"], &["messages of 4096 bytes", "512 MiB"]),
        (&["stream", "--payload", "1GiB"], &["'1GiB'", "134216703 bytes"]),
        (&["broadcast", "--ahead", &huge], &["messages of 64 bytes", "512 MiB"]),
        (&["broadcast", "--subscribers", "4294967295"], &["messages of 64 bytes"]),
        (&["broadcast", "--payload", "7"], &["'7'", "from 8 to"]),
        (&["idle", "--connections", "4294967295"], &["4294967295 connections", "ulimit -Hn"]),
        (&["idle", "-d", "31days"], &["'31days'"]),
        (&["register", "--length", "65536"], &["'65536'", "from 40 to 1024"]),
        (&["register", "--connections", "4294967295"], &["4294967295 connections"]),
    ] {
        let (out, error, code) = gsb(&[&["bench"], arguments, &["-a", &unix]].concat()).await;
        assert_eq!((out.as_str(), code), ("", Some(2)), "{arguments:?}: {error}");
        for part in parts {
            assert!(error.contains(part), "{arguments:?}: {part} is not in: {error}");
        }
    }
    router.stop().await;
}

#[tokio::test]
async fn calls_that_fail_are_counted_and_make_the_program_fail() {
    let limits = Limits { open_calls: 1, ..Limits::default() };
    let one_at_a_time = RouterConfig { limits, ..RouterConfig::default() };
    let router = TestRouter::with(one_at_a_time).await;
    let unix = router.unix.to_string();
    let (out, error, code) = gsb(&[&short(&unix)[..], &["--depth", "8"]].concat()).await;
    assert_eq!(code, Some(1), "{out}");
    let text = error.strip_prefix("gsb: ").unwrap();
    let (failed, rest) = text.split_once(" of ").unwrap();
    let (all, rest) = rest.split_once(" calls failed, for example: ").unwrap();
    assert!((1..=all.parse().unwrap()).contains(&failed.parse::<u64>().unwrap()), "{error}");
    assert!(rest.trim().len() > 1, "{error}");
    assert!(out.contains(&format!("{failed} errors, for example: ")), "{out}");
    router.stop().await;
}

/// The router loses one of many replies, amid the measurement.
#[tokio::test]
async fn a_lost_reply_is_counted_and_makes_the_program_fail() {
    let router = FakeRouter::start().await;
    let (address, own) = (router.address.to_string(), std::process::id().to_string());
    let serving = tokio::spawn(async move {
        // In the order in which the program connects.
        let mut service = router.accept_silently().await;
        let mut caller = router.accept_silently().await;
        let Hello { .. } = service.expect().await;
        let RegisterRequest { .. } = service.expect().await;
        service.send(RegisterReply::default()).await;
        let (begin, mut is_lost) = (Instant::now(), false);
        while let Some(frame) = caller.next().await {
            if frame.kind != MessageKind::CallRequest {
                continue;
            }
            if !is_lost && begin.elapsed() > Duration::from_secs(1) {
                is_lost = true;
                continue;
            }
            let CallRequest { request_id, data, .. } = frame.decode().unwrap();
            let reply = CallReply { request_id, data, ..Default::default() };
            if caller.try_send(reply).await.is_err() {
                break;
            }
        }
    });
    let load =
        ["bench", "call", "-a", &address, "--pid", &own, "--callers", "1", "--services", "1"];
    let time = ["--depth", "2", "-d", "3s", "--warm-up", "0s"];
    let (out, error, code) = gsb(&[&load[..], &time].concat()).await;
    assert_eq!(code, Some(1), "{out}");
    assert!(
        error.starts_with("gsb: 1 of ") && error.contains("no reply came within 1s"),
        "{error}"
    );
    assert!(out.contains("1 errors, for example: no reply came"), "{out}");
    serving.abort();
}

/// The router loses every other broadcast.
#[tokio::test]
async fn broadcasts_that_do_not_arrive_are_counted_and_make_the_program_fail() {
    let router = FakeRouter::start().await;
    let (address, own) = (router.address.to_string(), std::process::id().to_string());
    let serving = tokio::spawn(async move {
        // In the order in which the program connects.
        let mut publisher = router.accept_silently().await;
        let mut subscriber = router.accept_silently().await;
        let Hello { .. } = subscriber.expect().await;
        let SubscribeRequest { .. } = subscriber.expect().await;
        subscriber.send(SubscribeReply::default()).await;
        let mut is_lost = false;
        while let Some(frame) = publisher.next().await {
            if frame.kind != MessageKind::BroadcastRequest {
                continue;
            }
            is_lost = !is_lost;
            let event: BroadcastRequest = frame.decode().unwrap();
            if !is_lost && subscriber.try_send(event).await.is_err() {
                break;
            }
        }
    });
    let load = ["bench", "broadcast", "-a", &address, "--pid", &own, "--subscribers", "1"];
    let (out, error, code) =
        gsb(&[&load[..], &["-d", "200ms", "--warm-up", "50ms"]].concat()).await;
    assert_eq!(code, Some(1), "{out}");
    let (failed, rest) = error.strip_prefix("gsb: ").unwrap().split_once(" of ").unwrap();
    assert!(failed.parse::<u64>().unwrap() > 0 && rest.contains(" deliveries failed"), "{error}");
    assert!(out.contains(&format!("{failed} did not arrive")), "{out}");
    serving.abort();
}

#[tokio::test]
async fn a_lost_connection_ends_the_program_at_once_with_a_failure() {
    let router = FakeRouter::start().await;
    let (address, own) = (router.address.to_string(), std::process::id().to_string());
    let closes_after_the_answer = tokio::spawn(async move {
        let mut peer = router.accept_silently().await;
        let Hello { .. } = peer.expect().await;
        let RegisterRequest { .. } = peer.expect().await;
        peer.send(RegisterReply::default()).await;
    });
    let load = ["bench", "idle", "-a", &address, "--pid", &own, "--connections", "1", "-d", "1day"];
    let (out, error, code) = within("the end of the program", gsb(&load)).await;
    assert!(out.starts_with("1 connections in ") && error.contains("closed"), "{out}{error}");
    assert_eq!(code, Some(1));
    closes_after_the_answer.await.unwrap();
}

/// A router that answers registrations only.
#[tokio::test]
async fn without_a_sample_no_latency_is_shown() {
    let router = FakeRouter::start().await;
    let address = router.address.to_string();
    let serving = tokio::spawn(async move {
        let mut peers = JoinSet::new();
        loop {
            let mut peer = router.accept_silently().await;
            peers.spawn(async move {
                while let Some(frame) = peer.next().await {
                    if frame.kind == MessageKind::RegisterRequest {
                        peer.send(RegisterReply::default()).await;
                    }
                }
            });
        }
    });
    let (out, error, code) = gsb(&short(&address)).await;
    assert!(out.contains("p50 –, p90 –") && !out.contains("0.0ns"), "{out}");
    assert!(error.contains("no calls ended within "), "{error}");
    assert_eq!(code, Some(1));
    let (out, ..) = gsb(&[&short(&address)[..], &["--json"]].concat()).await;
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&report["microseconds"]["p50"], &report["count"]), (&Value::Null, &json!(0)));
    serving.abort();
}

#[tokio::test]
async fn unusable_targets_are_named() {
    let (_, error, code) = gsb(&short("unix:/no/such/socket")).await;
    assert!(error.contains("unix:/no/such/socket") && error.contains("router"), "{error}");
    assert_eq!(code, Some(1));
    let router = TestRouter::start().await;
    let unix = router.unix.to_string();
    let (_, error, code) = gsb(&[&short(&unix)[..], &["--pid", "4194305"]].concat()).await;
    assert!(error.contains("4194305"), "{error}");
    assert_eq!(code, Some(1));
    let (_, _, code) = gsb(&[&short(&unix)[..], &["--depth", "0"]].concat()).await;
    assert_eq!(code, Some(2));
    router.stop().await;
}
