//! The Golem Service Bus as raw peers speak it, in the packet framing.

use std::io;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use gsb_proto::framing::LARGEST_FRAME;
use gsb_proto::messages::{
    BroadcastReply, BroadcastRequest, CallReply, CallRequest, Hello, Message, Ping, RegisterReply,
    RegisterRequest, SubscribeReply, SubscribeRequest, UnsubscribeRequest,
};
use gsb_proto::{Frame, FrameDecoder, Framing, MessageKind};

use crate::cases::Flood;
use crate::peer::{Heard, Say};

/// The service that some floods are for. Of the longest names, and of those that take longest to be escaped.
pub static FLOODED: LazyLock<String> = LazyLock::new(|| "\u{e000}".repeat(341));

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

/// What a connection of a flood writes again and again: `least` bytes or more of whole frames.
pub fn flood(flood: Flood, least: usize) -> Bytes {
    let call = |address: &str, no_reply| CallRequest {
        caller: "/hostile".to_owned(),
        address: address.to_owned(),
        no_reply,
        ..CallRequest::default()
    };
    let segments = ["**", "a", "*", "b"].repeat(15).join("/");
    let frames = match flood {
        Flood::Pushes => vec![call(&FLOODED, true).to_frame()],
        Flood::RefusedNames => {
            let service_id = format!("{}\n", "\u{e000}".repeat(340));
            vec![RegisterRequest { service_id }.to_frame()]
        }
        Flood::CallsToNobody => vec![call(&"\u{e001}".repeat(341), false).to_frame()],
        Flood::TakenNames => vec![RegisterRequest { service_id: FLOODED.clone() }.to_frame()],
        Flood::DeepTopics => {
            let topic = segments;
            let broadcast = BroadcastRequest { topic: format!("x/{topic}"), ..Default::default() };
            vec![
                SubscribeRequest { topic: topic.clone() }.to_frame(),
                broadcast.to_frame(),
                UnsubscribeRequest { topic }.to_frame(),
            ]
        }
        Flood::ManyFields | Flood::SomeFields => {
            let count = if flood == Flood::ManyFields { 65_000 } else { 4_000 };
            // Unknown fields, each a key and a number of one byte.
            let fields = [0x78, 0].repeat(count);
            let with_fields = |frame: Frame| {
                let body = [frame.body.into_bytes(), fields.clone().into()].concat();
                Frame::new(frame.kind, body)
            };
            let service_id = FLOODED.clone();
            vec![
                with_fields(call("/nobody", true).to_frame()),
                with_fields(RegisterRequest { service_id }.to_frame()),
            ]
        }
    };
    let mut bytes = BytesMut::new();
    while bytes.len() < least {
        for frame in &frames {
            // Every kind of message has a form in this framing.
            let _ = frame.encode(Framing::Packet, &mut bytes);
        }
    }
    bytes.freeze()
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
