//! How large a load may be.

use gsb_proto::framing::LARGEST_FRAME;

/// The most bytes of payload in one message: the largest frame, less some room for names and ids.
pub const LARGEST_PAYLOAD: usize = LARGEST_FRAME - 1024;

/// The most bytes that a load may have in flight: 512 MiB. This process and the router each keep a few copies of them.
pub const LARGEST_BACKLOG: u64 = 512 << 20;
