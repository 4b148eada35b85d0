//! A router that a test plays itself.

use gsb_proto::Address;
use gsb_proto::messages::Hello;
use tokio::net::TcpListener;

use crate::peer::Peer;
use crate::timeout::within;

/// A listener that clients connect to as to a router. The test decides what it sends.
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

    /// Accepts the next client, with the packet framing, and sends nothing.
    pub async fn accept_silently(&self) -> Peer {
        let (stream, _) = within("a client", self.listener.accept()).await.expect("a client");
        Peer::over_tcp(stream)
    }

    /// Accepts the next client, with the packet framing, and exchanges Hellos with it.
    pub async fn accept(&self) -> Peer {
        self.accept_with(Hello::default()).await
    }

    /// Accepts the next client, with the packet framing, and exchanges Hellos with it. It sends `hello`, with the name
    /// `fake`.
    pub async fn accept_with(&self, hello: Hello) -> Peer {
        let mut peer = self.accept_silently().await;
        let Hello { .. } = peer.expect().await;
        peer.send(Hello { name: "fake".into(), ..hello }).await;
        peer
    }
}
