//! A router whose output nothing reads keeps working, and handles SIGTERM.

#![allow(clippy::unwrap_used)]

use std::io::{PipeReader, PipeWriter, Write as _};
use std::process::Stdio;

use gsb_proto::messages::*;
use gsb_proto::{Address, Framing};
use gsb_testkit::{Peer, RouterPlace, RouterProcess, Spawned, within};
use rustix::pipe::fcntl_setpipe_size;
use tokio::process::Command;

const ROUTER: &str = env!("CARGO_BIN_EXE_router");

/// A full pipe. It stays full while its reader exists.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let size = fcntl_setpipe_size(&writer, 4096).unwrap();
    writer.write_all(&vec![b'x'; size]).unwrap();
    (reader, writer)
}

#[tokio::test]
async fn a_full_standard_error_stops_nothing() {
    let place = RouterPlace::empty();
    let (_reader, writer) = full_pipe();
    let mut command = Command::new(ROUTER);
    command.args(["-l", &place.unix.to_string(), "--log-level", "debug"]).stderr(writer);
    let mut router = RouterProcess::start_command(&mut command, &[]).await;
    let mut service = Peer::connect(&place.unix, Framing::Packet).await;
    assert_eq!(service.register("/s").await, 0);
    // Each caller writes one or two lines to the log.
    for number in 0..10 {
        let mut caller = Peer::connect(&place.unix, Framing::Packet).await;
        caller.call("/s", &number.to_string(), "x").await;
        let call: CallRequest = service.expect().await;
        service.reply(&call.request_id, "y").await;
        assert_eq!(caller.expect::<CallReply>().await.data, "y");
    }
    router.process.signal("TERM").await;
    assert_eq!(router.process.wait().await.code(), Some(0));
}

#[tokio::test]
async fn a_full_standard_output_stops_nothing() {
    let place = RouterPlace::empty();
    let (_reader, writer) = full_pipe();
    let mut command = Command::new(ROUTER);
    command.args(["-l", &place.unix.to_string()]).env_remove("GSB_URL");
    command.stdin(Stdio::null()).stdout(writer).kill_on_drop(true);
    let mut router = command.spawn().unwrap();
    let Address::Unix(path) = &place.unix else { panic!("not a Unix socket") };
    let connected = async {
        while tokio::net::UnixStream::connect(path).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    within("the router's socket", connected).await;
    Peer::connect(&place.unix, Framing::Packet).await.expect_nothing().await;
    let id = rustix::process::Pid::from_raw(router.id().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    assert_eq!(within("its end", router.wait()).await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_log_file_at_its_size_limit_stops_nothing() {
    let place = RouterPlace::empty();
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new("sh");
    // The unit of `ulimit -f` is 512 or 1,024 bytes.
    command.args(["-c", "ulimit -f 1 && exec \"$@\"", "sh", ROUTER, "--log-level", "debug"]);
    command.args(["-l", &place.unix.to_string()]).stderr(log.reopen().unwrap());
    let mut router = RouterProcess::start_command(&mut command, &[]).await;
    // Each connection writes one or two lines to the log.
    for _ in 0..50 {
        Peer::connect(&place.unix, Framing::Packet).await.expect_nothing().await;
    }
    router.process.signal("TERM").await;
    assert_eq!(router.process.wait().await.code(), Some(0));
    let length = log.as_file().metadata().unwrap().len();
    assert!(length == 512 || length == 1024, "{length} bytes");
}

#[tokio::test]
async fn a_router_that_cannot_start_ends_although_its_error_is_not_read() {
    for (arguments, code) in
        [(["-l", "unix:/no/such/directory/gsb.sock"], 3), (["--max-frame", "0"], 2)]
    {
        let (_reader, writer) = full_pipe();
        let mut command = Command::new(ROUTER);
        command.args(arguments).stderr(writer);
        assert_eq!(Spawned::start(&mut command).wait().await.code(), Some(code));
    }
}
