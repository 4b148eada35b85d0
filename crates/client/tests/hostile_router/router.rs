//! A router that sends random, wrong and oversized frames.

use std::io::{ErrorKind, IoSlice};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fastrand::Rng;
use futures::FutureExt as _;
use gsb_net::memory::{MemoryListener, MemoryStream, Network};
use gsb_proto::framing::LARGEST_FRAME;
use gsb_proto::messages::*;
use gsb_proto::{Frame, FrameDecoder, Framing, MessageKind};

use crate::user::{SERVICES, TOPICS};

/// How many ids of calls are remembered.
const CALLS: usize = 64;

/// The largest frame that is sent to its end, in bytes.
const LARGE: usize = 2 << 20;

/// How often it waits for room in the network before it abandons a frame in the middle.
const TRIES: u32 = 50;

static ZEROS: [u8; 16 << 10] = [0; 16 << 10];

/// The sizes of the frames that a router has sent, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sizes {
    /// Frames that consumers and handlers may keep.
    pub(crate) whole: usize,
    /// Unfinished frames, which belong to no call of the client: the bytes that were sent.
    pub(crate) unfinished: usize,
}

pub(crate) struct Router {
    network: Network,
    framing: Framing,
    rng: Rng,
    listener: Option<MemoryListener>,
    stream: Option<MemoryStream>,
    /// Whether it reads what the client sends.
    reads: bool,
    decoder: FrameDecoder,
    received: BytesMut,
    /// Calls that came over this connection.
    calls: Vec<String>,
    /// The kinds of the unanswered requests of this connection.
    asked: Vec<MessageKind>,
    /// The unsent rest of an unfinished frame, in bytes.
    trickle: usize,
    /// The sent part of it, in bytes.
    begun: usize,
    pub(crate) sizes: Sizes,
}

impl Router {
    pub(crate) fn new(network: Network, framing: Framing, rng: Rng) -> Self {
        Router {
            listener: network.listen().ok(),
            network,
            framing,
            rng,
            stream: None,
            reads: true,
            decoder: FrameDecoder::new(framing, LARGEST_FRAME),
            received: BytesMut::new(),
            calls: Vec::new(),
            asked: Vec::new(),
            trickle: 0,
            begun: 0,
            sizes: Sizes::default(),
        }
    }

    pub(crate) fn hang_up(&mut self) {
        self.stream = None;
    }

