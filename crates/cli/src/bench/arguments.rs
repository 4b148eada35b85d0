//! Parsers for the values of options.

use std::time::Duration;

use bytesize::ByteSize;
use gsb_load::LARGEST_PAYLOAD;
use gsb_proto::MAX_NAME;

/// The longest time that an option accepts. No sum of such times overflows.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The shortest name in bytes that leaves room for a number.
const SHORTEST_NAME: u64 = 40;

/// The smallest broadcast in bytes, which contains only its number.
const SMALLEST_BROADCAST: u64 = 8;

/// The payload of a call or a reply in bytes.
pub(crate) fn payload(text: &str) -> Result<usize, String> {
    size(text, 0, LARGEST_PAYLOAD)
}

/// The payload of a broadcast in bytes.
pub(crate) fn broadcast_payload(text: &str) -> Result<usize, String> {
    size(text, SMALLEST_BROADCAST, LARGEST_PAYLOAD)
}

/// The length of a name in bytes.
pub(crate) fn name_length(text: &str) -> Result<usize, String> {
    size(text, SHORTEST_NAME, MAX_NAME)
}

/// A time, which may be 0.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text)
        .map_err(|_| "write a number with a unit, as in 500ms or 2m".to_owned())?;
    if time > LONGEST {
        return Err(format!("write at most {}", humantime::format_duration(LONGEST)));
    }
    Ok(time)
}

/// A time that is longer than 0.
pub(crate) fn measured_time(text: &str) -> Result<Duration, String> {
    match time(text)? {
        Duration::ZERO => Err("write a time longer than 0, as in 500ms".to_owned()),
        time => Ok(time),
    }
}

fn size(text: &str, least: u64, most: usize) -> Result<usize, String> {
    let size: ByteSize =
        text.parse().map_err(|_| "write bytes, or a number with a unit as in 8KiB".to_owned())?;
    match usize::try_from(size.as_u64()) {
        Ok(bytes) if size.as_u64() >= least && bytes <= most => Ok(bytes),
        _ => Err(format!("write a size from {least} to {most} bytes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_fit_in_a_message_or_a_name() {
        assert_eq!(payload("0"), Ok(0));
        assert_eq!(payload("8KiB"), Ok(8192));
        assert_eq!(payload("127MiB"), Ok(127 << 20));
        for text in ["128MiB", "134217728", "1TiB", "17000000EB", "18446744073709551615"] {
            let error = payload(text).expect_err(text);
            assert_eq!(error, "write a size from 0 to 134216703 bytes", "{text}");
        }
        for text in ["-1", "much", "", "1e400", "NaN"] {
            assert!(payload(text).is_err(), "{text}");
        }
        assert_eq!(broadcast_payload("8"), Ok(8));
        assert!(broadcast_payload("7").is_err());
        assert_eq!((name_length("40"), name_length("1KiB")), (Ok(40), Ok(1024)));
        assert!(name_length("39").is_err() && name_length("1025").is_err());
        assert!(name_length("65536").is_err());
    }

    #[test]
    fn times_are_bounded_and_a_measurement_takes_some() {
        assert_eq!(time("0s"), Ok(Duration::ZERO));
        assert_eq!(time("30days"), Ok(LONGEST));
        for text in ["31days", "500000000000years", "99999999999999999999s", "5", "-1s"] {
            assert!(time(text).is_err(), "{text}");
        }
        assert_eq!(measured_time("1ms"), Ok(Duration::from_millis(1)));
        assert!(measured_time("0s").is_err());
    }
}
