//! What is to happen on the bus, out of the bytes of the fuzzer.

use arbitrary::{Arbitrary, Result, Unstructured};
use bytes::Bytes;
use gsb_fuzz::input::{self, Script};
use gsb_fuzz::names::Name;
use gsb_proto::messages::{
    BroadcastRequest, CallRequest, CancelCall, Hello, Message, Ping, Pong, RegisterRequest,
    SubscribeRequest, UnregisterRequest, UnsubscribeRequest,
};
use gsb_proto::{Frame, Framing, MessageKind};
use prost::Message as _;

/// More than the bus clears away at once for a connection that ends.
pub(crate) const MANY: usize = 1040;

#[derive(Debug)]
pub(crate) struct Input<'a> {
    /// What a connection may hold: little, so that it is reached often, or a lot.
    pub(crate) limit: usize,
    pub(crate) ops: Script<Op<'a>>,
}

impl<'a> Arbitrary<'a> for Input<'a> {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Self> {
        let limit = if input.arbitrary::<u8>()? < 248 { 2 } else { 2 * MANY };
        Ok(Input { limit, ops: input.arbitrary()? })
    }
}

#[derive(Debug)]
pub(crate) enum Op<'a> {
    Connect(u8, Framing),
    ConnectQuietly(u8),
    Wait(u8),
    /// The router goes on clearing away what those have left who are gone.
    Sweep(u8),
    /// The router is told to stop; the second time it ends all calls.
    Stop,
    /// A reply to a call that was forwarded, finished or not, by its service or by somebody else.
    Answer {
        call: u8,
        by: Option<u8>,
        reply_type: i8,
        length: u8,
    },
    /// A caller cancels a call that was forwarded, finished or not.
    Cancel(u8),
    /// One end of a call that was forwarded sends data of the request or credit.
    Stream {
        call: u8,
        part: u8,
    },
    /// A connection does something, or something is done to it.
    Peer(u8, Act<'a>),
}

#[derive(Debug)]
pub(crate) enum Act<'a> {
    Detect(Framing),
    Hear,
    HangUp,
    Say(Say<'a>),
    /// A call to a service that there is.
    Call {
        service: u8,
        id: u8,
        length: u8,
    },
    /// An event for a topic that is subscribed.
    Broadcast {
        topic: u8,
        length: u8,
    },
    /// A frame with any content.
    Raw(u8, &'a [u8]),
    /// So much of one kind that it is not cleared away at once.
    SayMany(Many),
    /// It takes nothing of what it is sent.
    Deafen,
    /// It takes some bytes.
    Take(u8),
    /// It takes all, and from now on at once.
    TakeAll,
    /// The router looks whether it takes anything.
    Look,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Many {
    Calls,
    Services,
    Subscriptions,
}

impl<'a> Arbitrary<'a> for Op<'a> {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Self> {
        let (what, who): (u8, u8) = (input.arbitrary()?, input.arbitrary()?);
        let framing = if what.is_multiple_of(2) { Framing::Packet } else { Framing::Classic };
        let act = match what {
            0..=20 => return Ok(Op::Connect(who, framing)),
            21..=24 => return Ok(Op::ConnectQuietly(who)),
            25..=31 => return Ok(Op::Wait(who)),
            32..=34 => return Ok(Op::Sweep(who)),
            // What comes after it is poor.
            35 if who < 16 => return Ok(Op::Stop),
            35 => return Ok(Op::Wait(who)),
            36..=38 => return Ok(Op::Cancel(who)),
            39..=46 => return Ok(Op::Stream { call: who, part: input.arbitrary()? }),
            47..=75 => {
                let by = if what < 53 { Some(input.arbitrary()?) } else { None };
                let reply_type = input.int_in_range(-1..=2)?;
                return Ok(Op::Answer { call: who, by, reply_type, length: input.arbitrary()? });
            }
            76..=80 => Act::Detect(framing),
            81..=85 => Act::Hear,
            86..=96 => Act::HangUp,
            97..=112 => Act::Raw(input.arbitrary()?, input::bytes(input)?),
            113 => Act::SayMany(Many::Calls),
            114 => Act::SayMany(Many::Services),
            115 => Act::SayMany(Many::Subscriptions),
            116..=126 => Act::Deafen,
            127..=134 => Act::Take(input.arbitrary()?),
            135..=138 => Act::TakeAll,
            139..=148 => Act::Look,
            149..=175 => {
                let (service, id, length) = input.arbitrary()?;
                Act::Call { service, id, length }
            }
            176..=244 => Act::Say(input.arbitrary()?),
            _ => Act::Broadcast { topic: input.arbitrary()?, length: input.arbitrary()? },
        };
        Ok(Op::Peer(who, act))
    }
}

