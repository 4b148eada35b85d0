//! A peer that floods the router does not starve others, on a router with one thread.

#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::BytesMut;
use gsb_proto::messages::*;
use gsb_proto::{Address, Framing};
use gsb_testkit::{Peer, TestRouter, within};

const CALLS: usize = 50;

#[tokio::test]
async fn a_flood_of_small_frames_does_not_starve_others() {
    let router = TestRouter::start().await;
    let Address::Unix(path) = router.unix.clone() else { panic!("a path") };
    let mut service = Peer::connect(&router.unix, Framing::Packet).await;
    service.register("/a").await;
    let mut caller = Peer::connect(&router.unix, Framing::Packet).await;

    let push = CallRequest { address: "/unknown".into(), no_reply: true, ..Default::default() };
    let mut flood = BytesMut::new();
    while flood.len() < 1 << 20 {
        assert!(push.to_frame().encode(Framing::Packet, &mut flood));
    }
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let flooding = std::thread::spawn({
        let (stop, sent) = (stop.clone(), sent.clone());
        move || {
            let mut socket = UnixStream::connect(path).unwrap();
            while !stop.load(Ordering::Relaxed) {
                socket.write_all(&flood).unwrap();
                sent.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    within("the flood", async {
        while sent.load(Ordering::Relaxed) < 5 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    within("the calls beside the flood", async {
        for id in 0..CALLS {
            caller.call("/a", &id.to_string(), "").await;
            let call: CallRequest = service.expect().await;
            service.reply(&call.request_id, "").await;
            let CallReply { .. } = caller.expect().await;
        }
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    within("the end of the flood", async {
        while !flooding.is_finished() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    flooding.join().unwrap();
    println!("{CALLS} calls beside {} MiB of pushes", sent.load(Ordering::Relaxed));
    router.stop().await;
}
