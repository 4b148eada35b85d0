//! A router in the process of the test.

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
    _directory: TempDir,
}

impl TestRouter {
    /// Starts a router with the defaults.
    pub async fn start() -> Self {
        TestRouter::with(RouterConfig::default()).await
    }

    /// Starts a router; `config.listen` is replaced.
    pub async fn with(config: RouterConfig) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let unix = Address::Unix(directory.path().join("gsb.sock"));
        let tcp = Address::Tcp { host: "127.0.0.1".into(), port: 0 };
        let config = RouterConfig { listen: vec![unix, tcp], ..config };
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
            _directory: directory,
        }
    }

    /// Stops it and waits for its end.
    pub async fn stop(self) {
        self.handle.shutdown();
        self.running.await.expect("the router has panicked");
    }
}
