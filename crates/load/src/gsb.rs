//! The Golem Service Bus protocol.

use gsb_proto::extension::CALL_REQUEST_TIMEOUT_MS;
use gsb_proto::framing::{Header, LARGEST_FRAME};
use gsb_proto::messages::{
    Hello, Message, Ping, Pong, RegisterMode, RegisterRequest, SubscribeRequest,
};
use gsb_proto::wire::{Records, Value, read_varint, varint_len, write_varint};
use gsb_proto::{Frame, Framing, MessageKind};

use crate::failure::Failure;
use crate::protocol::{Incoming, Protocol};

/// The Golem Service Bus protocol, in one of its framings.
#[derive(Debug, Clone, Copy)]
pub struct Gsb(pub Framing);

impl Protocol for Gsb {
    fn hello(&mut self, number: u64, out: &mut Vec<u8>) {
        if self.0 == Framing::Packet {
            let mut instance_id = [0; 16];
            instance_id[..4].copy_from_slice(&std::process::id().to_be_bytes());
            instance_id[8..].copy_from_slice(&number.to_be_bytes());
            self.write_frame(
                &Hello {
                    name: "gsb-bench".to_owned(),
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                    instance_id: instance_id.to_vec().into(),
                    ..Hello::default()
                }
                .to_frame(),
                out,
            );
        }
    }

    fn register(&self, name: &str, is_shared: bool, out: &mut Vec<u8>) {
        let mode = if is_shared { RegisterMode::Shared } else { RegisterMode::Exclusive };
        let service_id = name.to_owned();
        let request = RegisterRequest { service_id, mode: mode.into(), ..Default::default() };
        self.write_frame(&request.to_frame(), out);
    }

    fn subscribe(&self, topic: &str, out: &mut Vec<u8>) {
        self.write_frame(&SubscribeRequest { topic: topic.to_owned() }.to_frame(), out);
    }

    fn call(&self, name: &str, id: u64, payload: &[u8], timeout_ms: u32, out: &mut Vec<u8>) {
        let id = id.to_string();
        let fields = [(2, name.as_bytes()), (3, id.as_bytes()), (4, payload)];
        let mut timeout = Vec::new();
        if timeout_ms > 0 {
            write_varint(u64::from(CALL_REQUEST_TIMEOUT_MS) << 3, &mut timeout);
            write_varint(timeout_ms.into(), &mut timeout);
        }
        self.write_fields(MessageKind::CallRequest, &[], &fields, &timeout, out);
    }

    fn reply(&self, reply_to: &[u8], payload: &[u8], is_last: bool, out: &mut Vec<u8>) {
        // Field 3 is the reply type: 1 is PARTIAL, and FULL is the default.
        let reply_type: &[u8] = if is_last { &[] } else { &[3 << 3, 1] };
        let fields = [(1, reply_to), (4, payload)];
        self.write_fields(MessageKind::CallReply, reply_type, &fields, &[], out);
    }

    fn broadcast(&self, topic: &str, payload: &[u8], out: &mut Vec<u8>) {
        let fields = [(2, payload), (3, topic.as_bytes())];
        self.write_fields(MessageKind::BroadcastRequest, &[], &fields, &[], out);
    }

    fn ping(&self, out: &mut Vec<u8>) {
        self.write_frame(&Ping {}.to_frame(), out);
    }

    fn pong(&self, out: &mut Vec<u8>) {
        self.write_frame(&Pong {}.to_frame(), out);
    }

    fn next<'a>(&self, bytes: &'a [u8]) -> Result<Option<(Incoming<'a>, usize)>, Failure> {
        let (length, begin) = match self.0 {
            Framing::Classic => (bytes.get(4..8), 8),
            Framing::Packet => (bytes.get(..4), 4),
        };
        let Some(length) = length.and_then(|length| length.first_chunk()) else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if length > LARGEST_FRAME {
            return Err(Failure::Protocol(format!("it announces a frame of {length} bytes")));
        }
        let Some(body) = bytes.get(begin..begin + length) else {
            return Ok(None);
        };
        let incoming = match self.0 {
            Framing::Classic => {
                let number = bytes.first_chunk().map_or(0, |number| i32::from_be_bytes(*number));
                parse(MessageKind::from_classic_type(number), body)?
            }
            Framing::Packet => {
                let (key, size) = read_varint(body)?;
                let (length, more) = read_varint(&body[size..])?;
                let message = &body[size + more..];
                if message.len() as u64 != length {
                    return Err(Failure::Protocol("a packet contains several messages".to_owned()));
                }
                let kind = u32::try_from(key >> 3).ok().and_then(MessageKind::from_field);
                parse(kind, message)?
            }
        };
        Ok(Some((incoming, begin + length)))
    }
}

