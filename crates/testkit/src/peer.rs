//! A raw peer, which sends exactly what a test asks for.

use std::fmt;
use std::io;
use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use gsb_proto::codec::{CodecError, FrameCodec};
use gsb_proto::framing::LARGEST_FRAME;
use gsb_proto::messages::{
    BroadcastRequest, CallReply, CallRequest, Hello, Message, Ping, Pong, RegisterReply,
    RegisterRequest, SubscribeReply, SubscribeRequest,
};
use gsb_proto::{Address, Frame, Framing, MessageKind};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio_util::codec::Framed;

use crate::router::TestRouter;
use crate::timeout::within;

/// Time between attempts to connect to a socket whose backlog is full.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);

trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// A raw connection to a router, or to a client of a [`FakeRouter`](crate::FakeRouter).
pub struct Peer {
    frames: Framed<Box<dyn Socket>, FrameCodec>,
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Peer")
    }
}

/// One peer of each framing on each kind of socket, in a fixed order.
pub async fn all_kinds_of_peers(router: &TestRouter) -> Vec<Peer> {
    let mut peers = Vec::new();
    for address in [&router.unix, &router.tcp] {
        for framing in [Framing::Packet, Framing::Classic] {
            peers.push(Peer::connect(address, framing).await);
        }
    }
    peers
}

impl Peer {
    /// A connection that was accepted, with the packet framing.
    pub(crate) fn over_tcp(stream: TcpStream) -> Self {
        let codec = FrameCodec::new(Framing::Packet, LARGEST_FRAME);
        Peer { frames: Framed::new(Box::new(stream), codec) }
    }

    /// Connects and sends nothing.
    pub async fn silent(address: &Address, framing: Framing) -> Self {
        let socket: Box<dyn Socket> = match address {
            Address::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await;
                Box::new(stream.expect("a connection"))
            }
            Address::Unix(path) => loop {
                match UnixStream::connect(path).await {
                    // The backlog of the socket is full.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        tokio::time::sleep(RETRY_INTERVAL).await;
                    }
                    connected => break Box::new(connected.expect("a connection")),
                }
            },
        };
        let codec = FrameCodec::new(framing, LARGEST_FRAME);
        Peer { frames: Framed::new(socket, codec) }
    }

    /// Connects, and exchanges a Ping and a Pong so that the router knows the framing.
    pub async fn connect(address: &Address, framing: Framing) -> Self {
        let mut peer = Peer::silent(address, framing).await;
        peer.send(Ping {}).await;
        if framing == Framing::Packet {
            let hello: Hello = peer.expect().await;
            assert_eq!(hello.instance_id.len(), 16);
        }
        let Pong {} = peer.expect().await;
        peer
    }

    /// Sends a message.
    pub async fn send(&mut self, message: impl Message) {
        self.send_frame(message.to_frame()).await;
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The router has closed the connection.
    pub async fn try_send(&mut self, message: impl Message) -> Result<(), CodecError> {
        self.frames.send(message.to_frame()).await
    }

    /// Sends a frame.
    pub async fn send_frame(&mut self, frame: Frame) {
        within("room to send", self.frames.send(frame)).await.expect("the router takes the frame");
    }

    /// Sends raw bytes. A connection that the router has closed is not an error.
    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = within("room to send", self.frames.get_mut().write_all(bytes)).await;
    }

    /// Reads raw bytes. No frame may have been read before.
    pub async fn read_bytes(&mut self, count: usize) -> Vec<u8> {
        assert!(self.frames.read_buffer().is_empty(), "a frame was read before");
        let mut bytes = vec![0; count];
        within("bytes", self.frames.get_mut().read_exact(&mut bytes)).await.expect("bytes");
        bytes
    }

    /// Closes the direction to the router, and keeps the other one open.
    pub async fn hang_up(&mut self) {
        let _ = self.frames.get_mut().shutdown().await;
    }

    /// The next frame; `None` at the end of the connection.
    pub async fn next(&mut self) -> Option<Frame> {
        match within("a frame", self.frames.next()).await {
            None => None,
            Some(Ok(frame)) => Some(frame),
            // Closing with unread bytes resets the connection.
            Some(Err(CodecError::Io(_))) => None,
            Some(Err(error)) => panic!("the router broke the protocol: {error}"),
        }
    }

    /// The next frame, or `None` if no frame comes within `time`.
    pub async fn next_within(&mut self, time: Duration) -> Option<Frame> {
        let frame = tokio::time::timeout(time, self.frames.next()).await.ok()?;
        Some(frame.expect("not the end").expect("a frame"))
    }

    /// The next message, which must be an `M`.
    #[track_caller]
    pub fn expect<M: Message>(&mut self) -> impl Future<Output = M> {
        let place = std::panic::Location::caller();
        async move {
            let Some(frame) = self.next().await else {
                panic!("{place}: the connection ended instead of a {}", M::KIND.name());
            };
            assert_eq!(frame.kind, M::KIND, "{place}");
            frame.decode().expect("a message that decodes")
        }
    }

    /// Waits until the router closes the connection. Before that it may send Hello, Ping and Pong only.
    pub async fn expect_close(&mut self) {
        while let Some(frame) = self.next().await {
            let idle = [MessageKind::Hello, MessageKind::Ping, MessageKind::Pong];
            assert!(
                idle.contains(&frame.kind),
                "a {} instead of the end of the connection",
                frame.kind.name()
            );
        }
    }

    /// Checks that nothing is on its way to this peer: the answer to a Ping is the next message.
    pub async fn expect_nothing(&mut self) {
        self.send(Ping {}).await;
        let Pong {} = self.expect().await;
    }

    /// Checks, on the side of a fake router, that nothing more is on its way from the client.
    pub async fn expect_nothing_behind(&mut self) {
        // The task that reads answers a Ping. A handler with something to send runs before the second one.
        for _ in 0..2 {
            self.expect_nothing().await;
        }
    }

    /// Registers a service; returns the code of the reply.
    pub async fn register(&mut self, service_id: &str) -> i32 {
        self.send(RegisterRequest { service_id: service_id.into(), ..Default::default() }).await;
        self.expect::<RegisterReply>().await.code
    }

    /// Subscribes to a topic; returns the code of the reply.
    pub async fn subscribe(&mut self, topic: &str) -> i32 {
        self.send(SubscribeRequest { topic: topic.into() }).await;
        self.expect::<SubscribeReply>().await.code
    }

    /// Sends a call.
    pub async fn call(&mut self, address: &str, request_id: &str, data: &str) {
        self.send(CallRequest {
            caller: "/test".into(),
            address: address.into(),
            request_id: request_id.into(),
            data: data.to_owned().into(),
            no_reply: false,
            ..Default::default()
        })
        .await;
    }

    /// Sends the last reply to a call.
    pub async fn reply(&mut self, request_id: &str, data: &str) {
        let request_id = request_id.into();
        let data = data.to_owned().into();
        self.send(CallReply { request_id, data, ..Default::default() }).await;
    }

    /// Sends a reply that is not the last one.
    pub async fn part(&mut self, request_id: &str, data: &str) {
        let request_id = request_id.into();
        let data = data.to_owned().into();
        self.send(CallReply { request_id, data, reply_type: 1, ..Default::default() }).await;
    }

    /// Sends an event, and does not wait for the reply.
    pub async fn broadcast(&mut self, topic: &str, data: &str) {
        let data = data.to_owned().into();
        self.send(BroadcastRequest {
            caller: "/test".into(),
            topic: topic.into(),
            data,
            missed: 0,
            ..Default::default()
        })
        .await;
    }
}
