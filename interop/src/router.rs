//! The routers that the tests connect peers to.

use gsb_router::{Router, RouterConfig, RouterStatus, ShutdownHandle};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::peer::Peer;
use crate::within;

/// A directory for one router's socket, and the socket's URL.
pub fn socket_directory() -> (TempDir, String) {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let url = format!("unix:{}", directory.path().join("gsb.sock").display());
    (directory, url)
}

/// `ya-sb-router` in its own process.
pub struct YaRouter {
    /// Where it listens.
    pub url: String,
    /// The process.
    pub process: Peer,
    _directory: TempDir,
}

impl YaRouter {
    /// Starts the program `ya-router` of this package.
    pub async fn start(program: &str) -> YaRouter {
        let (directory, url) = socket_directory();
        YaRouter { process: Peer::start(program, &[], &url).await, url, _directory: directory }
    }
}

/// `gsb-router` as a library, in the process of the test. Dropping this ends it.
pub struct OurRouter {
    /// Where it listens.
    pub url: String,
    /// Its status.
    pub status: RouterStatus,
    shutdown: ShutdownHandle,
    running: JoinHandle<()>,
    directory: Option<TempDir>,
}

impl OurRouter {
    /// Starts it on a Unix socket.
    pub async fn start() -> OurRouter {
        let (directory, url) = socket_directory();
        OurRouter::listen(&url, Some(directory)).await
    }

    /// Starts it on a free TCP port.
    pub async fn start_on_tcp() -> OurRouter {
        OurRouter::listen("tcp://127.0.0.1:0", None).await
    }

    /// Shuts it down, and starts another one at the same address.
    pub async fn restart(mut self) -> OurRouter {
        self.shutdown.shutdown();
        let stopped = within("the end of gsb-router", &mut self.running).await;
        stopped.expect("gsb-router does not panic");
        let directory = self.directory.take();
        OurRouter::listen(&self.url, directory).await
    }

    async fn listen(url: &str, directory: Option<TempDir>) -> OurRouter {
        let config = RouterConfig {
            listen: vec![url.parse().expect("the address is valid")],
            ..RouterConfig::default()
        };
        let router = Router::bind(config)
            .await
            .unwrap_or_else(|error| panic!("gsb-router does not start: {error}"));
        OurRouter {
            url: router.local_addresses()[0].to_string(),
            status: router.status(),
            shutdown: router.shutdown_handle(),
            running: tokio::spawn(router.run()),
            directory,
        }
    }
}

impl Drop for OurRouter {
    fn drop(&mut self) {
        self.running.abort();
    }
}