#[derive(Debug)]
pub(crate) enum Say<'a> {
    Hello(u8, bool, u8),
    /// In a mode, with a capacity.
    Register(Name, u8, u8),
    Unregister(Name),
    Subscribe(Name),
    Unsubscribe(Name),
    Broadcast(Name, &'a [u8]),
    Call {
        address: Name,
        id: String,
        no_reply: bool,
        affinity: u8,
        data: &'a [u8],
    },
    /// The same field twice, fields that nobody knows.
    CallAndMore {
        address: Name,
        id: String,
        more: &'a [u8],
    },
    Cancel(String),
    Ping,
    Pong,
}

impl<'a> Arbitrary<'a> for Say<'a> {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match input.int_in_range(0..=63)? {
            0..=4 => Say::Hello(input.arbitrary()?, input.arbitrary()?, input.arbitrary()?),
            5..=14 => Say::Register(input.arbitrary()?, input.arbitrary()?, input.arbitrary()?),
            15..=17 => Say::Unregister(input.arbitrary()?),
            18..=25 => Say::Subscribe(input.arbitrary()?),
            26..=28 => Say::Unsubscribe(input.arbitrary()?),
            29..=36 => Say::Broadcast(input.arbitrary()?, input::bytes(input)?),
            37..=39 => Say::Cancel(request_id(input)?),
            40..=55 => Say::Call {
                address: input.arbitrary()?,
                id: request_id(input)?,
                no_reply: input.ratio(1, 8)?,
                affinity: input.arbitrary()?,
                data: input::bytes(input)?,
            },
            56..=61 => Say::CallAndMore {
                address: input.arbitrary()?,
                id: request_id(input)?,
                more: input::bytes(input)?,
            },
            62 => Say::Ping,
            _ => Say::Pong,
        })
    }
}

fn request_id(input: &mut Unstructured<'_>) -> Result<String> {
    let form: u8 = input.arbitrary()?;
    Ok(match form {
        0..=149 => (form % 4).to_string(),
        150..=249 => input::text(input)?.to_owned(),
        // Around the longest that is allowed, and the most text that is read.
        250..=254 => "i".repeat(900 + usize::from(input.arbitrary::<u8>()?)),
        _ => "i".repeat(65_400 + usize::from(input.arbitrary::<u8>()?)),
    })
}

impl Say<'_> {
    pub(crate) fn frame(&self) -> Frame {
        let call = |address: &Name, id: &String| CallRequest {
            address: address.0.clone(),
            request_id: id.clone(),
            ..CallRequest::default()
        };
        match self {
            Say::Hello(instance, no_echo, level) => {
                let instance_id = vec![1; usize::from(*instance % 66)].into();
                // Mostly 1.
                let level = if *level < 192 { 1 } else { u32::from(level % 3) };
                Hello { instance_id, no_echo: *no_echo, level, ..Hello::default() }.to_frame()
            }
            Say::Register(name, mode, capacity) => {
                // Mostly without a limit, and in a mode that there is.
                let mode = if *mode < 250 { i32::from(mode % 3) } else { i32::from(*mode) - 251 };
                let capacity = u32::from(capacity.saturating_sub(192) % 4);
                let service_id = name.0.clone();
                RegisterRequest { service_id, mode, capacity }.to_frame()
            }
            Say::Unregister(name) => UnregisterRequest { service_id: name.0.clone() }.to_frame(),
            Say::Subscribe(topic) => SubscribeRequest { topic: topic.0.clone() }.to_frame(),
            Say::Unsubscribe(topic) => UnsubscribeRequest { topic: topic.0.clone() }.to_frame(),
            Say::Broadcast(topic, data) => {
                let data = Bytes::copy_from_slice(data);
                BroadcastRequest { topic: topic.0.clone(), data, ..BroadcastRequest::default() }
                    .into_frame()
            }
            Say::Call { address, id, no_reply, affinity, data } => {
                let data = Bytes::copy_from_slice(data);
                let affinity = match affinity {
                    0..192 => String::new(),
                    _ => (affinity % 4).to_string(),
                };
                CallRequest { no_reply: *no_reply, affinity, data, ..call(address, id) }
                    .into_frame()
            }
            Say::CallAndMore { address, id, more } => {
                let message = [&call(address, id).encode_to_vec(), *more].concat();
                Frame::new(MessageKind::CallRequest, message)
            }
            Say::Cancel(id) => CancelCall { request_id: id.clone() }.to_frame(),
            Say::Ping => Ping {}.to_frame(),
            Say::Pong => Pong {}.to_frame(),
        }
    }
}
