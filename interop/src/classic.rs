//! A peer with the classic framing of `ya-sb-proto` 0.1.

use bytes_classic::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio_util_classic::codec::{Decoder as _, Encoder as _};
use ya_sb_proto_classic::codec::{GsbMessage, GsbMessageCodec};
use ya_sb_proto_classic::{
    CallReply, CallReplyCode, CallReplyType, CallRequest, RegisterReplyCode, RegisterRequest,
};

use crate::within;
use crate::witness::{locked_version, took_part};

trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// A connection that uses the codec of `ya-sb-proto` 0.1.
pub struct ClassicPeer {
    socket: Box<dyn Socket>,
    buffer: BytesMut,
    codec: GsbMessageCodec,
}

impl ClassicPeer {
    /// Connects to `unix:/path` or `tcp://address:port`.
    pub async fn connect(url: &str) -> ClassicPeer {
        let socket = match (url.strip_prefix("unix:"), url.strip_prefix("tcp://")) {
            (Some(path), _) => UnixStream::connect(path).await.map(boxed),
            (_, Some(address)) => TcpStream::connect(address).await.map(boxed),
            _ => panic!("{url:?} is not an address of a router"),
        };
        ClassicPeer {
            socket: socket.unwrap_or_else(|error| panic!("no connection to {url}: {error}")),
            buffer: BytesMut::new(),
            codec: GsbMessageCodec::default(),
        }
    }

    /// Sends a message.
    pub async fn send(&mut self, message: impl Into<GsbMessage>) {
        let mut bytes = BytesMut::new();
        self.codec
            .encode(message.into(), &mut bytes)
            .expect("ya-sb-proto 0.1 encodes its own messages");
        let written = within("room in the socket", self.socket.write_all(&bytes)).await;
        written.expect("the router reads from a classic peer");
    }

    /// The next message.
    pub async fn receive(&mut self) -> GsbMessage {
        loop {
            match self.codec.decode(&mut self.buffer) {
                Ok(Some(message)) => return message,
                Ok(None) => {}
                Err(error) => panic!("ya-sb-proto 0.1 cannot decode a message: {error}"),
            }
            let mut chunk = [0; 4096];
            let read = within("a message to a classic peer", self.socket.read(&mut chunk)).await;
            match read {
                Ok(length @ 1..) => self.buffer.extend_from_slice(&chunk[..length]),
                end => panic!("instead of a message to a classic peer came {end:?}"),
            }
        }
    }

    /// Registers a service.
    pub async fn register(&mut self, service_id: &str) {
        let service_id = service_id.to_owned();
        self.send(RegisterRequest { service_id }).await;
        match self.receive().await {
            GsbMessage::RegisterReply(reply) => {
                assert_eq!(reply.code, RegisterReplyCode::RegisteredOk as i32, "{reply:?}");
            }
            other => panic!("instead of a RegisterReply came {other:?}"),
        }
    }

    /// Sends a call, and does not wait for the reply.
    pub async fn call(&mut self, address: &str, request_id: &str, data: impl Into<Vec<u8>>) {
        self.send(CallRequest {
            caller: "classic-caller".to_owned(),
            address: address.to_owned(),
            request_id: request_id.to_owned(),
            data: data.into(),
        })
        .await;
    }

    /// The next message, which must be a call.
    pub async fn receive_call(&mut self) -> CallRequest {
        match self.receive().await {
            GsbMessage::CallRequest(call) => call,
            other => panic!("instead of a call came {other:?}"),
        }
    }

    /// Answers a call successfully.
    pub async fn reply(&mut self, request_id: &str, kind: CallReplyType, data: impl Into<Vec<u8>>) {
        self.send(CallReply {
            request_id: request_id.to_owned(),
            code: CallReplyCode::CallReplyOk as i32,
            reply_type: kind as i32,
            data: data.into(),
        })
        .await;
    }

    /// The next message, which must be a reply to the call `request_id`.
    pub async fn receive_reply(&mut self, request_id: &str) -> CallReply {
        match self.receive().await {
            GsbMessage::CallReply(reply) if reply.request_id == request_id => reply,
            other => panic!("instead of a reply to {request_id:?} came {other:?}"),
        }
    }

    /// Prints that this codec took part in a test.
    pub fn took_part(&self, roles: &str, with: &str) {
        let version = locked_version("ya-sb-proto", "0.1.");
        took_part("ya-sb-proto", version, roles, with);
    }
}

fn boxed(socket: impl Socket + 'static) -> Box<dyn Socket> {
    Box::new(socket)
}
