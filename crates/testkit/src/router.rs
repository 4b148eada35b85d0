//! A router within the process of the test.

use std::sync::Arc;

use gsb_proto::Address;
use gsb_router::{Router, RouterConfig, RouterStatus, ShutdownHandle};
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// A router with its own Unix socket, and a free TCP port.
#[derive(Debug)]
pub struct TestRouter {
    /// Its Unix socket.
    pub unix: Address,
    /// Its TCP address.
    pub tcp: Address,
    /// Its status.
    pub status: RouterStatus,
    handle: ShutdownHandle,
    running: JoinHandle<()>,
    _place: RouterPlace,
}

/// A Unix socket in its own temporary directory, for one router after the other.
#[derive(Debug, Clone)]
pub struct RouterPlace {
    /// The socket.
    pub unix: Address,
    _directory: Arc<TempDir>,
}

impl RouterPlace {
    /// A new socket, without a listener.
    pub fn empty() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let unix = Address::Unix(directory.path().join("gsb.sock"));
        RouterPlace { unix, _directory: Arc::new(directory) }
    }

    /// Starts a router on this socket and a free TCP port, with the default configuration.
    pub async fn start(&self) -> TestRouter {
        TestRouter::at(self.clone(), RouterConfig::default()).await
    }
}

impl TestRouter {
    /// Starts a router with the default configuration.
    pub async fn start() -> Self {
        TestRouter::with(RouterConfig::default()).await
    }

    /// Starts a router with this configuration, except for `listen`.
    pub async fn with(config: RouterConfig) -> Self {
        TestRouter::at(RouterPlace::empty(), config).await
    }

    async fn at(place: RouterPlace, config: RouterConfig) -> Self {
        let tcp = Address::Tcp { host: "127.0.0.1".into(), port: 0 };
        let config = RouterConfig { listen: vec![place.unix.clone(), tcp], ..config };
        let router = Router::bind(config).await.expect("a router");
        let [unix, tcp] = router.local_addresses() else {
            panic!("not two addresses");
        };
        TestRouter {
            unix: unix.clone(),
            tcp: tcp.clone(),
            status: router.status(),
            handle: router.shutdown_handle(),
            running: tokio::spawn(router.run()),
            _place: place,
        }
    }

    /// Stops it and waits for its end.
    pub async fn stop(self) {
        self.handle.shutdown();
        self.running.await.expect("the router does not panic");
    }

    /// Ends it without a shutdown, so that it sends nothing more, and waits for its end.
    pub async fn kill(self) {
        self.running.abort();
        let _ = self.running.await;
    }
}
