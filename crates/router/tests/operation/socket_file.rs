//! A socket file that was removed, for example by a cleaner of /tmp, is created again within a minute. The file of
//! another program is left alone.

#![allow(clippy::panic, clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gsb_proto::messages::*;
use gsb_proto::{Address, Framing};
use gsb_testkit::{Peer, RouterPlace};

/// Advances the clock of the router by a minute.
async fn a_minute() {
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(59)).await;
    tokio::time::resume();
}

fn paths(place: &RouterPlace) -> (PathBuf, PathBuf) {
    let Address::Unix(path) = &place.unix else { panic!("not a Unix socket") };
    (path.clone(), path.with_extension("sock.lock"))
}

async fn assert_serves(service: &mut Peer, address: &Address) {
    let mut caller = Peer::connect(address, Framing::Packet).await;
    caller.call("/s", "1", "x").await;
    let call: CallRequest = service.expect().await;
    service.reply(&call.request_id, "y").await;
    assert_eq!(caller.expect::<CallReply>().await.data, "y");
}

fn inode(path: &Path) -> u64 {
    path.metadata().unwrap().ino()
}

#[tokio::test]
async fn a_removed_socket_file_is_created_again() {
    let place = RouterPlace::empty();
    let (path, lock) = paths(&place);
    let router = place.start().await;
    let mut service = Peer::connect(&place.unix, Framing::Packet).await;
    assert_eq!(service.register("/s").await, 0);
    for removed in [&[&path][..], &[&path, &lock]] {
        for file in removed {
            fs::remove_file(file).unwrap();
        }
        a_minute().await;
        assert!(path.exists() && lock.exists());
        assert_serves(&mut service, &place.unix).await;
    }
    router.stop().await;
    assert!(!path.exists() && !lock.exists());
}

#[tokio::test]
async fn the_socket_file_of_another_router_is_left_alone() {
    let place = RouterPlace::empty();
    let (path, lock) = paths(&place);
    let router = place.start().await;

    fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    let its_inode = inode(&path);
    a_minute().await;
    assert_eq!(inode(&path), its_inode);
    drop(other);
    fs::remove_file(&path).unwrap();

    // Another router listens there, and keeps the file until it stops.
    fs::remove_file(&lock).unwrap();
    let second = place.start().await;
    let its_inodes = (inode(&path), inode(&lock));
    a_minute().await;
    assert_eq!((inode(&path), inode(&lock)), its_inodes);
    fs::remove_file(&path).unwrap();
    // The router that holds the lock creates the file again.
    a_minute().await;
    assert_eq!(inode(&lock), its_inodes.1);
    Peer::connect(&place.unix, Framing::Packet).await.expect_nothing().await;
    second.stop().await;
    a_minute().await;
    let mut service = Peer::connect(&router.tcp, Framing::Packet).await;
    assert_eq!(service.register("/s").await, 0);
    assert_serves(&mut service, &place.unix).await;
    router.stop().await;
}
