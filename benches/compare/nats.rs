//! The text protocol of `nats-server`, as far as a load needs it.
//!
//! A call is a message with an inbox as the way back; each peer subscribes once to all its inboxes. What NATS does
//! not acknowledge is followed by a PING, whose PONG then says that it was taken.

use std::io::Write as _;

use gsb_load::{Failure, Heard, Protocol};

/// Says who we are, without asking for an answer to each line.
const CONNECT: &str =
    r#"CONNECT {"verbose":false,"pedantic":false,"lang":"rust","version":"0.1.0"}"#;

// The first letter of a subscription's id says what comes by it.
const INBOX: u8 = b'i';
const SERVICE: u8 = b's';
const TOPIC: u8 = b't';

/// No line of the server is longer, in bytes.
const LONGEST_LINE: usize = 64 << 10;

/// No message of the load is larger, in bytes.
const LARGEST_MESSAGE: usize = 64 << 20;

/// The protocol of NATS. Names become subjects: `/a/b` is `a.b` there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Nats {
    /// The number of the peer, and of its inboxes.
    number: u64,
}

impl Protocol for Nats {
    fn greet(&mut self, number: u64, out: &mut Vec<u8>) {
        self.number = number;
        // What is written to memory is written.
        let _ = write!(out, "{CONNECT}\r\nSUB _INBOX.{number}.* {}\r\n", char::from(INBOX));
    }

    fn serve(&self, name: &str, out: &mut Vec<u8>) {
        subscribe(name, SERVICE, out);
    }

    fn subscribe(&self, topic: &str, out: &mut Vec<u8>) {
        subscribe(topic, TOPIC, out);
    }

    fn call(&self, name: &str, id: u64, payload: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(b"PUB ");
        out.extend(subject(name));
        let _ = write!(out, " _INBOX.{}.{id}", self.number);
        end_publish(payload, out);
    }

    fn reply(&self, reply_to: &[u8], payload: &[u8], _is_last: bool, out: &mut Vec<u8>) {
        out.extend_from_slice(b"PUB ");
        out.extend_from_slice(reply_to);
        end_publish(payload, out);
    }

    fn broadcast(&self, topic: &str, payload: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(b"PUB ");
        out.extend(subject(topic));
        end_publish(payload, out);
    }

    fn answer_ping(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"PONG\r\n");
    }

    fn next<'a>(&self, bytes: &'a [u8]) -> Result<Option<(Heard<'a>, usize)>, Failure> {
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
            return match bytes.len() {
                ..LONGEST_LINE => Ok(None),
                length => Err(Failure::Protocol(format!("a line has {length} bytes or more"))),
            };
        };
        let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if let Some(head) = line.strip_prefix(b"MSG ") {
            let message = Message::read(head).ok_or_else(|| strange(line))?;
            // Behind the payload is the end of a line.
            let Some(payload) = rest.get(..message.size + 2) else {
                return Ok(None);
            };
            let payload = payload.strip_suffix(b"\r\n").ok_or_else(|| strange(line))?;
            let heard = message.heard(payload).ok_or_else(|| strange(line))?;
            return Ok(Some((heard, end + 1 + message.size + 2)));
        }
        let heard = match line {
            b"PONG" => Heard::Done,
            b"PING" => Heard::Ping,
            b"+OK" => Heard::Nothing,
            _ if line.starts_with(b"INFO ") => Heard::Nothing,
            _ => match line.strip_prefix(b"-ERR ") {
                Some(why) => Heard::Refused(std::str::from_utf8(why).unwrap_or("")),
                None => return Err(strange(line)),
            },
        };
        Ok(Some((heard, end + 1)))
    }
}

/// The head of a message.
struct Message<'a> {
    subject: &'a [u8],
    subscription: &'a [u8],
    reply_to: &'a [u8],
    /// Of the payload, in bytes.
    size: usize,
}

impl<'a> Message<'a> {
    fn read(head: &'a [u8]) -> Option<Self> {
        let mut words = head.split(|byte| *byte == b' ');
        let (subject, subscription, third) = (words.next()?, words.next()?, words.next()?);
        let (reply_to, size) = match words.next() {
            Some(size) => (third, size),
            None => (&[][..], third),
        };
        let size = usize::try_from(decimal(size)?).ok().filter(|size| *size <= LARGEST_MESSAGE)?;
        Some(Message { subject, subscription, reply_to, size })
    }

    fn heard(&self, payload: &'a [u8]) -> Option<Heard<'a>> {
        Some(match *self.subscription.first()? {
            INBOX => {
                let id = self.subject.rsplit(|byte| *byte == b'.').next()?;
                Heard::Reply { id: decimal(id)?, payload, is_error: false, is_last: true }
            }
            SERVICE => Heard::Call { reply_to: self.reply_to, payload },
            TOPIC => Heard::Broadcast { payload },
            _ => return None,
        })
    }
}

fn subscribe(name: &str, kind: u8, out: &mut Vec<u8>) {
    // No two names of one peer end with the same word, and no two subscriptions may have the same id.
    let word = name.rsplit('/').next().unwrap_or(name);
    out.extend_from_slice(b"SUB ");
    out.extend(subject(name));
    let _ = write!(out, " {}{word}\r\nPING\r\n", char::from(kind));
}

/// What follows the subject of a PUB, and the way back if it has one.
fn end_publish(payload: &[u8], out: &mut Vec<u8>) {
    let _ = write!(out, " {}\r\n", payload.len());
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

fn subject(name: &str) -> impl Iterator<Item = u8> {
    let name = name.strip_prefix('/').unwrap_or(name);
    name.bytes().map(|byte| if byte == b'/' { b'.' } else { byte })
}

fn decimal(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn strange(line: &[u8]) -> Failure {
    let cut = &line[..line.len().min(100)];
    Failure::Protocol(format!("nats-server sends {:?}", String::from_utf8_lossy(cut)))
}

#[cfg(test)]
#[path = "nats_tests.rs"]
mod tests;
