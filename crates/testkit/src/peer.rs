//! A peer that says exactly what a test wants it to say.

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
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio_util::codec::Framed;

use crate::{TestRouter, within};

/// Time between attempts to connect to a socket whose queue is full.
const RETRY_TIME: Duration = Duration::from_millis(10);

trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// A raw connection to a router.
pub struct Peer {
    frames: Framed<Box<dyn Socket>, FrameCodec>,
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Peer")
    }
}

/// Something that clients take for a router, and that does what a test wants.
#[derive(Debug)]
pub struct FakeRouter {
    /// Where it listens.
    pub address: Address,
    listener: TcpListener,
}

impl FakeRouter {
    /// Listens on a free TCP port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let local = listener.local_addr().expect("an address");
        let address = Address::Tcp { host: local.ip().to_string(), port: local.port() };
        FakeRouter { address, listener }
    }

    /// Takes the next client, of the packet framing, and says nothing yet.
    pub async fn accept_silently(&self) -> Peer {
        let (stream, _) = within("a client", self.listener.accept()).await.expect("a client");
        let codec = FrameCodec::new(Framing::Packet, LARGEST_FRAME);
        Peer { frames: Framed::new(Box::new(stream), codec) }
    }

    /// Takes the next client, of the packet framing, and exchanges Hellos with it.
    pub async fn accept(&self) -> Peer {
        self.accept_with(Hello::default()).await
    }

    /// Takes the next client, of the packet framing, and exchanges Hellos with it: this one, with a name.
    pub async fn accept_with(&self, hello: Hello) -> Peer {
        let mut peer = self.accept_silently().await;
        let Hello { .. } = peer.expect().await;
        peer.send(Hello { name: "fake".into(), ..hello }).await;
        peer
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
    /// Connects and says nothing yet.
    pub async fn silent(address: &Address, framing: Framing) -> Self {
        let socket: Box<dyn Socket> = match address {
            Address::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await;
                Box::new(stream.expect("a connection"))
            }
            Address::Unix(path) => loop {
                match UnixStream::connect(path).await {
                    // The queue of the socket is full.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        tokio::time::sleep(RETRY_TIME).await;
                    }
                    connected => break Box::new(connected.expect("a connection")),
                }
            },
        };
        let codec = FrameCodec::new(framing, LARGEST_FRAME);
        Peer { frames: Framed::new(socket, codec) }
    }

    /// Connects and exchanges a first message, so that the router knows the framing.
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

    /// Sends a message whose end the router may cut off.
    pub async fn try_send(&mut self, message: impl Message) -> Result<(), CodecError> {
        self.frames.send(message.to_frame()).await
    }

    /// Sends a frame.
    pub async fn send_frame(&mut self, frame: Frame) {
        within("room to send", self.frames.send(frame)).await.expect("the router takes the frame");
    }

    /// Sends bytes as they are. The router may have closed the connection, which is no failure here.
    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = within("room to send", self.frames.get_mut().write_all(bytes)).await;
    }

    /// Reads bytes as they are, whole frames or not, before anything else is read.
    pub async fn read_bytes(&mut self, count: usize) -> Vec<u8> {
        assert!(self.frames.read_buffer().is_empty(), "nothing was read yet");
        let mut bytes = vec![0; count];
        within("bytes", self.frames.get_mut().read_exact(&mut bytes)).await.expect("bytes");
        bytes
    }

    /// Says that nothing more comes, without closing the other direction.
    pub async fn hang_up(&mut self) {
        let _ = self.frames.get_mut().shutdown().await;
    }

    /// The next frame; `None` at the end of the connection.
    pub async fn next(&mut self) -> Option<Frame> {
        match within("a frame", self.frames.next()).await {
            None => None,
            Some(Ok(frame)) => Some(frame),
            // A router that closes while bytes are on their way to it resets the connection.
            Some(Err(CodecError::Io(_))) => None,
            Some(Err(error)) => panic!("the router broke the protocol: {error}"),
        }
    }

    /// The next frame, if one comes within `time`.
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
                panic!("{place}: the end instead of a {}", M::KIND.name());
            };
            assert_eq!(frame.kind, M::KIND, "{place}");
            frame.decode().expect("a message that decodes")
        }
    }

    /// The router closes the connection, and sends nothing before but Hello, Ping and Pong.
    pub async fn expect_close(&mut self) {
        while let Some(frame) = self.next().await {
            let idle = [MessageKind::Hello, MessageKind::Ping, MessageKind::Pong];
            assert!(idle.contains(&frame.kind), "a {} instead of the end", frame.kind.name());
        }
    }

    /// Nothing is on its way to this peer: what it asks now is answered next.
    pub async fn expect_nothing(&mut self) {
        self.send(Ping {}).await;
        let Pong {} = self.expect().await;
    }

    /// For the router's side: nothing more is on its way from the client.
    pub async fn expect_nothing_behind(&mut self) {
        // The client answers a Ping from the task that reads, and a handler that still had something
        // to send gets its chance before the second one.
        for _ in 0..2 {
            self.expect_nothing().await;
        }
    }

    /// Registers a service; the code of the reply.
    pub async fn register(&mut self, service_id: &str) -> i32 {
        self.send(RegisterRequest { service_id: service_id.into() }).await;
        self.expect::<RegisterReply>().await.code
    }

    /// Subscribes to a topic; the code of the reply.
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
        })
        .await;
    }

    /// Sends a last reply.
    pub async fn reply(&mut self, request_id: &str, data: &str) {
        let request_id = request_id.into();
        let data = data.to_owned().into();
        self.send(CallReply { request_id, data, ..Default::default() }).await;
    }

    /// Sends a reply of a stream.
    pub async fn part(&mut self, request_id: &str, data: &str) {
        let request_id = request_id.into();
        let data = data.to_owned().into();
        self.send(CallReply { request_id, data, reply_type: 1, ..Default::default() }).await;
    }

    /// Sends an event; its reply is not awaited.
    pub async fn broadcast(&mut self, topic: &str, data: &str) {
        let data = data.to_owned().into();
        self.send(BroadcastRequest {
            caller: "/test".into(),
            topic: topic.into(),
            data,
            missed: 0,
        })
        .await;
    }
}
