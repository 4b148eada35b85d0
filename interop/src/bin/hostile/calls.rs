//! Peers that behave: a service that answers at once, and a caller who calls one after the other.

use std::io;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::peer::{Heard, Peer, Say};
use crate::process::Server;
use crate::table::{Figures, Value};

/// Between two calls of one caller.
const PAUSE: Duration = Duration::from_millis(2);

/// How long a call that is open when the caller is stopped may still take.
const GRACE: Duration = Duration::from_secs(1);

/// What has become of a caller's calls.
#[derive(Debug, Default)]
pub struct Calls {
    /// Calls that the service answered.
    pub answered: u64,
    /// Calls that ended otherwise, or by the end of the connection.
    pub failed: u64,
    /// How long each call waited for its end, in order of time.
    pub waits: Vec<Duration>,
    /// The call that was still open at the end, and how long it had waited then.
    pub open: Option<Duration>,
}

/// A caller on a thread of its own, so that what the case does delays it as little as may be.
#[derive(Debug)]
pub struct Caller {
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<Calls>,
}

impl Caller {
    /// Calls a service that it has itself, by another connection.
    pub async fn beside(server: &Server) -> io::Result<Caller> {
        let service = Peer::connect(server).await?;
        let echo = echo(service, "/probe").await?;
        Caller::start(server, "/probe", Some(echo)).await
    }

    /// Calls a service of the case.
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
        let (address, dialect) = (server.address.clone(), server.dialect);
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

    /// Makes no more calls; what became of those it made.
    pub async fn stop(self) -> Calls {
        let _ = self.stop.send(());
        self.ended.await.unwrap_or_default()
    }
}

impl Calls {
    /// Notes how a call ended.
    pub fn add(&mut self, is_answered: bool, wait: Duration) {
        match is_answered {
            true => self.answered += 1,
            false => self.failed += 1,
        }
        self.waits.push(wait);
    }

    /// The median wait of the calls that ended.
    pub fn median_wait(&self) -> Option<Duration> {
        let mut waits = self.waits.clone();
        waits.sort_unstable();
        waits.get(waits.len() / 2).copied()
    }

    /// The longest wait, that of the call which was still open included.
    pub fn worst_wait(&self) -> Option<Duration> {
        self.waits.iter().copied().chain(self.open).max()
    }

    /// The usual wait.
    pub fn median(&self) -> Value {
        self.median_wait().map_or(Value::None, Value::Time)
    }

    /// The longest wait.
    pub fn worst(&self) -> Value {
        let ended = self.waits.iter().max().copied();
        match self.open {
            Some(open) if Some(open) > ended => Value::MoreThan(open),
            _ => ended.map_or(Value::None, Value::Time),
        }
    }

    /// How many calls were made.
    pub fn made(&self) -> u64 {
        self.answered + self.failed + u64::from(self.open.is_some())
    }

    /// How many of the calls the service answered.
    pub fn succeeded(&self) -> Value {
        Value::OutOf(self.answered, self.made())
    }

    /// What the calls of bystanders are judged by.
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
    service.ask(Say::Serve { name }).await?;
    Ok(AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            if let Heard::Call { id, data } = service.reader.hear().await? {
                service.writer.say(Say::Reply { to: &id, last: true, data }).await?;
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
            _ = &mut stopped => (timeout(GRACE, &mut answer).await.ok(), true),
        };
        let wait = start.elapsed();
        match ended {
            None => calls.open = Some(wait),
            Some(Ok(is_answered)) => calls.add(is_answered, wait),
            // The connection has ended, and nothing more comes of it.
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

/// Whether the service answered.
async fn call(caller: &mut Peer, to: &str, number: u64) -> io::Result<bool> {
    let number = format!("n{number}");
    caller.writer.say(Say::Call { to, id: &number, data: Bytes::from_static(b"probe") }).await?;
    loop {
        if let Heard::Reply { id, code, .. } = caller.reader.hear().await?
            && id == number
        {
            return Ok(code == 0);
        }
    }
}
