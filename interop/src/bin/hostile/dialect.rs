//! The protocols of the servers.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use gsb_load::{Gsb, Nats, Protocol, refusal_text};
use gsb_proto::Framing;

use crate::message::{Incoming, Outgoing};

/// The protocol of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Dialect {
    /// GSB with the packet framing.
    Gsb,
    /// The text protocol of NATS.
    Nats,
}

/// The codec of one connection.
#[derive(Debug, Clone)]
pub enum Codec {
    /// Of a GSB router.
    Gsb(Gsb, u64),
    /// Of a NATS server.
    Nats(Nats, u64),
}

impl Codec {
    /// A codec for a new connection.
    pub fn new(dialect: Dialect) -> Codec {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        // No other connection has the same number, not even one of another process.
        let number = u64::from(std::process::id()) << 32 | COUNT.fetch_add(1, Ordering::Relaxed);
        match dialect {
            Dialect::Gsb => Codec::Gsb(Gsb(Framing::Packet), number),
            Dialect::Nats => Codec::Nats(Nats::default(), number),
        }
    }

    /// The protocol.
    pub fn dialect(&self) -> Dialect {
        match self {
            Codec::Gsb(..) => Dialect::Gsb,
            Codec::Nats(..) => Dialect::Nats,
        }
    }

    /// Appends a message.
    pub fn encode(&mut self, message: Outgoing<'_>, out: &mut Vec<u8>) {
        match self {
            Codec::Gsb(gsb, number) => encode(gsb, *number, message, out),
            Codec::Nats(nats, number) => {
                encode(nats, *number, message, out);
                if let Outgoing::Broadcast { .. } = message {
                    // NATS does not acknowledge a broadcast, but answers a Ping behind it.
                    nats.ping(out);
                }
            }
        }
    }

    /// Takes the first message out of `buffer`; `None` while it is not complete.
    pub fn decode(&self, buffer: &mut BytesMut) -> io::Result<Option<Incoming>> {
        let Some((_, length)) = self.next(buffer)? else { return Ok(None) };
        let bytes = buffer.split_to(length).freeze();
        // Parsed again, since its payload is now a part of `bytes`.
        let message = self.next(&bytes)?;
        Ok(message.map(|(message, _)| self.owned(&bytes, message)))
    }

    fn next<'a>(&self, bytes: &'a [u8]) -> io::Result<Option<(gsb_load::Incoming<'a>, usize)>> {
        match self {
            Codec::Gsb(gsb, _) => gsb.next(bytes),
            Codec::Nats(nats, _) => nats.next(bytes),
        }
        .map_err(io::Error::other)
    }

    fn owned(&self, bytes: &Bytes, message: gsb_load::Incoming<'_>) -> Incoming {
        match message {
            gsb_load::Incoming::Call { reply_to, payload } => Incoming::Call {
                reply_to: bytes.slice_ref(reply_to),
                data: bytes.slice_ref(payload),
            },
            gsb_load::Incoming::Reply { id, code, payload, .. } => {
                Incoming::Reply { id, code, data: bytes.slice_ref(payload) }
            }
            gsb_load::Incoming::Broadcast { payload } => {
                Incoming::Broadcast { data: bytes.slice_ref(payload) }
            }
            gsb_load::Incoming::Done => Incoming::Done,
            // `ya-sb-router` answers a Ping with a Ping.
            gsb_load::Incoming::Ping if self.dialect() == Dialect::Gsb => Incoming::Done,
            gsb_load::Incoming::Refused { code, message } => {
                Incoming::Refused(refusal_text(code, message))
            }
            gsb_load::Incoming::Ping | gsb_load::Incoming::Ignored => Incoming::Ignored,
        }
    }
}

fn encode<P: Protocol>(protocol: &mut P, number: u64, message: Outgoing<'_>, out: &mut Vec<u8>) {
    match message {
        Outgoing::Hello => protocol.hello(number, out),
        Outgoing::Ping => protocol.ping(out),
        Outgoing::Register { name } => protocol.register(name, false, out),
        Outgoing::Subscribe { topic } => protocol.subscribe(topic, out),
        Outgoing::Call { service, id, data } => protocol.call(service, id, data, 0, out),
        Outgoing::Reply { to, is_last, data } => protocol.reply(to, data, is_last, out),
        Outgoing::Broadcast { topic, data } => protocol.broadcast(topic, data, out),
    }
}

/// The head of a message with a payload of `length` bytes, and the first byte of the payload.
pub fn announcement(dialect: Dialect, length: u32) -> Vec<u8> {
    match dialect {
        Dialect::Gsb => {
            // A packet begins with the field of a CallRequest.
            let mut bytes = length.to_be_bytes().to_vec();
            bytes.push(0x32);
            bytes
        }
        Dialect::Nats => format!("PUB unknown {length}\r\nx").into_bytes(),
    }
}
