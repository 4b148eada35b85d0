//! The cost of a typed call within a process, with our client and with `ya-service-bus`: `cargo bench`.
//!
//! Both make the same calls with the same message, in turns, on one thread and one runtime. Without `--bench`, as in a
//! test, each call is made once, and the figures have no meaning.

use std::fmt;
use std::time::{Duration, Instant};

use futures::future::join_all;
use gsb_client::Bus;
use serde::{Deserialize, Serialize};
use ya_service_bus::connection::ClientInfo;
use ya_service_bus::typed;

/// The number of turns of each.
const ROUNDS: u32 = 25;

/// The number of calls in a turn.
const CALLS: u32 = 64 * 250;

/// The goal for sequential calls of our client, as a multiple of the speed of `ya-service-bus`.
const TARGET: f64 = 5.0;

/// A message whose reply is the same message.
#[derive(Serialize, Deserialize)]
struct Ball {
    number: u64,
    text: String,
}

/// The same message, for a handler that waits for a task.
#[derive(Serialize, Deserialize)]
struct SlowBall(Ball);

impl Ball {
    fn new() -> Self {
        Ball { number: 17, text: "a few words".to_owned() }
    }
}

impl gsb_client::Message for Ball {
    const ID: &'static str = "Ball";
    type Item = Ball;
    type Error = String;
}

impl ya_service_bus::RpcMessage for Ball {
    const ID: &'static str = "Ball";
    type Item = Ball;
    type Error = String;
}

impl gsb_client::Message for SlowBall {
    const ID: &'static str = "SlowBall";
    type Item = Ball;
    type Error = String;
}

impl ya_service_bus::RpcMessage for SlowBall {
    const ID: &'static str = "SlowBall";
    type Item = Ball;
    type Error = String;
}

/// The times of both for the same calls.
struct Comparison {
    what: &'static str,
    ours: Vec<Duration>,
    theirs: Vec<Duration>,
}

impl Comparison {
    fn new(what: &'static str) -> Self {
        Comparison { what, ours: Vec::new(), theirs: Vec::new() }
    }

    /// Makes one turn of each. A turn returns the time of one call.
    async fn round(
        &mut self,
        ours: impl Future<Output = Duration>,
        theirs: impl Future<Output = Duration>,
    ) {
        self.ours.push(ours.await);
        self.theirs.push(theirs.await);
    }

    fn ratio(&self) -> f64 {
        median(&self.theirs).as_secs_f64() / median(&self.ours).as_secs_f64()
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = ClientInfo::new("").version.map(|version| version.to_string());
        let (ours, theirs) = (summary(&self.ours), summary(&self.theirs));
        let version = version.unwrap_or_default();
        let (what, ratio) = (self.what, self.ratio());
        write!(f, "{what}: gsb-client {ours}, ya-service-bus {version} {theirs}: {ratio:.1} x")
    }
}

fn sorted(times: &[Duration]) -> Vec<Duration> {
    let mut times = times.to_vec();
    times.sort_unstable();
    times
}

fn median(times: &[Duration]) -> Duration {
    sorted(times)[times.len() / 2]
}

/// The median, and the fastest and the slowest turn.
fn summary(times: &[Duration]) -> String {
    let times = sorted(times);
    let (fastest, slowest) = (times[0], times[times.len() - 1]);
    format!("{:.2?} ({fastest:.2?} to {slowest:.2?})", median(&times))
}

/// The time of a call if the calls are sequential.
async fn one_by_one(calls: u32, call: impl AsyncFn(Ball) -> Ball) -> Duration {
    let mut ball = Ball::new();
    let start = Instant::now();
    for _ in 0..calls {
        ball = call(ball).await;
    }
    start.elapsed() / calls
}

/// The time of a call if 64 calls are made at the same time.
async fn at_once(calls: u32, call: impl AsyncFn(Ball) -> Ball) -> Duration {
    let mut balls = Vec::from_iter((0..64).map(|_| Ball::new()));
    let times = calls.div_ceil(64);
    let start = Instant::now();
    for _ in 0..times {
        balls = join_all(balls.into_iter().map(|ball| call(ball))).await;
    }
    start.elapsed() / (times * 64)
}

async fn compare(rounds: u32, calls: u32) {
    let bus = Bus::local();
    let _balls = bus.bind("/echo", |ball: Ball| async { Ok(ball) }).await.unwrap();
    let slow = |SlowBall(ball)| async { Ok(tokio::spawn(async { ball }).await.unwrap()) };
    let _slow_balls = bus.bind("/echo", slow).await.unwrap();
    let _ = typed::bind("/echo", |ball: Ball| async { Ok(ball) });
    let _ = typed::bind("/echo", slow);

    let service = bus.service("/echo");
    let ours = async |ball| service.call(ball).await.unwrap().unwrap();
    let our_slow = async |ball| service.call(SlowBall(ball)).await.unwrap().unwrap();
    let our_new = async |ball| bus.service("/echo").call(ball).await.unwrap().unwrap();
    let endpoint = typed::service("/echo");
    let theirs = async |ball| endpoint.call(ball).await.unwrap().unwrap();
    let their_slow = async |ball| endpoint.call(SlowBall(ball)).await.unwrap().unwrap();
    let their_new = async |ball| typed::service("/echo").call(ball).await.unwrap().unwrap();

    let mut plain = Comparison::new("typed in-process call");
    let mut new = Comparison::new("the same, with a service made for each call");
    let mut slow = Comparison::new("the same, to a handler that waits for a task");
    let mut many = Comparison::new("the same, 64 at a time");
    let mut many_slow =
        Comparison::new("the same, 64 at a time, to a handler that waits for a task");
    for _ in 0..rounds {
        plain.round(one_by_one(calls, ours), one_by_one(calls, theirs)).await;
        new.round(one_by_one(calls, our_new), one_by_one(calls, their_new)).await;
        slow.round(one_by_one(calls, our_slow), one_by_one(calls, their_slow)).await;
        many.round(at_once(calls, ours), at_once(calls, theirs)).await;
        many_slow.round(at_once(calls, our_slow), at_once(calls, their_slow)).await;
    }
    println!("medians of {rounds} turns of {calls} calls each (the fastest to the slowest turn)");
    println!("{plain} (target: at least {TARGET})");
    for comparison in [new, slow, many, many_slow] {
        println!("{comparison}");
    }
}

fn main() {
    let (rounds, calls) = match std::env::args().any(|argument| argument == "--bench") {
        true => (ROUNDS, CALLS),
        false => (1, 1),
    };
    actix::System::new().block_on(compare(rounds, calls));
}
