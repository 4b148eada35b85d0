//! The messages of the floods, which are costly to handle. GSB only.

use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};
use gsb_proto::messages::{
    BroadcastRequest, CallRequest, Message as _, RegisterRequest, SubscribeRequest,
    UnsubscribeRequest,
};
use gsb_proto::{Frame, Framing};

/// The name of the flooded service: of the greatest length, and of characters that are costly to escape.
pub static FLOODED: LazyLock<String> = LazyLock::new(|| "\u{e000}".repeat(341));

/// A kind of flood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Flood {
    /// Pushes to a service that reads them
    Pushes,
    /// Registrations of invalid names: 1 KiB of characters that must be escaped
    RefusedNames,
    /// Calls to addresses without a service: 1 KiB of characters that must be escaped
    UnknownServices,
    /// Registrations of a name that another connection holds: 1 KiB of characters that must be escaped
    TakenNames,
    /// Subscriptions, their ends, and broadcasts, with topics of many segments
    DeepTopics,
    /// Messages of 65,000 fields; a connection that the server closes is made again
    ManyFields,
    /// Messages of 4,000 fields
    SomeFields,
}

impl Flood {
    /// Its name in the table.
    pub fn title(self) -> &'static str {
        match self {
            Flood::Pushes => "pushes",
            Flood::RefusedNames => "refused names",
            Flood::UnknownServices => "calls to unknown services",
            Flood::TakenNames => "taken names",
            Flood::DeepTopics => "deep topics",
            Flood::ManyFields => "65,000 fields",
            Flood::SomeFields => "4,000 fields",
        }
    }
}

/// Whole frames of a flood, at least `least` bytes, which a connection writes repeatedly.
pub fn flood(flood: Flood, least: usize) -> Bytes {
    let call = |address: &str, no_reply| CallRequest {
        caller: "/hostile".to_owned(),
        address: address.to_owned(),
        no_reply,
        ..CallRequest::default()
    };
    // The most segments that our router accepts.
    let segments = ["**", "a", "*", "b"].repeat(16);
    let frames = match flood {
        Flood::Pushes => vec![call(&FLOODED, true).to_frame()],
        Flood::RefusedNames => {
            let service_id = format!("{}\n", "\u{e000}".repeat(340));
            vec![RegisterRequest { service_id, ..Default::default() }.to_frame()]
        }
        Flood::UnknownServices => vec![call(&"\u{e001}".repeat(341), false).to_frame()],
        Flood::TakenNames => {
            vec![RegisterRequest { service_id: FLOODED.clone(), ..Default::default() }.to_frame()]
        }
        Flood::DeepTopics => {
            let topic = segments.join("/");
            let published = format!("x/{}", segments[1..].join("/"));
            let broadcast = BroadcastRequest { topic: published, ..Default::default() };
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
                with_fields(call("/unknown", true).to_frame()),
                with_fields(RegisterRequest { service_id, ..Default::default() }.to_frame()),
            ]
        }
    };
    let mut bytes = BytesMut::new();
    while bytes.len() < least {
        for frame in &frames {
            // The packet framing has every kind of message.
            let _ = frame.encode(Framing::Packet, &mut bytes);
        }
    }
    bytes.freeze()
}
