//! A router that runs as a task of a test.

use gsb_proto::Address;
use tokio::task::JoinSet;

use crate::config::RouterConfig;
use crate::error::BindError;
use crate::router::{Router, RouterStatus};
use crate::stopping::ShutdownHandle;

/// A [`Router`] that runs as a task of the current runtime; see [`Router::in_process`]. Dropping it closes
/// all connections at once; [`stop`](InProcessRouter::stop) lets open calls end first.
#[derive(Debug)]
#[must_use = "dropping it closes the router's connections"]
pub struct InProcessRouter {
    address: Address,
    status: RouterStatus,
    handle: ShutdownHandle,
    /// One task. Dropping the set aborts it.
    task: JoinSet<()>,
}

impl Router {
    /// Starts a router for a test, with the default configuration, on a free port of 127.0.0.1. All programs on
    /// this machine can connect to it.
    ///
    /// ```
    /// use gsb_client::Bus;
    /// use gsb_router::Router;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let router = Router::in_process().await?;
    /// let bus = Bus::connect(router.address()).await?;
    /// // ...
    /// # drop(bus);
    /// router.stop().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`BindError::Io`] if the system refuses to listen.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O and time enabled.
    pub async fn in_process() -> Result<InProcessRouter, BindError> {
        let listen = vec![Address::Tcp { host: "127.0.0.1".to_owned(), port: 0 }];
        let router = Router::bind(RouterConfig { listen, ..RouterConfig::default() }).await?;
        let (address, status) = (router.local_addresses()[0].clone(), router.status());
        let handle = router.shutdown_handle();
        let mut task = JoinSet::new();
        task.spawn(router.run());
        Ok(InProcessRouter { address, status, handle, task })
    }
}

impl InProcessRouter {
    /// The address for clients.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The router's counters and current usage.
    pub fn status(&self) -> &RouterStatus {
        &self.status
    }

    /// Stops the router as [`Router::run`] says, and waits until it has stopped.
    pub async fn stop(mut self) {
        self.handle.shutdown();
        // A panic of the task was printed where it happened.
        let _ = self.task.join_next().await;
    }
}
