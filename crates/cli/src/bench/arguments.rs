//! What the arguments of a measurement may be.

use std::time::Duration;

use bytesize::ByteSize;
use gsb_load::LARGEST_PAYLOAD;
use gsb_proto::MAX_NAME;

/// The longest time that can be asked for: enough for any measurement, and far from what overflows.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The shortest name that no two of a load share, in bytes.
const SHORTEST_NAME: u64 = 40;

/// A broadcast begins with its number.
const SMALLEST_BROADCAST: u64 = 8;

/// What a call or a reply carries, in bytes.
pub(crate) fn payload(text: &str) -> Result<usize, String> {
    size(text, 0, LARGEST_PAYLOAD)
}

/// What a broadcast carries, in bytes.
pub(crate) fn broadcast_payload(text: &str) -> Result<usize, String> {
    size(text, SMALLEST_BROADCAST, LARGEST_PAYLOAD)
}

/// How long a name is, in bytes.
pub(crate) fn name_length(text: &str) -> Result<usize, String> {
    size(text, SHORTEST_NAME, MAX_NAME)
}

/// A time that may be none.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text)
        .map_err(|_| "write a number with a unit, as in 500ms or 2m".to_owned())?;
    if time > LONGEST {
        return Err(format!("the longest time is {}", humantime::format_duration(LONGEST)));
    }
    Ok(time)
}

/// A time in which something can be measured.
pub(crate) fn measured_time(text: &str) -> Result<Duration, String> {
    match time(text)? {
        Duration::ZERO => {
            Err("nothing can be measured in no time; write more, as in 500ms".to_owned())
        }
        time => Ok(time),
    }
}

fn size(text: &str, least: u64, most: usize) -> Result<usize, String> {
    let size: ByteSize =
        text.parse().map_err(|_| "write bytes, or a number with a unit as in 8KiB".to_owned())?;
    match usize::try_from(size.as_u64()) {
        Ok(bytes) if size.as_u64() >= least && bytes <= most => Ok(bytes),
        _ => Err(format!("it has to be from {least} to {most} bytes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_that_a_message_or_name_can_have() {
        assert_eq!(payload("0"), Ok(0));
        assert_eq!(payload("8KiB"), Ok(8192));
        assert_eq!(payload("127MiB"), Ok(127 << 20));
        for text in ["128MiB", "134217728", "1TiB", "17000000EB", "18446744073709551615"] {
            let error = payload(text).expect_err(text);
            assert_eq!(error, "it has to be from 0 to 134216703 bytes", "{text}");
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
    fn times_have_an_end_and_what_is_measured_takes_some() {
        assert_eq!(time("0s"), Ok(Duration::ZERO));
        assert_eq!(time("30days"), Ok(LONGEST));
        for text in ["31days", "500000000000years", "99999999999999999999s", "5", "-1s"] {
            assert!(time(text).is_err(), "{text}");
        }
        assert_eq!(measured_time("1ms"), Ok(Duration::from_millis(1)));
        assert!(measured_time("0s").is_err());
    }
}
