//! The program that uses the hostile router.

use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use gsb_client::{Bus, Call, Error, Failure, Framing, RequestStream};
use gsb_net::memory::Network;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

use crate::all_end;

pub(crate) const SERVICES: &[&str] =
    &["s/echo", "s/slow", "s/stream", "s/push", "s/more", "s/upload"];
pub(crate) const TOPICS: &[&str] = &["t/a", "t/*", "t/**", "**"];

/// Limits of the client, in bytes.
pub(crate) const OUTBOX: usize = 64 << 10;
pub(crate) const BUFFER: usize = 16 << 10;
/// Calls that a service handles at a time.
pub(crate) const MAX_RUNNING: usize = 4;
/// Bytes of calls that are handled at a time.
pub(crate) const MAX_RUNNING_BYTES: usize = 1 << 20;
/// Tasks of the program at a time.
pub(crate) const MAX_TASKS: usize = 60;

const CALL_TIMEOUT: Duration = Duration::from_secs(11);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
const WAIT_FOR_ROUTER: Duration = Duration::from_secs(2);

pub(crate) struct User {
    bus: Bus,
    /// Tasks that end by themselves.
    requests: JoinSet<()>,
    /// Services and subscriptions, which end with the bus.
    lasting: JoinSet<()>,
    given_up: Vec<AbortHandle>,
    /// How many requests were made.
    pub(crate) begun: u64,
}

/// Checks that an outcome can be displayed.
fn show<T>(result: Result<T, Error>) -> Option<T> {
    result.map_err(|error| assert!(!error.to_string().is_empty())).ok()
}

/// Waits for a future that must end within `time`.
async fn ends<T>(
    what: &str,
    time: Duration,
    future: impl Future<Output = Result<T, Error>>,
) -> Option<T> {
    let ended = tokio::time::timeout(time + Duration::from_millis(10), future).await;
    show(ended.unwrap_or_else(|_| panic!("{what} has not ended within {time:?}")))
}

impl User {
    pub(crate) fn new(network: Network, framing: Framing) -> Self {
        let builder = Bus::builder()
            .network(network)
            .framing(framing)
            .connect_timeout(Duration::from_secs(3))
            .request_timeout(REQUEST_TIMEOUT)
            .ping_timeout(Duration::from_secs(7))
            .call_timeout(CALL_TIMEOUT)
            .wait_for_router(WAIT_FOR_ROUTER)
            .outbox_limit(OUTBOX)
            .buffer_limit(BUFFER)
            .stream_window(BUFFER)
            .max_running_bytes(MAX_RUNNING_BYTES)
            .max_running(MAX_RUNNING);
        let bus = builder.connect_lazy("unix:/router").unwrap();
        let (requests, lasting) = (JoinSet::new(), JoinSet::new());
        User { bus, requests, lasting, given_up: Vec::new(), begun: 0 }
    }