    /// Accepts a connection if there is one, and reads the received bytes.
    pub(crate) fn look(&mut self) {
        let accepted = self.listener.as_ref().and_then(|listener| listener.accept().now_or_never());
        if let Some(stream) = accepted {
            self.stream = Some(stream);
            self.decoder = FrameDecoder::new(self.framing, LARGEST_FRAME);
            self.received = BytesMut::new();
            self.calls.clear();
            self.asked.clear();
            self.trickle = 0;
            self.reads = self.rng.u8(0..8) > 0;
            if self.framing == Framing::Packet && self.rng.u8(0..8) > 0 {
                let no_echo = self.rng.bool();
                let level = self.rng.u32(0..3);
                let max_frame = *self.rng.choice(&[0, 0, 0, 500, 1 << 20, u64::MAX]).unwrap();
                let name = "hostile".into();
                let hello = Hello { no_echo, name, level, max_frame, ..Hello::default() };
                let mut out = BytesMut::new();
                assert!(hello.to_frame().encode(self.framing, &mut out));
                self.try_write(&out);
            }
        }
        let Some(stream) = self.stream.as_ref().filter(|_| self.reads) else {
            return;
        };
        loop {
            self.received.reserve(4096);
            match stream.try_read(&mut self.received, 4096) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return self.stream = None,
            }
        }
        while let Some(frame) = self.decoder.decode(&mut self.received).expect("a client's frame") {
            match frame.kind {
                MessageKind::CallRequest if self.calls.len() < CALLS => {
                    self.calls.push(frame.decode::<CallRequest>().expect("a call").request_id);
                }
                MessageKind::RegisterRequest
                | MessageKind::UnregisterRequest
                | MessageKind::SubscribeRequest
                | MessageKind::UnsubscribeRequest
                | MessageKind::BroadcastRequest => self.asked.push(frame.kind),
                _ => {}
            }
        }
        if self.received.is_empty() {
            self.received = BytesMut::new();
        }
    }

    /// Returns how much was written.
    fn try_write(&mut self, bytes: &[u8]) -> usize {
        let Some(stream) = &self.stream else {
            return bytes.len();
        };
        match stream.try_write_vectored(&[IoSlice::new(bytes)]) {
            Ok(written) => written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(_) => {
                self.stream = None;
                bytes.len()
            }
        }
    }

    /// Writes all, unless the client does not read for a while.
    async fn write(&mut self, mut bytes: &[u8]) {
        for _ in 0..TRIES {
            let written = self.try_write(bytes);
            bytes = &bytes[written..];
            if bytes.is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
            self.look();
        }
    }

    async fn send(&mut self, frame: &Frame) {
        let mut out = BytesMut::new();
        if frame.encode(self.framing, &mut out) {
            self.sizes.whole = self.sizes.whole.max(out.len());
            self.write(&out).await;
        }
    }

    fn data(&mut self, most: usize) -> Bytes {
        let length = self.rng.usize(0..=most);
        Bytes::from_static(&ZEROS[..length])
    }

    fn text(&mut self) -> String {
        let length = self.rng.usize(0..64);
        (0..length).map(|_| self.rng.char(' '..='\u{20ff}')).collect()
    }

    fn code(&mut self) -> i32 {
        *self.rng.choice(&[0, 0, 0, 400, 404, 409, 500, -1, i32::MAX]).unwrap()
    }

    pub(crate) async fn step(&mut self) {
        // Mostly once, sometimes a flood.
        let times = if self.rng.u8(0..6) == 0 { self.rng.usize(1..400) } else { 1 };
        match self.rng.u8(0..100) {
            0..=3 => {
                let garbage: Vec<u8> =
                    (0..self.rng.usize(1..200)).map(|_| self.rng.u8(..)).collect();
                self.write(&garbage).await;
            }
            4..=8 => {
                let kind = *self.rng.choice(MessageKind::ALL).unwrap();
                let body: Vec<u8> = (0..self.rng.usize(0..60)).map(|_| self.rng.u8(..)).collect();
                self.send(&Frame::new(kind, Bytes::from(body))).await;
            }
            9..=32 => {
                for _ in 0..times {
                    let reply = self.reply();
                    self.send(&reply).await;
                }
            }
            33..=49 => {
                for _ in 0..times {
                    self.answer().await;
                }
            }
            50..=61 => {
                let service = *self.rng.choice(SERVICES).unwrap();
                for number in 0..times {
                    let call = CallRequest {
                        caller: self.text(),
                        address: service.to_owned(),
                        request_id: if self.rng.bool() { number.to_string() } else { self.text() },
                        data: self.data(8 << 10),
                        no_reply: self.rng.u8(0..4) == 0,
                        timeout_ms: self.rng.u32(0..100),
                        headers: self.headers(),
                        reply_credit: self.rng.u64(0..3) * self.rng.u64(0..5000),
                        more: self.rng.u8(0..4) == 0,
                        ..Default::default()
                    };
                    self.send(&call.into_frame()).await;
                }
            }
            62..=72 => {
                for _ in 0..times {
                    let topic = (*self.rng.choice(TOPICS).unwrap()).to_owned();
                    let missed = if self.rng.bool() { self.rng.u64(..) } else { 0 };
                    let (caller, data) = (self.text(), self.data(8 << 10));
                    let event =
                        BroadcastRequest { topic, data, caller, missed, ..Default::default() };
                    self.send(&event.into_frame()).await;
                }
            }
            73..=75 => {
                for _ in 0..times {
                    self.send(&Ping {}.to_frame()).await;
                }
            }
            76 => self.send(&Hello::default().to_frame()).await,
            77 => {
                for number in 0..times {
                    let request_id = if self.rng.bool() { number.to_string() } else { self.text() };
                    self.send(&CancelCall { request_id }.to_frame()).await;
                }
            }
            78..=79 => {
                for number in 0..times {
                    let steering = self.steering(number);
                    self.send(&steering).await;
                }
            }
            80 => {
                let (retry_after_ms, last) = (self.rng.u32(..), self.rng.bool());
                let farewell = GoAway { reason: self.text(), retry_after_ms, last };
                self.send(&farewell.to_frame()).await;
            }
            81 => {
                let service_id = (*self.rng.choice(SERVICES).unwrap()).to_owned();
                let topic = (*self.rng.choice(TOPICS).unwrap()).to_owned();
                let lost = match self.rng.bool() {
                    true => NameLost { service_id, ..NameLost::default() },
                    false => NameLost { topic, message: self.text(), ..NameLost::default() },
                };
                self.send(&lost.to_frame()).await;
            }
            82..=83 => self.large().await,
            84..=85 => self.reads = !self.reads,
            86..=89 => self.hang_up(),
            90..=93 => {
                // In the middle of a frame.
                let reply = self.reply();
                let mut out = BytesMut::new();
                if reply.encode(self.framing, &mut out) {
                    let half = self.rng.usize(0..out.len());
                    self.try_write(&out[..half]);
                }
                self.hang_up();
            }
            94..=95 => self.listener = None,
            _ => {
                if self.listener.is_none() {
                    self.listener = self.network.listen().ok();
                }
            }
        }
    }

    fn headers(&mut self) -> Vec<Header> {
        let count = self.rng.usize(0..3);
        (0..count).map(|_| Header { name: self.text(), value: self.data(100) }).collect()
    }

    /// Credit or data, for a call in either direction.
    fn steering(&mut self, number: usize) -> Frame {
        let known = self.rng.choice(&self.calls).cloned().filter(|_| self.rng.bool());
        let request_id = known.unwrap_or_else(|| (number % 4).to_string());
        match self.rng.bool() {
            true => {
                let bytes = if self.rng.u8(0..8) == 0 { u64::MAX } else { self.rng.u64(0..5000) };
                StreamCredit { request_id, bytes, for_request: self.rng.bool() }.to_frame()
            }
            false => {
                let (data, end) = (self.data(8 << 10), self.rng.u8(0..8) == 0);
                CallData { request_id, data, end }.into_frame()
            }
        }
    }

    fn reply(&mut self) -> Frame {
        let known = self.rng.choice(&self.calls).cloned().filter(|_| self.rng.u8(0..8) > 0);
        let is_partial = self.rng.u8(0..4) > 0;
        let reply = CallReply {
            request_id: known.unwrap_or_else(|| self.text()),
            code: if is_partial { 0 } else { self.code() },
            reply_type: if is_partial { 1 } else { self.rng.i32(-1..3) },
            reason: self.rng.i32(-1..14),
            data: self.data(8 << 10),
            headers: self.headers(),
        };
        reply.into_frame()
    }

    /// Sends an answer: usually to the oldest request, sometimes to another one, or without any request.
    async fn answer(&mut self) {
        let kind = match self.rng.u8(0..20) {
            0 => *self
                .rng
                .choice(&[MessageKind::RegisterRequest, MessageKind::UnsubscribeRequest])
                .unwrap(),
            1 if !self.asked.is_empty() => {
                self.asked.swap_remove(self.rng.usize(..self.asked.len()))
            }
            _ if !self.asked.is_empty() => self.asked.remove(0),
            _ => return,
        };
        let (code, message) = (self.code(), self.text());
        let frame = match kind {
            MessageKind::RegisterRequest => RegisterReply { code, message }.to_frame(),
            MessageKind::UnregisterRequest => UnregisterReply { code }.to_frame(),
            MessageKind::SubscribeRequest => SubscribeReply { code, message }.to_frame(),
            MessageKind::UnsubscribeRequest => UnsubscribeReply { code }.to_frame(),
            _ => BroadcastReply { code, message, ..Default::default() }.to_frame(),
        };
        self.send(&frame).await;
    }

    /// Begins a frame of any announced length, or continues one. A small frame may be finished.
    async fn large(&mut self) {
        if self.trickle == 0 {
            let length = if self.rng.bool() { LARGE } else { LARGEST_FRAME };
            let length = self.rng.usize(1 << 10..length);
            let reply = CallReply { request_id: "x".into(), ..CallReply::default() }.into_frame();
            let mut out = BytesMut::new();
            assert!(reply.encode(self.framing, &mut out));
            // The length is the last field of the header in either framing.
            let at = if self.framing == Framing::Classic { 4 } else { 0 };
            out[at..at + 4].copy_from_slice(&(length as u32).to_be_bytes());
            self.trickle = length.saturating_sub(out.len());
            self.write(&out).await;
            self.begun = out.len();
        }
        let mut now = self.rng.usize(0..LARGE).min(self.trickle);
        self.trickle -= now;
        self.begun += now;
        self.sizes.unfinished = self.sizes.unfinished.max(self.begun);
        while now > 0 && self.stream.is_some() {
            let part = now.min(ZEROS.len());
            self.write(&ZEROS[..part]).await;
            now -= part;
        }
    }
}
