//! Finding out which framing a peer speaks, on any bytes, cut anywhere.
//!
//! It is known as soon as the fifth byte is there and not before, it is what rule FR-4 says, and it stays
//! (rule FR-1): from then on the decoder reads what one reads that was told.

#![no_main]

use bytes::BytesMut;
use gsb_fuzz::frames::{Input, read};
use gsb_proto::{FrameDecoder, Framing, Violation};
use libfuzzer_sys::fuzz_target;

/// Rule FR-4: the top byte of a length below 128 MiB, or the key of one of the fifteen messages.
fn expected(received: &[u8]) -> Result<Option<Framing>, Violation> {
    let Some(&fifth) = received.get(4) else {
        return Ok(None);
    };
    let is_key = (1..=15).any(|field: u8| fifth == field * 8 + 2);
    match fifth {
        0x00..=0x07 => Ok(Some(Framing::Classic)),
        _ if is_key => Ok(Some(Framing::Packet)),
        _ => Err(Violation::UnknownFraming(fifth)),
    }
}

fuzz_target!(|input: Input<'_>| {
    for end in 0..=input.bytes.len().min(16) {
        assert_eq!(Framing::detect(&input.bytes[..end]), expected(&input.bytes[..end]));
    }
    let mut decoder = FrameDecoder::detecting(input.limit());
    let mut buffer = BytesMut::new();
    let mut received = 0;
    'reading: for chunk in input.chunks() {
        buffer.extend_from_slice(chunk);
        received += chunk.len();
        let framing = expected(&input.bytes[..received]);
        loop {
            let decoded = decoder.decode(&mut buffer);
            // Once is enough to know, and it never changes.
            assert_eq!(decoder.framing(), framing.clone().unwrap_or(None));
            match decoded {
                Ok(Some(_)) => assert!(decoder.framing().is_some()),
                Ok(None) => break,
                Err(violation) => {
                    if let Err(expected) = &framing {
                        assert_eq!(violation, *expected);
                    }
                    break 'reading;
                }
            }
        }
        assert!(framing.is_ok(), "no violation was seen");
    }
    let detected = read(FrameDecoder::detecting(input.limit()), input.chunks());
    match expected(input.bytes) {
        Ok(Some(framing)) => {
            let mut told = read(FrameDecoder::new(framing, input.limit()), input.chunks());
            // Who is told may see a violation in fewer than five bytes; here they are all there.
            assert_eq!(detected.frames, told.frames);
            assert_eq!(detected.violation, told.violation.take());
        }
        Ok(None) => assert!(detected.frames.is_empty() && detected.violation.is_none()),
        Err(violation) => assert_eq!(detected.violation, Some(violation)),
    }
});
