//! Registering many names on one connection, and freeing all of them when it ends, does not delay calls. Rules CO-6,
//! LI-1.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::time::{Duration, Instant};

use bytes::BytesMut;
use gsb_proto::messages::*;
use gsb_proto::{Address, Framing};
use gsb_testkit::{BackgroundCalls, Peer, RouterProcess, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

const ROUTER: &str = env!("CARGO_BIN_EXE_router");

/// The most memory of a name in bytes: see request_floods.rs.
const NAME: u64 = 256;

/// `LI-2`, per connection and purpose.
const LIMIT: u64 = 16 << 20;

/// The longest time of a background call, with an optimized router.
const WAIT: Duration = Duration::from_millis(50);

fn service_id(number: usize) -> String {
    format!("/bulk/{number}")
}

/// Registers names as fast as the router reads them, and reads all replies.
async fn register(path: &std::path::Path, count: usize) -> UnixStream {
    let mut socket = UnixStream::connect(path).await.unwrap();
    let (mut reading, mut writing) = socket.split();
    let writes = async {
        let mut bytes = BytesMut::new();
        for number in 0..count {
            let request = RegisterRequest { service_id: service_id(number), ..Default::default() };
            assert!(request.to_frame().encode(Framing::Packet, &mut bytes));
            if bytes.len() >= 64 << 10 || number + 1 == count {
                writing.write_all_buf(&mut bytes).await.unwrap();
            }
        }
    };
    let reads = async {
        // The Hello, and replies of the same length, which are those of success.
        let mut head = [0; 4];
        reading.read_exact(&mut head).await.unwrap();
        let mut hello = vec![0; u32::from_be_bytes(head) as usize];
        reading.read_exact(&mut hello).await.unwrap();
        let mut reply = BytesMut::new();
        assert!(RegisterReply::default().to_frame().encode(Framing::Packet, &mut reply));
        let mut left = count * reply.len();
        let mut bytes = vec![0; 64 << 10];
        while left > 0 {
            let read = reading.read(&mut bytes).await.unwrap();
            assert!(read > 0 && read <= left, "refusals are longer");
            left -= read;
        }
    };
    tokio::join!(writes, reads);
    socket
}

async fn names_beside_calls(count: usize) -> Duration {
    let limit = count.to_string();
    let router = RouterProcess::isolated(ROUTER, ["--max-services", &limit]).await;
    let Address::Unix(path) = router.unix().clone() else { panic!("a path") };
    let mut background_calls = BackgroundCalls::start(router.unix()).await;
    background_calls.call().await;
    let start = router.usage();
    for _ in 0..100 {
        background_calls.call().await;
    }
    let alone = std::mem::take(&mut background_calls.worst);
    let began = Instant::now();
    // In its own task, so that its computation does not count as waiting.
    let registering = tokio::spawn(async move { register(&path, count).await });
    let socket = background_calls.during(registering).await.unwrap();
    let (took, during) = (began.elapsed(), std::mem::take(&mut background_calls.worst));
    router.assert_memory_within(start, LIMIT + count as u64 * NAME);

    // The router has finished when the last name is free.
    let mut heir = Peer::connect(router.unix(), Framing::Packet).await;
    drop(socket);
    let goes = async {
        let began = Instant::now();
        within("the last name", async {
            while heir.register(&service_id(count - 1)).await != 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        began.elapsed()
    };
    let freed = background_calls.during(goes).await;
    println!(
        "{count} names were registered within {took:.1?}, and free {freed:.1?} after the end;"
    );
    println!("the longest call took {alone:.1?} before, {during:.1?} beside the registrations,");
    println!("{:.1?} at the end of their connection", background_calls.worst);
    during.max(background_calls.worst)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_names_do_not_delay_calls() {
    names_beside_calls(20_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "checks a time of an optimized router, and takes longer than ten seconds"]
async fn a_million_names_do_not_delay_calls() {
    let worst = names_beside_calls(1_000_000).await;
    assert!(cfg!(debug_assertions) || worst < WAIT, "a call took {worst:?}");
}
