//! When a service is killed amid a call or a stream, its callers are answered at once. Rule CO-7.
//!
//! The service runs this test program in its own process.

#![allow(clippy::unwrap_used)]

use std::time::Instant;

use gsb_proto::messages::*;
use gsb_proto::{Address, Framing};
use gsb_testkit::{Peer, RouterProcess, Spawned};
use tokio::process::Command;

const PROVIDER_BUS: &str = "TEST_PROVIDER_BUS";

/// Not a test: the service. It receives calls, sends the first replies of a stream, and ends no call.
#[tokio::test]
#[ignore = "the process that the other test kills"]
async fn provider() {
    let Ok(address) = std::env::var(PROVIDER_BUS) else {
        return;
    };
    let address: Address = address.parse().unwrap();
    let mut peer = Peer::connect(&address, Framing::Packet).await;
    peer.register("/provider").await;
    println!("\nprovider is ready");
    for taken in 1.. {
        let call: CallRequest = peer.expect().await;
        if call.address == "/provider/stream" {
            peer.part(&call.request_id, "one").await;
            peer.part(&call.request_id, "two").await;
        }
        println!("\ntaken {taken}.");
    }
}

fn start_provider(address: &Address) -> Spawned {
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new(program);
    command
        .args(["killed_service::provider", "--exact", "--ignored", "--nocapture"])
        .env(PROVIDER_BUS, address.to_string());
    Spawned::start(&mut command)
}

#[tokio::test]
async fn every_waiting_caller_is_answered_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("unix:{}", directory.path().join("gsb.sock").display());
    let arguments = ["-l", &url, "-l", "127.0.0.1:0"];
    let router = RouterProcess::start(env!("CARGO_BIN_EXE_router"), arguments, &[]).await;
    for address in &router.addresses {
        let mut provider = start_provider(address);
        provider.line_with("provider is ready").await;
        let mut callers = Vec::new();
        for framing in [Framing::Packet, Framing::Classic] {
            let mut caller = Peer::connect(&router.addresses[0], framing).await;
            caller.call("/provider/call", "call", "").await;
            caller.call("/provider/stream", "stream", "").await;
            for part in ["one", "two"] {
                let reply: CallReply = caller.expect().await;
                assert_eq!(
                    (reply.request_id.as_str(), &reply.data[..]),
                    ("stream", part.as_bytes())
                );
            }
            callers.push(caller);
        }
        provider.line_with("taken 4.").await;
        let killed = Instant::now();
        provider.kill().await;
        for caller in &mut callers {
            for id in ["call", "stream"] {
                let reply: CallReply = caller.expect().await;
                assert_eq!((reply.request_id.as_str(), reply.code), (id, 500));
                assert_eq!(reply.reply_type, 0);
            }
            // Exactly one reply for each.
            caller.expect_nothing().await;
        }
        println!("all callers were answered {:?} after the kill", killed.elapsed());
        let mut successor = Peer::connect(&router.addresses[0], Framing::Packet).await;
        assert_eq!(successor.register("/provider").await, 0, "the name is free");
    }
}
