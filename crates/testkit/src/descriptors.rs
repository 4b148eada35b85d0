//! File descriptors that a hostile peer sends along with its bytes.

use std::io::{self, IoSlice, Write as _};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::net::{
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg, sockopt::set_socket_linger,
};

/// A descriptor whose last close blocks: a TCP socket with a full send buffer that lingers for longer than a test
/// waits. The returned peer must not be dropped before.
///
/// # Panics
/// The system has no TCP on its loopback device.
pub fn slow_to_close() -> (OwnedFd, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("its address");
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_nonblocking(true).expect("a socket that does not block");
    while stream.write(&[0; 1 << 16]).is_ok() {}
    set_socket_linger(&stream, Some(Duration::from_secs(60))).expect("a socket that lingers");
    (stream.into(), listener.accept().expect("its peer").0)
}

/// Sends bytes and a descriptor (SCM_RIGHTS) over a Unix socket, and closes the descriptor on this side.
///
/// # Errors
/// The error of the socket: EPERM if the other side refuses descriptors.
///
/// # Panics
/// Not all bytes are sent.
pub fn send_descriptor(socket: impl AsFd, bytes: &[u8], descriptor: OwnedFd) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor.as_fd()];
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)), "no room for it");
    let sent = sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::empty());
    if sent.is_err() {
        // Without this, closing it would block the test. Fails if it is not a socket.
        let _ = set_socket_linger(&descriptor, None);
    }
    assert_eq!(sent?, bytes.len());
    Ok(())
}
