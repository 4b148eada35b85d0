//! Calls that other peers must not disturb.

use std::cell::Cell;
use std::time::{Duration, Instant};

use gsb_proto::messages::{CallReply, CallRequest};
use gsb_proto::{Address, Framing};

use crate::peer::Peer;

/// How long a number has to stay the same to be stable. On a busy machine, threads run within this time.
const STABLE_TIME: Duration = Duration::from_millis(300);

/// A caller and its service, whose calls continue while a test does something else.
#[derive(Debug)]
pub struct BackgroundCalls {
    service: Peer,
    caller: Peer,
    /// The number of calls so far.
    pub calls: u64,
    /// The longest time that a call took.
    pub worst: Duration,
}

impl BackgroundCalls {
    /// Connects the caller and the service, and registers `/background`.
    pub async fn start(address: &Address) -> Self {
        let mut service = Peer::connect(address, Framing::Packet).await;
        let caller = Peer::connect(address, Framing::Packet).await;
        assert_eq!(service.register("/background").await, 0);
        BackgroundCalls { service, caller, calls: 0, worst: Duration::ZERO }
    }

    /// Makes one call; returns the time until its reply.
    pub async fn call(&mut self) -> Duration {
        let begin = Instant::now();
        self.calls += 1;
        let id = self.calls.to_string();
        self.caller.call("/background", &id, "question").await;
        let call: CallRequest = self.service.expect().await;
        assert_eq!((&call.request_id, &call.data[..]), (&id, &b"question"[..]));
        self.service.reply(&id, "answer").await;
        let reply: CallReply = self.caller.expect().await;
        assert_eq!((reply.request_id, &reply.data[..], reply.code), (id, &b"answer"[..], 0));
        let took = begin.elapsed();
        self.worst = self.worst.max(took);
        took
    }

    /// Makes calls, one after the other and at least one, until a future ends.
    pub async fn during<T>(&mut self, future: impl Future<Output = T>) -> T {
        let is_over = Cell::new(false);
        let future = async {
            let result = future.await;
            is_over.set(true);
            result
        };
        let calls = async {
            loop {
                self.call().await;
                if is_over.get() {
                    return;
                }
            }
        };
        tokio::join!(future, calls).0
    }

    /// Makes calls until a number has left 0 and has not changed for 100 calls and 300 ms: what it counts has stopped,
    /// although the router is running.
    pub async fn until_stable(&mut self, number: impl Fn() -> u64) -> u64 {
        let (mut last, mut since, mut calls) = (0, Instant::now(), 0);
        loop {
            self.call().await;
            let now = number();
            if now == 0 || now != last {
                (last, since, calls) = (now, Instant::now(), 0);
            }
            calls += 1;
            if calls > 100 && since.elapsed() > STABLE_TIME {
                return last;
            }
        }
    }
}
