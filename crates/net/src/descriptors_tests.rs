use std::io::{ErrorKind, IoSlice, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use tokio::io::Interest;

use super::*;
use crate::stream::{StdStream, Stream};

/// Longer than a test takes, and shorter than closing a [`slow_to_close`] socket.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A socket whose last close blocks for a minute, and its peer.
fn slow_to_close() -> (OwnedFd, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    stream.set_nonblocking(true).unwrap();
    while stream.write(&[0; 1 << 16]).is_ok() {}
    sockopt::set_socket_linger(&stream, Some(Duration::from_secs(60))).unwrap();
    (stream.into(), listener.accept().unwrap().0)
}

/// Sends a byte with a descriptor, and closes it on this side.
fn send(socket: &UnixStream, descriptor: OwnedFd) -> rustix::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor.as_fd()];
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    sendmsg(socket, &[IoSlice::new(b"x")], &mut control, SendFlags::empty())
}

/// Runs a function on another thread, and fails if it blocks.
fn without_blocking<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = mpsc::channel();
    std::thread::spawn(move || done.send(run()));
    result.recv_timeout(TIMEOUT).expect("blocked")
}

#[test]
fn a_filtered_read_fails_and_leaves_the_closing_to_another_thread() {
    let (near, far) = UnixStream::pair().unwrap();
    let near = FilteredSocket::new(near);
    let mut buffer = BytesMut::with_capacity(100);
    (&far).write_all(b"ab").unwrap();
    assert_eq!(near.read(&mut buffer, 100).unwrap(), 2);
    assert_eq!(&buffer[..], b"ab");

    let (slow, peer) = slow_to_close();
    send(&far, slow).unwrap();
    let error = without_blocking(move || near.read(&mut buffer, 98).map(drop)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert!(error.to_string().contains("descriptors"), "{error}");
    drop(peer);
}

#[test]
fn a_filtered_socket_is_closed_with_unread_descriptors_by_another_thread() {
    // Which thread is faster varies, and the last close must be on the closing thread every time.
    for _ in 0..20 {
        let (near, far) = UnixStream::pair().unwrap();
        let near = FilteredSocket::new(near);
        let (slow, peer) = slow_to_close();
        send(&far, slow).unwrap();
        without_blocking(move || drop(near));
        drop(peer);
    }
}

// A filtered read reports the end of the stream and an empty socket as a plain read does.
#[test]
fn a_filtered_read_tells_nothing_from_the_end() {
    let (near, far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    let near = FilteredSocket::new(near);
    let mut buffer = BytesMut::new();
    assert_eq!(near.read(&mut buffer, 10).unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(far);
    assert_eq!(near.read(&mut buffer, 10).unwrap(), 0);
    assert!(buffer.is_empty());
}

// If the runtime did not know that the socket is empty, it would never wake the task again.
#[tokio::test]
async fn a_filtered_stream_that_is_read_to_its_end_is_not_ready() {
    let (near, mut far) = UnixStream::pair().unwrap();
    let stream = Stream::from_std(StdStream::unix(near, false).unwrap()).unwrap();
    let mut buffer = BytesMut::with_capacity(2);
    for _ in 0..3 {
        far.write_all(b"ab").unwrap();
        let readable = stream.ready(Interest::READABLE);
        tokio::time::timeout(TIMEOUT, readable).await.expect("woken").unwrap();
        buffer.clear();
        // As many bytes as there is room for, so that only the next read finds nothing.
        assert_eq!(stream.try_read(&mut buffer, 2).unwrap(), 2);
        buffer.clear();
        assert_eq!(stream.try_read(&mut buffer, 2).unwrap_err().kind(), ErrorKind::WouldBlock);
        let mut context = Context::from_waker(Waker::noop());
        assert!(pin!(stream.ready(Interest::READABLE)).poll(&mut context).is_pending());
    }
}

// A connection that is not accepted yet refuses descriptors, too.
#[test]
fn connections_inherit_the_refusal_of_the_listening_socket() {
    let directory = std::env::temp_dir().join(format!("gsb-descriptors-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("socket");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let refuses = refuse_descriptors(&listener);
    let client = UnixStream::connect(&path).unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    let (slow, peer) = slow_to_close();
    drop(peer);
    let sent = send(&client, slow);
    // A kernel before Linux 6.16 cannot refuse them.
    let expected = if refuses { Err(rustix::io::Errno::PERM) } else { Ok(1) };
    assert_eq!(sent, expected);
    drop(listener);
}
