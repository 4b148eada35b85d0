//! A router in the process of the test.

use std::sync::Arc;

use gsb_proto::Address;
use gsb_router::{Router, RouterConfig, RouterStatus, ShutdownHandle};
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// A router on a Unix socket of its own and on a free TCP port.
#[derive(Debug)]
pub struct TestRouter {
    /// Where it listens on a Unix socket.
    pub unix: Address,
    /// Where it listens on TCP.
    pub tcp: Address,
    /// What it does.
    pub status: RouterStatus,
    handle: ShutdownHandle,
    running: JoinHandle<()>,
    _place: RouterPlace,
}

/// A Unix socket of their own for routers that run one after the other.
#[derive(Debug, Clone)]
pub struct RouterPlace {
    /// Where clients connect.
    pub unix: Address,
    _directory: Arc<TempDir>,
}

impl RouterPlace {
    /// A place where nobody listens yet.
    pub fn empty() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let unix = Address::Unix(directory.path().join("gsb.sock"));
        RouterPlace { unix, _directory: Arc::new(directory) }
    }

    /// Starts a router here, with the defaults.
    pub async fn start(&self) -> TestRouter {
        TestRouter::at(self.clone(), RouterConfig::default()).await
    }
}

impl TestRouter {
    /// Starts a router with the defaults.
    pub async fn start() -> Self {
        TestRouter::with(RouterConfig::default()).await
    }

    /// Starts a router; `config.listen` is replaced.
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
        self.running.await.expect("the router has panicked");
    }

    /// Ends it without letting it say anything more, and waits for its end.
    pub async fn kill(self) {
        self.running.abort();
        let _ = self.running.await;
    }
}
