//! The identity of a peer.

use gsb_core::Identity;
use gsb_net::Stream;

/// The identity of the peer behind a socket, as the operating system reports it.
pub(crate) fn identify(stream: &Stream) -> Identity {
    match (stream.peer_ip(), stream.peer_uid()) {
        (Some(ip), _) => Identity::Ip(ip),
        (None, Some(uid)) => Identity::Uid(uid),
        (None, None) => Identity::Unknown,
    }
}