    pub(crate) async fn step(&mut self, rng: &mut Rng) {
        while self.requests.try_join_next().is_some() {}
        while self.lasting.try_join_next().is_some() {}
        let step = rng.u8(0..100);
        if step < 80 && self.requests.len() + self.lasting.len() >= MAX_TASKS {
            return;
        }
        let bus = self.bus.clone();
        let data = Bytes::from(vec![0; rng.usize(0..=8 << 10)]);
        let address = format!("far/{}", rng.u8(0..4));
        let service = *rng.choice(SERVICES).unwrap();
        let topic = *rng.choice(TOPICS).unwrap();
        let delay = Duration::from_millis(rng.u64(0..20));
        match step {
            0..=24 => self.begin(async move {
                drop(ends("a call", CALL_TIMEOUT, bus.call(&address, data)).await);
            }),
            25..=39 => self.begin(async move {
                let Some(mut replies) =
                    ends("a stream", CALL_TIMEOUT, bus.stream(&address, data)).await
                else {
                    return;
                };
                let next = async { Ok(replies.next().await) };
                let mut next = ends("a reply", CALL_TIMEOUT, next).await.flatten();
                while let Some(reply) = next {
                    show(reply);
                    // Slower than some routers.
                    sleep(delay).await;
                    let reply = async { Ok(replies.next().await) };
                    next = ends("a reply", CALL_TIMEOUT, reply).await.flatten();
                }
            }),
            40..=42 => self.begin(async move {
                let body = stream::iter(vec![data; 20]).then(move |part| async move {
                    sleep(delay).await;
                    part
                });
                let endpoint = bus.endpoint(address);
                drop(ends("an upload", CALL_TIMEOUT, endpoint.upload("", body)).await);
            }),
            43..=46 => self.begin(async move {
                ends("a push", CALL_TIMEOUT, bus.push(&address, data)).await;
            }),
            47..=56 => self.begin(async move {
                let time = REQUEST_TIMEOUT * 2;
                ends("a broadcast", time, bus.broadcast("t/a", data)).await;
            }),
            57..=68 => self.keep(async move {
                let registered =
                    ends("a registration", REQUEST_TIMEOUT, register(&bus, service)).await;
                if let Some(registered) = registered {
                    sleep(delay * 100).await;
                    ends("giving back a name", REQUEST_TIMEOUT, registered.unregister()).await;
                }
            }),
            69..=79 => self.keep(async move {
                let subscribed = bus.subscribe(topic);
                let Some(mut events) = ends("a subscription", REQUEST_TIMEOUT, subscribed).await
                else {
                    return;
                };
                while let Some(event) = events.next().await {
                    show(event);
                    sleep(delay).await;
                }
            }),
            80..=81 => self.begin(async move {
                ends("a flush", REQUEST_TIMEOUT, bus.flush()).await;
            }),
            82..=89 => {
                if let Some(at) = rng.usize(..).checked_rem(self.given_up.len()) {
                    self.given_up.swap_remove(at).abort();
                }
            }
            90..=94 => drop(format!("{:?} {:?}", self.bus, self.bus.status())),
            _ => sleep(Duration::from_millis(rng.u64(0..4000))).await,
        }
    }

    fn begin(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.begun += 1;
        self.given_up.push(self.requests.spawn(task));
    }

    fn keep(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.begun += 1;
        self.given_up.push(self.lasting.spawn(task));
    }

    /// Ends the bus in one of the possible ways.
    pub(crate) async fn end(self, rng: &mut Rng) {
        let User { bus, requests, lasting, .. } = self;
        if rng.bool() {
            all_end("requests", requests).await;
            let timeout = Duration::from_secs(5);
            ends("the shutdown", timeout, bus.shutdown(timeout)).await;
        } else {
            let closed = bus.clone().close();
            let closed = async {
                closed.await;
                Ok(())
            };
            ends("closing", REQUEST_TIMEOUT, closed).await;
            all_end("requests", requests).await;
        }
        drop(bus);
        all_end("services and subscriptions", lasting).await;
    }
}

async fn register(bus: &Bus, name: &'static str) -> Result<gsb_client::Registration, Error> {
    let echo = |call: Call| async move { Ok::<_, Failure>(call.data) };
    let slow = |call: Call| async move {
        sleep(Duration::from_millis(200)).await;
        Err::<Bytes, _>(Failure::new(call.caller))
    };
    match name {
        "s/slow" => bus.register(name, slow).await,
        "s/stream" => {
            bus.register_stream(name, |call: Call| {
                stream::repeat(Ok::<_, Failure>(call.data)).take(5)
            })
            .await
        }
        "s/upload" => {
            let count = |_: Call, body: RequestStream| async move {
                let parts: Vec<Bytes> = body.try_collect().await?;
                Ok(parts.len().to_string())
            };
            bus.register_upload(name, count).await
        }
        "s/push" => bus.register_push(name, |_: Call| async {}).await,
        _ => bus.register(name, echo).await,
    }
}
