//! The Golem Service Bus as raw peers speak it, in the packet framing.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use gsb_proto::frame::LARGEST_FRAME;
use gsb_proto::messages::{
    BroadcastReply, BroadcastRequest, CallReply, CallRequest, Hello, Message, Ping, RegisterReply,
    RegisterRequest, SubscribeReply, SubscribeRequest,
};
use gsb_proto::{Frame, FrameDecoder, Framing, MessageKind};

use crate::peer::{Heard, Say};

/// Appends a message.
pub fn encode(say: Say<'_>, out: &mut BytesMut) {
    let frame = match say {
        Say::Hello => hello().to_frame(),
        Say::Ping => Ping {}.to_frame(),
        Say::Serve { name } => RegisterRequest { service_id: name.to_owned() }.to_frame(),
        Say::Subscribe { topic } => SubscribeRequest { topic: topic.to_owned() }.to_frame(),
        Say::Call { to, id, data } => CallRequest {
            caller: "/hostile".to_owned(),
            address: to.to_owned(),
            request_id: id.to_owned(),
            data,
            no_reply: false,
        }
        .into_frame(),
        Say::Reply { to, last, data } => CallReply {
            request_id: to.to_owned(),
            reply_type: i32::from(!last),
            data,
            ..CallReply::default()
        }
        .into_frame(),
        Say::Broadcast { topic, data } => BroadcastRequest {
            caller: "/hostile".to_owned(),
            topic: topic.to_owned(),
            data,
            missed: 0,
        }
        .into_frame(),
    };
    // Every kind of message has a form in this framing.
    let _ = frame.encode(Framing::Packet, out);
}

/// The head of a frame of `length` bytes, and the first byte of the frame: what a call begins with.
pub fn announce(length: u32) -> Vec<u8> {
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.push(0x32);
    bytes
}

/// Reads what a router sends.
#[derive(Debug)]
pub struct Decoder(FrameDecoder);

impl Decoder {
    pub fn new() -> Decoder {
        Decoder(FrameDecoder::new(Framing::Packet, LARGEST_FRAME))
    }

    /// The next message in `buffer`; `None` while it has not come as a whole.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> io::Result<Option<Heard>> {
        match self.0.decode(buffer).map_err(io::Error::other)? {
            Some(frame) => heard(&frame).map(Some),
            None => Ok(None),
        }
    }
}

fn heard(frame: &Frame) -> io::Result<Heard> {
    Ok(match frame.kind {
        MessageKind::Hello => Heard::Welcome,
        // `ya-sb-router` answers a Ping with a Ping.
        MessageKind::Ping | MessageKind::Pong => Heard::Done,
        MessageKind::RegisterReply => {
            let reply: RegisterReply = decode(frame)?;
            outcome(reply.code, &reply.message)
        }
        MessageKind::SubscribeReply => {
            let reply: SubscribeReply = decode(frame)?;
            outcome(reply.code, &reply.message)
        }
        MessageKind::BroadcastReply => {
            let reply: BroadcastReply = decode(frame)?;
            outcome(reply.code, &reply.message)
        }
        MessageKind::CallRequest => {
            let call: CallRequest = decode(frame)?;
            Heard::Call { id: call.request_id, data: call.data }
        }
        MessageKind::CallReply => {
            let CallReply { request_id: id, code, data, .. } = decode(frame)?;
            Heard::Reply { id, code, data }
        }
        MessageKind::BroadcastRequest => {
            let broadcast: BroadcastRequest = decode(frame)?;
            Heard::Broadcast { data: broadcast.data }
        }
        other => return Err(io::Error::other(format!("the router sends a {}", other.name()))),
    })
}

fn outcome(code: i32, message: &str) -> Heard {
    match code {
        0 => Heard::Done,
        _ => Heard::Refused(format!("{code} {message}").trim_end().to_owned()),
    }
}

fn decode<M: Message>(frame: &Frame) -> io::Result<M> {
    frame.decode().map_err(io::Error::other)
}

/// Each with an instance id of its own, also among several processes.
fn hello() -> Hello {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut id = u64::from(std::process::id()).to_be_bytes().to_vec();
    id.extend(count.to_be_bytes());
    Hello {
        name: "hostile".to_owned(),
        version: "0".to_owned(),
        instance_id: Bytes::from(id),
        ..Hello::default()
    }
}
