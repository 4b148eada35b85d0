//! Without free descriptors, the acceptor backs off and recovers later, and existing connections are served.

use gsb_proto::Framing;
use gsb_proto::messages::*;
use gsb_testkit::{Peer, RouterProcess, within};
use tokio::net::UnixStream;
use tokio::process::Command;

#[tokio::test]
async fn connections_go_on_and_accepting_recovers() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gsb.sock");
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -n 32; exec \"$0\" -l \"$1\"", env!("CARGO_BIN_EXE_router")])
        .arg(format!("unix:{}", path.display()));
    let router = RouterProcess::start_command(&mut command, &[]).await;
    let address = &router.addresses[0];
    let mut service = Peer::connect(address, Framing::Packet).await;
    let mut caller = Peer::connect(address, Framing::Packet).await;
    service.register("/a").await;

    // More than it has descriptors for. The rest wait in the backlog of the socket.
    let mut crowd = Vec::new();
    for _ in 0..100 {
        crowd.push(UnixStream::connect(&path).await.unwrap());
    }
    for round in 0..20 {
        caller.call("/a", &round.to_string(), "x").await;
        let call: CallRequest = service.expect().await;
        service.reply(&call.request_id, "y").await;
        assert_eq!(caller.expect::<CallReply>().await.data, "y");
    }
    drop(crowd);
    let mut late = within("a place", Peer::connect(address, Framing::Packet)).await;
    late.call("/a", "1", "x").await;
    let CallRequest { .. } = service.expect().await;
}
