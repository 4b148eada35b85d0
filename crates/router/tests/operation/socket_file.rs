//! A socket file that a cleaner of /tmp has removed is made anew within a minute; the file of another is left alone.

#![allow(clippy::panic, clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gsb_proto::messages::*;
use gsb_proto::{Address, Framing};
use gsb_testkit::{Peer, RouterPlace};

/// Lets a minute pass for the router, at once.
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
async fn with_and_without_its_lock() {
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
async fn not_while_another_has_the_place() {
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

    // Another router takes the place, and keeps it until it stops.
    fs::remove_file(&lock).unwrap();
    let second = place.start().await;
    let its_inodes = (inode(&path), inode(&lock));
    a_minute().await;
    assert_eq!((inode(&path), inode(&lock)), its_inodes);
    fs::remove_file(&path).unwrap();
    // The router that holds the lock makes it anew.
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
