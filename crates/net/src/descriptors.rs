//! Protects threads from file descriptors that peers send over Unix sockets (SCM_RIGHTS, see unix(7)).
//!
//! The last close of a descriptor may block, such as that of a TCP socket with SO_LINGER and unsent data. If a read has
//! no control buffer, the kernel closes received descriptors in the reading thread, which also serves other connections.
//! Since Linux 6.16 a socket can refuse descriptors. On older kernels a [`FilteredSocket`] receives them and closes them
//! on a separate thread.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{OnceLock, mpsc};

use bytes::BytesMut;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::SetBool;
use nix::{libc, setsockopt_impl};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg, sockopt,
};

/// SO_PASSRIGHTS of `asm-generic/socket.h`; Linux 6.16 and later.
#[cfg(not(any(target_arch = "sparc", target_arch = "sparc64")))]
const SO_PASSRIGHTS: i32 = 83;
/// SO_PASSRIGHTS of `asm/socket.h` on SPARC.
#[cfg(any(target_arch = "sparc", target_arch = "sparc64"))]
const SO_PASSRIGHTS: i32 = 92;

/// Most descriptors in one message: `SCM_MAX_FD` of unix(7).
const MAX_DESCRIPTORS: usize = 253;

/// The socket option that makes a Unix socket accept file descriptors.
#[derive(Debug, Clone, Copy)]
struct PassRights;

setsockopt_impl!(PassRights, libc::SOL_SOCKET, SO_PASSRIGHTS, bool, SetBool);

/// Makes a Unix socket refuse descriptors: a peer that sends some gets EPERM. The connections of a listening socket
/// inherit this, so that no descriptor arrives before a connection is accepted. Returns whether the kernel supports it.
pub fn refuse_descriptors(socket: &impl AsFd) -> bool {
    setsockopt(socket, PassRights, &false).is_ok()
}

/// A connected Unix socket on a kernel that cannot refuse descriptors.
///
/// A read that receives descriptors fails, which ends the connection. Descriptors that were not received are closed with
/// the socket, so the last close of the socket is on the closing thread, too.
#[derive(Debug)]
pub struct FilteredSocket<T: AsFd> {
    // Fields are dropped in this order, so the socket is closed here before its duplicate is closed elsewhere.
    socket: T,
    duplicate: ClosedElsewhere,
}

/// A descriptor that is closed on the closing thread when this is dropped.
#[derive(Debug, Default)]
struct ClosedElsewhere(Option<OwnedFd>);

impl Drop for ClosedElsewhere {
    fn drop(&mut self) {
        if let Some(descriptor) = self.0.take() {
            close_elsewhere(descriptor);
        }
    }
}

impl<T: AsFd> FilteredSocket<T> {
    pub(crate) fn new(socket: T) -> Self {
        FilteredSocket { socket, duplicate: ClosedElsewhere::default() }
    }

    pub(crate) fn socket(&self) -> &T {
        &self.socket
    }

    /// Reads up to `room` bytes and appends them to `buffer`. Returns the number of bytes, 0 at the end of the stream.
    ///
    /// # Errors
    /// `InvalidData` if the peer sent descriptors; those of the socket.
    pub(crate) fn read(&self, buffer: &mut BytesMut, room: usize) -> io::Result<usize> {
        let held = buffer.len();
        buffer.resize(held + room, 0);
        let read = read_filtered(&self.socket, &mut buffer[held..]);
        buffer.truncate(held + *read.as_ref().unwrap_or(&0));
        read
    }
}

impl<T: AsFd> Drop for FilteredSocket<T> {
    fn drop(&mut self) {
        // While the duplicate is open, closing the socket here is not its last close.
        self.duplicate.0 = self.socket.as_fd().try_clone_to_owned().ok();
    }
}

fn read_filtered(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(buffer)];
    let received = recvmsg(socket, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut count = 0_usize;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            for descriptor in descriptors {
                close_elsewhere(descriptor);
                count += 1;
            }
        }
    }
    // The control data is truncated if this process has reached its limit of open files.
    if count > 0 || received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the peer sent file descriptors, which the bus does not support",
        ));
    }
    Ok(received.bytes)
}

/// Closes a descriptor on the closing thread, which the first call starts.
///
/// The queue needs no limit: each entry is an open descriptor, and the system limits those.
fn close_elsewhere(descriptor: OwnedFd) {
    static QUEUE: OnceLock<mpsc::Sender<OwnedFd>> = OnceLock::new();
    let queue = QUEUE.get_or_init(|| {
        let (queue, descriptors) = mpsc::channel();
        // If the thread cannot be started, the receiver is dropped, and `send` closes the descriptor.
        let _ = std::thread::Builder::new()
            .name("gsb-close".to_owned())
            .spawn(move || close_all(&descriptors));
        queue
    });
    let _ = queue.send(descriptor);
}

fn close_all(descriptors: &mpsc::Receiver<OwnedFd>) {
    for descriptor in descriptors {
        // Closing a socket with SO_LINGER would block. Fails for a descriptor that is not a socket.
        let _ = sockopt::set_socket_linger(&descriptor, None);
    }
}

#[cfg(test)]
#[path = "descriptors_tests.rs"]
mod tests;
