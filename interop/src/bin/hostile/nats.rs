//! The text protocol of `nats-server`, as far as the cases need it.
//!
//! A call is a message with an inbox as the way back; each peer subscribes once to all its inboxes. What
//! NATS does not acknowledge is followed by a PING, whose PONG then says that it was taken.

use std::io;

use bytes::{Buf as _, BytesMut};

use crate::peer::{Heard, Say};

// The first letter of a subscription's id says what comes by it.
const INBOX: &str = "i";
const SERVICE: &str = "s";
const TOPIC: &str = "t";

/// Appends what says it. `inbox` is the peer's own, and no other's.
pub fn encode(say: Say<'_>, inbox: &str, out: &mut BytesMut) {
    match say {
        Say::Hello => {
            let options = r#"{"verbose":false,"pedantic":false,"lang":"none","version":"0"}"#;
            line(out, &format!("CONNECT {options}\r\nSUB {inbox}.* {INBOX}"));
        }
        Say::Ping => line(out, "PING"),
        Say::Serve { name } => line(out, &format!("SUB {name} {SERVICE}{name}\r\nPING")),
        Say::Subscribe { topic } => line(out, &format!("SUB {topic} {TOPIC}{topic}\r\nPING")),
        Say::Call { to, id, data } => publish(out, &format!("{to} {inbox}.{id}"), &data),
        Say::Reply { to, data, .. } => publish(out, to, &data),
        Say::Broadcast { topic, data } => {
            publish(out, topic, &data);
            line(out, "PING");
        }
    }
}

/// The head of a message of `length` bytes, and the first byte of the message.
pub fn announce(length: u32) -> Vec<u8> {
    format!("PUB nobody {length}\r\nx").into_bytes()
}

fn publish(out: &mut BytesMut, to: &str, data: &[u8]) {
    line(out, &format!("PUB {to} {}", data.len()));
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

fn line(out: &mut BytesMut, text: &str) {
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// The next message in `buffer`; `None` while it has not come as a whole.
pub fn decode(buffer: &mut BytesMut) -> io::Result<Option<Heard>> {
    let Some(end) = buffer.windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
    let text = String::from_utf8_lossy(&buffer[..end]).into_owned();
    let head = end + 2;
    let words: Vec<&str> = text.split(' ').collect();
    let heard = match words[..] {
        ["INFO", ..] => Heard::Welcome,
        ["PONG"] => Heard::Done,
        ["PING"] | ["+OK"] => Heard::Nothing,
        ["-ERR", ..] => Heard::Refused(text),
        ["MSG", subject, id, ref way_back @ .., length] => {
            let length: usize = length.parse().map_err(io::Error::other)?;
            if buffer.len() < head + length + 2 {
                return Ok(None);
            }
            buffer.advance(head);
            let data = buffer.split_to(length).freeze();
            buffer.advance(2);
            return Ok(Some(match id.get(..1) {
                Some(INBOX) => {
                    let id = subject.rsplit('.').next().unwrap_or_default().to_owned();
                    Heard::Reply { id, code: 0, data }
                }
                Some(SERVICE) => Heard::Call { id: way_back.concat(), data },
                Some(TOPIC) => Heard::Broadcast { data },
                _ => Heard::Nothing,
            }));
        }
        _ => return Err(io::Error::other(format!("nats-server sends {text:?}"))),
    };
    buffer.advance(head);
    Ok(Some(heard))
}
