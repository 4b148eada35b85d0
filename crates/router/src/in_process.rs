//! A router in the process of a test.

use gsb_proto::Address;
use tokio::task::JoinSet;

use crate::config::RouterConfig;
use crate::error::BindError;
use crate::router::{Router, RouterStatus, ShutdownHandle};

/// A [`Router`] that runs as a task of the current runtime. Made by [`Router::in_process`]. Dropping it
/// closes all connections at once; [`stop`](InProcessRouter::stop) lets open calls end.
#[derive(Debug)]
#[must_use = "dropping it ends the router"]
pub struct InProcessRouter {
    address: Address,
    status: RouterStatus,
    handle: ShutdownHandle,
    /// One task, which ends with this.
    task: JoinSet<()>,
}

impl Router {
    /// Starts a router for a test, with the default configuration, on a free port of 127.0.0.1. Every program of
    /// the machine can connect to it.
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
    /// Where clients connect.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// A handle that tells what the router does.
    pub fn status(&self) -> &RouterStatus {
        &self.status
    }

    /// Stops the router and waits for its end; see [`Router::run`].
    pub async fn stop(mut self) {
        self.handle.shutdown();
        // A panic of the router was printed by its task.
        let _ = self.task.join_next().await;
    }
}
