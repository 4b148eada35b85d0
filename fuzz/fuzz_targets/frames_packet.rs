//! The decoder of the packet framing, on any bytes, cut anywhere.
//!
//! However they are cut, the same frames come out, and the same violation; they are what a protobuf
//! decoder finds in each `Packet` (rule FR-10), but for several messages that are too long together (rule
//! FR-12). Memory follows what was received, not what is announced. What was decoded is encoded to what
//! decodes to the same, in both framings.

#![no_main]

use gsb_fuzz::frames::{Input, check};
use gsb_proto::Framing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: Input<'_>| check(Framing::Packet, &input));
