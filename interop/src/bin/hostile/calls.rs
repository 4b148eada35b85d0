//! Well-behaved peers: a service that answers at once, and a caller that makes one call after the other.

use std::io;
use std::thread;
use std::time::Duration;

use tokio::runtime;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::figures::{Figures, Value, median};
use crate::message::{Incoming, Outgoing};
use crate::peer::Peer;
use crate::server::Server;

/// The pause between two calls of a caller.
const PAUSE: Duration = Duration::from_millis(2);

/// How long a stopped caller waits for its open call.
const GRACE_TIME: Duration = Duration::from_secs(1);

/// The outcome of the calls of a caller.
#[derive(Debug, Default)]
pub struct Calls {
    /// Calls that the service answered.
    pub answered: u64,
    /// Calls that failed, including those that ended with the connection.
    pub failed: u64,
    /// The time that each call took, in the order of their ends.
    pub waits: Vec<Duration>,
    /// How long the call that was open at the end had been open.
    pub open: Option<Duration>,
}

/// A caller on its own thread, so that the case delays it as little as possible.
#[derive(Debug)]
pub struct Caller {
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<Calls>,
}

impl Caller {
    /// Starts a caller with its own service, which has another connection.
    pub async fn beside(server: &Server) -> io::Result<Caller> {
        let service = Peer::connect(server).await?;
        let echo = echo(service, "/probe").await?;
        Caller::start(server, "/probe", Some(echo)).await
    }

    /// Starts a caller of a service of the case.
    pub async fn of(server: &Server, name: &'static str) -> io::Result<Caller> {
        Caller::start(server, name, None).await
    }

    async fn start(
        server: &Server,
        name: &'static str,
        service: Option<AbortOnDropHandle<io::Result<()>>>,
    ) -> io::Result<Caller> {
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let (address, dialect) = (server.address().clone(), server.dialect);
        thread::Builder::new().spawn(move || {
            let Ok(runtime) = runtime::Builder::new_current_thread().enable_all().build() else {
                return;
            };
            let calls = runtime.block_on(async {
                let peer = Peer::connect_to(&address, dialect).await?;
                Ok::<_, io::Error>(call_until(peer, name, stopped).await)
            });
            drop(service);
            let _ = end.send(calls.unwrap_or_default());
        })?;
        Ok(Caller { stop, ended })
    }

    /// Stops calling; returns the outcome of the calls.
    pub async fn stop(self) -> Calls {
        let _ = self.stop.send(());
        self.ended.await.unwrap_or_default()
    }
}

impl Calls {
    /// Records the end of a call.
    pub fn add(&mut self, is_answered: bool, wait: Duration) {
        match is_answered {
            true => self.answered += 1,
            false => self.failed += 1,
        }
        self.waits.push(wait);
    }

    /// The longest wait, including that of the open call.
    pub fn worst_wait(&self) -> Option<Duration> {
        self.waits.iter().copied().chain(self.open).max()
    }

    /// The median wait of the calls that ended.
    pub fn median(&self) -> Value {
        median(self.waits.clone())
    }

    /// The longest wait, as a figure.
    pub fn worst(&self) -> Value {
        let ended = self.waits.iter().max().copied();
        match self.open {
            Some(open) if Some(open) > ended => Value::MoreThan(open),
            _ => ended.map_or(Value::None, Value::Time),
        }
    }

    /// The number of calls.
    pub fn made(&self) -> u64 {
        self.answered + self.failed + u64::from(self.open.is_some())
    }

    /// How many of the calls were answered.
    pub fn succeeded(&self) -> Value {
        Value::OutOf(self.answered, self.made())
    }

    /// Adds the figures of the calls.
    pub fn figures(&self, whose: &str, figures: &mut Figures) {
        figures.add(&format!("{whose}: answered"), self.succeeded());
        figures.add(&format!("{whose}: median wait"), self.median());
        figures.add(&format!("{whose}: worst wait"), self.worst());
    }
}

/// Registers a service that answers each call with the call's own data.
pub async fn echo(
    mut service: Peer,
    name: &'static str,
) -> io::Result<AbortOnDropHandle<io::Result<()>>> {
    service.request(Outgoing::Register { name }).await?;
    Ok(AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            if let Incoming::Call { reply_to, data } = service.reader.receive().await? {
                let reply = Outgoing::Reply { to: &reply_to, is_last: true, data: &data };
                service.writer.send(reply).await?;
            }
        }
    })))
}

async fn call_until(
    mut caller: Peer,
    name: &'static str,
    mut stopped: oneshot::Receiver<()>,
) -> Calls {
    let mut calls = Calls::default();
    for number in 0_u64.. {
        let start = Instant::now();
        let mut answer = Box::pin(call(&mut caller, name, number));
        let (ended, is_stopped) = tokio::select! {
            biased;
            ended = &mut answer => (Some(ended), false),
            _ = &mut stopped => (timeout(GRACE_TIME, &mut answer).await.ok(), true),
        };
        let wait = start.elapsed();
        match ended {
            None => calls.open = Some(wait),
            Some(Ok(is_answered)) => calls.add(is_answered, wait),
            // The connection has ended.
            Some(Err(_)) => {
                calls.add(false, wait);
                return calls;
            }
        }
        if is_stopped {
            return calls;
        }
        drop(answer);
        sleep(PAUSE).await;
    }
    calls
}

/// Makes a call; returns whether the service answered.
async fn call(caller: &mut Peer, service: &str, number: u64) -> io::Result<bool> {
    caller.writer.send(Outgoing::Call { service, id: number, data: b"probe" }).await?;
    loop {
        if let Incoming::Reply { id, code, .. } = caller.reader.receive().await?
            && id == number
        {
            return Ok(code == 0);
        }
    }
}
