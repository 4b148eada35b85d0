//! Those who must not notice what others do.

use std::cell::Cell;
use std::time::{Duration, Instant};

use gsb_proto::messages::{CallReply, CallRequest};
use gsb_proto::{Address, Framing};

use crate::Peer;

/// Long enough for a thread to get its turn on a machine that does other things.
const UNCHANGED: Duration = Duration::from_millis(300);

/// A service and a caller of its own, whose calls go on whatever happens beside them.
#[derive(Debug)]
pub struct BackgroundCalls {
    service: Peer,
    caller: Peer,
    /// How many calls were made.
    pub calls: u64,
    /// How long the longest of them took.
    pub worst: Duration,
}

impl BackgroundCalls {
    /// Connects both, and registers `/bystander`.
    pub async fn start(address: &Address) -> Self {
        let mut service = Peer::connect(address, Framing::Packet).await;
        let caller = Peer::connect(address, Framing::Packet).await;
        assert_eq!(service.register("/bystander").await, 0);
        BackgroundCalls { service, caller, calls: 0, worst: Duration::ZERO }
    }

    /// Makes one call and gets its reply; the time it took.
    pub async fn call(&mut self) -> Duration {
        let begin = Instant::now();
        self.calls += 1;
        let id = self.calls.to_string();
        self.caller.call("/bystander", &id, "question").await;
        let call: CallRequest = self.service.expect().await;
        assert_eq!((&call.request_id, &call.data[..]), (&id, &b"question"[..]));
        self.service.reply(&id, "answer").await;
        let reply: CallReply = self.caller.expect().await;
        assert_eq!((reply.request_id, &reply.data[..], reply.code), (id, &b"answer"[..], 0));
        let took = begin.elapsed();
        self.worst = self.worst.max(took);
        took
    }

    /// Makes one call after the other while something happens, at least one.
    pub async fn during<T>(&mut self, what: impl Future<Output = T>) -> T {
        let is_over = Cell::new(false);
        let what = async {
            let result = what.await;
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
        tokio::join!(what, calls).0
    }

    /// Makes calls until a number that was 0 at first has not changed during many of them, and for a while:
    /// what it counts stands still, although the router does not.
    pub async fn until_stable(&mut self, number: impl Fn() -> u64) -> u64 {
        let (mut last, mut since, mut calls) = (0, Instant::now(), 0);
        loop {
            self.call().await;
            let now = number();
            if now == 0 || now != last {
                (last, since, calls) = (now, Instant::now(), 0);
            }
            calls += 1;
            if calls > 100 && since.elapsed() > UNCHANGED {
                return last;
            }
        }
    }
}
