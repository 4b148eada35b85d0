//! The two framings: how a connection's framing is detected, and the header of each frame.
//!
//! | framing | frame |
//! |---|---|
//! | classic | message type (i32, big-endian), body length (u32, big-endian), the encoded message |
//! | packet | body length (u32, big-endian), an encoded `Packet` that holds the message |

use crate::kind::MessageKind;
use crate::violation::Violation;
use crate::wire::varint_len;

/// Default limit of a frame's body, in bytes: 64 MiB.
pub const DEFAULT_MAX_FRAME: usize = 64 << 20;

/// Largest body of any frame, in bytes: below 128 MiB, where the length in a classic header could be mistaken for
/// the beginning of a packet frame. A peer that receives from a router should accept as much.
pub const LARGEST_FRAME: usize = (128 << 20) - 1;

/// Largest value of a router's frame limit, in bytes: 127 MiB. A frame that a router forwards may be larger than the
/// frame that it received, because the framing and the request id may differ.
pub const LARGEST_MAX_FRAME: usize = 127 << 20;

/// Largest [`Header`], in bytes.
pub const MAX_HEADER: usize = 11;

/// Length of a classic header, in bytes.
pub(crate) const CLASSIC_HEADER: usize = 8;

/// Length of the body length that a packet frame begins with, in bytes.
pub(crate) const PACKET_HEADER: usize = 4;

/// How messages are framed on a connection. It never changes during the connection's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Framing {
    /// The documented GSB framing: type, length, message. `ya-sb-proto` 0.1 uses it.
    Classic,
    /// Length and a `Packet` message. `ya-service-bus` 0.4 and later use it.
    Packet,
}

impl Framing {
    /// Detects the framing from the first bytes that a peer sent; `None` while they are fewer than five.
    ///
    /// The fifth byte tells: in the classic framing it is the highest byte of a length below 128 MiB, in the packet
    /// framing the key of a message field with a number from 1 to 15.
    ///
    /// # Errors
    /// [`Violation::UnknownFraming`] if the fifth byte fits neither framing.
    pub fn detect(start: &[u8]) -> Result<Option<Framing>, Violation> {
        match start.get(4) {
            None => Ok(None),
            Some(0x00..=0x07) => Ok(Some(Framing::Classic)),
            Some(&key) if key < 0x80 && key & 7 == 2 => Ok(Some(Framing::Packet)),
            Some(&key) => Err(Violation::UnknownFraming(key)),
        }
    }

    /// The framing's name, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Framing::Classic => "classic",
            Framing::Packet => "packet",
        }
    }
}

/// The bytes before a message on the wire: 6 to [`MAX_HEADER`] of them. In the packet framing they include the key and
/// the length of the message's field in the `Packet`.
#[derive(Debug, Clone, Copy)]
pub struct Header {
    bytes: [u8; 16],
    length: u8,
}

impl Header {
    /// The header of a message of `length` bytes. `None` if the frame cannot be written: a `Hello` or an extension has
    /// no type number in the classic framing, and no body may have 4 GiB or more.
    // Inlined, it stays in registers. As a function it would go through memory, twice for each call.
    #[inline(always)]
    pub fn new(kind: MessageKind, length: usize, framing: Framing) -> Option<Header> {
        let length = u32::try_from(length).ok()?;
        let (first, rest, size) = match framing {
            Framing::Classic => {
                let kind = kind.classic_type()?.cast_unsigned();
                (kind, u64::from(length.swap_bytes()), CLASSIC_HEADER)
            }
            Framing::Packet => {
                let (key, key_size) = varint(kind.field() << 3 | 2);
                let (value, value_size) = varint(length);
                let size = key_size + value_size;
                let packet = length.checked_add(size as u32)?;
                (packet, key | value << (8 * key_size), PACKET_HEADER + size)
            }
        };
        // Written as two words. If it were written byte by byte, copying it right afterwards would wait for the stores.
        let low = u64::from(first.swap_bytes()) | rest << 32;
        let bytes = u128::from(low) | u128::from(rest >> 32) << 64;
        Some(Header { bytes: bytes.to_le_bytes(), length: size as u8 })
    }
}

impl AsRef<[u8]> for Header {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// Encodes a varint. Returns its bytes, the first one lowest, and their number, which is at most 5.
#[inline]
fn varint(value: u32) -> (u64, usize) {
    let value = u64::from(value);
    if value < 0x80 {
        return (value, 1);
    }
    let size = varint_len(value);
    let groups = (0..5).fold(0, |groups, n| groups | (value >> (7 * n) & 0x7f) << (8 * n));
    // The highest bit of a byte says that another byte follows.
    let follows = 0x80_8080_8080 & ((1 << (8 * (size - 1))) - 1);
    (groups | follows, size)
}