impl Gsb {
    fn write_frame(self, frame: &Frame, out: &mut Vec<u8>) {
        // The classic framing has no Hello.
        if let Some(header) = frame.header(self.0) {
            out.extend_from_slice(header.as_ref());
            for segment in frame.body.segments() {
                out.extend_from_slice(segment);
            }
        }
    }

    /// Writes a message that consists of `fields`, and of encoded ones before and after them.
    fn write_fields(
        self,
        kind: MessageKind,
        begin: &[u8],
        fields: &[(u8, &[u8])],
        end: &[u8],
        out: &mut Vec<u8>,
    ) {
        let each = |(_, value): &(u8, &[u8])| 1 + varint_len(value.len() as u64) + value.len();
        let length = begin.len() + fields.iter().map(each).sum::<usize>() + end.len();
        let Some(header) = Header::new(kind, length, self.0) else {
            return;
        };
        out.extend_from_slice(header.as_ref());
        out.extend_from_slice(begin);
        for (field, value) in fields {
            out.push(field << 3 | 2);
            write_varint(value.len() as u64, out);
            out.extend_from_slice(value);
        }
        out.extend_from_slice(end);
    }
}

fn parse(kind: Option<MessageKind>, message: &[u8]) -> Result<Incoming<'_>, Failure> {
    if matches!(kind, None | Some(MessageKind::Hello | MessageKind::UnregisterReply)) {
        return Ok(Incoming::Ignored);
    }
    let mut records = Records::new(message);
    let (mut first, mut second, mut third, mut fourth) =
        (Value::Group, Value::Group, 0, Value::Group);
    while let Some(record) = records.next()? {
        match record.field {
            1 => first = record.value,
            2 => second = record.value,
            3 => third = record.value.varint(3).unwrap_or(0),
            4 => fourth = record.value,
            _ => {}
        }
        if kind == Some(MessageKind::CallRequest) && record.field == 3 {
            first = record.value;
        }
    }
    let bytes = |value| match value {
        Value::Bytes(bytes) => bytes,
        _ => &[],
    };
    let number = |value| match value {
        Value::Varint(number) => number,
        _ => 0,
    };
    Ok(match kind {
        Some(MessageKind::CallRequest) => {
            Incoming::Call { reply_to: bytes(first), payload: bytes(fourth) }
        }
        Some(MessageKind::CallReply) => Incoming::Reply {
            id: decimal(bytes(first)).unwrap_or(u64::MAX),
            payload: bytes(fourth),
            code: number(second) as i32,
            is_last: third != 1,
        },
        Some(MessageKind::BroadcastRequest) => Incoming::Broadcast { payload: bytes(second) },
        Some(
            MessageKind::RegisterReply | MessageKind::SubscribeReply | MessageKind::BroadcastReply,
        ) => match number(first) {
            0 => Incoming::Done,
            code => Incoming::Refused {
                code: code as i32,
                message: std::str::from_utf8(bytes(second)).unwrap_or(""),
            },
        },
        Some(MessageKind::Ping) => Incoming::Ping,
        Some(MessageKind::Pong) => Incoming::Done,
        _ => Incoming::Ignored,
    })
}

fn decimal(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use gsb_proto::FrameDecoder;
    use gsb_proto::messages::CallRequest;

    use super::*;

    /// The one message that is encoded.
    fn encoded<M: Message>(framing: Framing, encode: impl FnOnce(&Gsb, &mut Vec<u8>)) -> M {
        let mut out = Vec::new();
        encode(&Gsb(framing), &mut out);
        let mut bytes = BytesMut::from(&out[..]);
        let frame = FrameDecoder::new(framing, LARGEST_FRAME).decode(&mut bytes).unwrap();
        assert!(bytes.is_empty(), "{bytes:?}");
        frame.unwrap().decode().unwrap()
    }

    #[test]
    fn options_of_calls_and_names_are_encoded() {
        for framing in [Framing::Classic, Framing::Packet] {
            for timeout_ms in [0, 1, 60_000, u32::MAX] {
                let call: CallRequest =
                    encoded(framing, |gsb, out| gsb.call("/a", 7, b"data", timeout_ms, out));
                let (address, request_id) = ("/a".to_owned(), "7".to_owned());
                let data = b"data"[..].into();
                let fields =
                    CallRequest { address, request_id, data, timeout_ms, ..Default::default() };
                assert_eq!(call, fields);
            }
            for (is_shared, mode) in
                [(false, RegisterMode::Exclusive), (true, RegisterMode::Shared)]
            {
                let request: RegisterRequest =
                    encoded(framing, |gsb, out| gsb.register("/a", is_shared, out));
                assert_eq!((request.service_id.as_str(), request.mode()), ("/a", mode));
            }
        }
    }
}
