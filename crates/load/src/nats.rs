//! The text protocol of `nats-server`.
//!
//! A call is a message with a reply subject, the caller's inbox. Each client subscribes once to all of its inboxes.
//! NATS does not acknowledge a subscription, so a PING follows it, and the PONG confirms both.

use std::io::Write as _;

use crate::failure::Failure;
use crate::protocol::{Incoming, Protocol};

/// Introduces the client, and asks the server not to acknowledge each line.
const CONNECT: &str =
    r#"CONNECT {"verbose":false,"pedantic":false,"lang":"rust","version":"0.1.0"}"#;

// The first letter of a subscription's id: the kind of messages that it receives.
const INBOX: u8 = b'i';
const SERVICE: u8 = b's';
const TOPIC: u8 = b't';

/// The queue group of services that share a name. Each call goes to one of them.
const GROUP: &str = " services";

/// The most bytes in a line of the server.
const LONGEST_LINE: usize = 64 << 10;

/// The most bytes in a message.
const LARGEST_MESSAGE: usize = 64 << 20;

/// The protocol of NATS. A name becomes a subject: `/a/b` becomes `a.b`.
#[derive(Debug, Clone, Default)]
pub struct Nats {
    /// The number of the client, which is a part of the names of its inboxes.
    number: u64,
}

impl Protocol for Nats {
    fn hello(&mut self, number: u64, out: &mut Vec<u8>) {
        self.number = number;
        // Writing to memory does not fail.
        let _ = write!(out, "{CONNECT}\r\nSUB _INBOX.{number}.* {}\r\n", char::from(INBOX));
    }

    fn register(&self, name: &str, is_shared: bool, out: &mut Vec<u8>) {
        subscribe(name, if is_shared { GROUP } else { "" }, SERVICE, out);
    }

    fn subscribe(&self, topic: &str, out: &mut Vec<u8>) {
        subscribe(topic, "", TOPIC, out);
    }

    fn call(&self, name: &str, id: u64, payload: &[u8], _timeout_ms: u32, out: &mut Vec<u8>) {
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

    fn ping(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"PING\r\n");
    }

    fn pong(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"PONG\r\n");
    }

    fn next<'a>(&self, bytes: &'a [u8]) -> Result<Option<(Incoming<'a>, usize)>, Failure> {
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
            return match bytes.len() {
                ..LONGEST_LINE => Ok(None),
                length => {
                    Err(Failure::Protocol(format!("it sends a line of {length} bytes or more")))
                }
            };
        };
        let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if let Some(head) = line.strip_prefix(b"MSG ") {
            let message = Message::read(head).ok_or_else(|| unexpected(line))?;
            // A line end follows the payload.
            let Some(payload) = rest.get(..message.size + 2) else {
                return Ok(None);
            };
            let payload = payload.strip_suffix(b"\r\n").ok_or_else(|| unexpected(line))?;
            let incoming = message.incoming(payload).ok_or_else(|| unexpected(line))?;
            return Ok(Some((incoming, end + 1 + message.size + 2)));
        }
        let incoming = match line {
            b"PONG" => Incoming::Done,
            b"PING" => Incoming::Ping,
            b"+OK" => Incoming::Ignored,
            _ if line.starts_with(b"INFO ") => Incoming::Ignored,
            _ => match line.strip_prefix(b"-ERR ") {
                Some(error) => {
                    Incoming::Refused { code: 0, message: std::str::from_utf8(error).unwrap_or("") }
                }
                None => return Err(unexpected(line)),
            },
        };
        Ok(Some((incoming, end + 1)))
    }
}

/// The first line of a message.
struct Message<'a> {
    subject: &'a [u8],
    subscription: &'a [u8],
    reply_to: &'a [u8],
    /// Bytes of the payload.
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

    fn incoming(&self, payload: &'a [u8]) -> Option<Incoming<'a>> {
        Some(match *self.subscription.first()? {
            INBOX => {
                let id = self.subject.rsplit(|byte| *byte == b'.').next()?;
                Incoming::Reply { id: decimal(id)?, payload, code: 0, is_last: true }
            }
            SERVICE => Incoming::Call { reply_to: self.reply_to, payload },
            TOPIC => Incoming::Broadcast { payload },
            _ => return None,
        })
    }
}

/// `group` is empty, or a queue group with a space before it.
fn subscribe(name: &str, group: &str, kind: u8, out: &mut Vec<u8>) {
    // A client needs an id for each subscription, and no two of its names end with the same segment.
    let segment = name.rsplit('/').next().unwrap_or(name);
    out.extend_from_slice(b"SUB ");
    out.extend(subject(name));
    let _ = write!(out, "{group} {}{segment}\r\nPING\r\n", char::from(kind));
}

/// The part of a PUB behind its subject, and behind its reply subject if it has one.
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

fn unexpected(line: &[u8]) -> Failure {
    let cut = &line[..line.len().min(100)];
    Failure::Protocol(format!("it sends {:?}", String::from_utf8_lossy(cut)))
}

#[cfg(test)]
#[path = "nats_tests.rs"]
mod tests;
