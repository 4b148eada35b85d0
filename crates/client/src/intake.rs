//! The calls that come over one connection: how many bytes they hold, and the refusals that the router has
//! not taken yet.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use gsb_net::Link;
use gsb_proto::Framing;
use gsb_proto::messages::{CallReply, CallReplyCode, CallReplyReason};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::builder::BusBuilder;
use crate::error::Failure;
use crate::services::only_pushes;

/// What a call counts besides its data and its texts: its task. In bytes.
const CALL_OVERHEAD: usize = 512;

/// So many refusals may wait to be sent before no further call is read. A refusal with a long request id counts
/// as several.
const MAX_REFUSALS: usize = 65_536;

/// A request id counts as another refusal for each so many bytes. The ids of this client are shorter.
const ID_UNIT: usize = 64;

/// The calls that come over one connection.
///
/// Their bytes are limited, and a call beyond the limit is refused: the connection is read all the same,
/// because replies to calls of this process come over it, too. Only when the router does not take the
/// refusals either, it is not read for as long.
#[derive(Debug)]
pub(crate) struct CallIntake {
    link: Arc<Link>,
    framing: Framing,
    outbox_limit: usize,
    limit: usize,
    /// The bytes of calls whose handlers have not finished, and of replies that wait for room.
    held: AtomicUsize,
    refusals: Mutex<Refusals>,
    /// How many refusals wait, by [`cost`].
    waiting: AtomicUsize,
    /// Fewer refusals wait.
    fewer: Notify,
}

/// The refusals that wait to be sent: the request id of each call, and why it is refused.
#[derive(Debug, Default)]
struct Refusals {
    waiting: VecDeque<(String, Refusal)>,
    /// What they count.
    cost: usize,
    /// A task sends them.
    has_writer: bool,
}

/// Why a call gets no reply from a handler.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Refusal {
    /// The service has been unregistered while the call was on its way.
    NoSuchService,
    /// The service answers nothing.
    OnlyPushes,
    /// The service handles as many calls as it may.
    TooManyCalls { limit: usize },
    /// The calls that are being handled hold as many bytes as they may.
    TooManyBytes { limit: usize },
    /// The handler has ended without a reply.
    NoReply,
}

impl Refusal {
    /// The reply that refuses a call.
    pub(crate) fn reply(self, request_id: String) -> CallReply {
        let (failure, reason) = match self {
            Refusal::NoSuchService => (
                Failure::bad_request("the service has been unregistered"),
                CallReplyReason::ReasonNoSuchService,
            ),
            Refusal::OnlyPushes => (only_pushes(), CallReplyReason::ReasonUnspecified),
            Refusal::TooManyCalls { limit } => {
                (Failure::new(too_many_calls(limit)), CallReplyReason::ReasonBusy)
            }
            Refusal::TooManyBytes { limit } => {
                (Failure::new(too_many_bytes(limit)), CallReplyReason::ReasonBusy)
            }
            Refusal::NoReply => (
                Failure::new("the service's handler has ended without a reply"),
                CallReplyReason::ReasonUnspecified,
            ),
        };
        CallReply { reason: reason.into(), ..failure_reply(request_id, failure) }
    }
}

/// What a caller is told when a service handles as many calls as it may.
pub(crate) fn too_many_calls(limit: usize) -> String {
    format!("{limit} calls are running; try again later")
}

/// What a caller is told when calls hold as many bytes as they may.
pub(crate) fn too_many_bytes(limit: usize) -> String {
    format!("the calls that are being handled hold {limit} bytes; try again later")
}

/// The last reply to a call that has failed.
pub(crate) fn failure_reply(request_id: String, failure: Failure) -> CallReply {
    let code = if failure.is_bad_request {
        CallReplyCode::CallReplyBadRequest
    } else {
        CallReplyCode::ServiceFailure
    };
    let data = Bytes::from(failure.message);
    CallReply { request_id, code: code.into(), data, ..CallReply::default() }
}

/// As how many a refusal counts.
fn cost(request_id: &str) -> usize {
    1 + request_id.len() / ID_UNIT
}

impl CallIntake {
    pub(crate) fn new(link: Arc<Link>, options: &BusBuilder) -> Self {
        CallIntake {
            link,
            framing: options.framing,
            outbox_limit: options.outbox_limit,
            limit: options.max_running_bytes,
            held: AtomicUsize::new(0),
            refusals: Mutex::default(),
            waiting: AtomicUsize::new(0),
            fewer: Notify::new(),
        }
    }

    /// The connection.
    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Admits a call with so many bytes of data and texts, if the limit allows it or nothing else is held. The call
    /// has to be [released](CallIntake::release) with what this returns.
    pub(crate) fn admit(&self, length: usize) -> Result<usize, Refusal> {
        let bytes = length.saturating_add(CALL_OVERHEAD);
        let held = self.held.load(Ordering::Relaxed);
        if held > 0 && held.saturating_add(bytes) > self.limit {
            return Err(Refusal::TooManyBytes { limit: self.limit });
        }
        self.held.fetch_add(bytes, Ordering::Relaxed);
        Ok(bytes)
    }

    /// A call that was admitted holds other bytes now: those of its reply.
    pub(crate) fn exchange(&self, admitted: usize, length: usize) -> usize {
        let bytes = length.saturating_add(CALL_OVERHEAD);
        self.held.fetch_add(bytes, Ordering::Relaxed);
        self.release(admitted);
        bytes
    }

    /// A call that was admitted holds nothing any more.
    pub(crate) fn release(&self, admitted: usize) {
        self.held.fetch_sub(admitted, Ordering::Relaxed);
    }

    /// Refuses a call, as soon as there is room for it in the outbox.
    pub(crate) fn refuse(self: &Arc<Self>, request_id: String, refusal: Refusal) {
        let mut refusals = self.refusals.lock();
        if !refusals.has_writer && self.link.queued() <= self.outbox_limit {
            drop(refusals);
            let frame = refusal.reply(request_id).into_frame();
            if self.link.push_urgent(self.framing, &frame) {
                self.link.flush();
            }
            return;
        }
        // Without a runtime there will be no connection either.
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        refusals.cost += cost(&request_id);
        refusals.waiting.push_back((request_id, refusal));
        self.waiting.store(refusals.cost, Ordering::Relaxed);
        let has_writer = mem::replace(&mut refusals.has_writer, true);
        drop(refusals);
        if !has_writer {
            runtime.spawn(self.clone().send_refusals());
        }
    }

    /// Sends the refusals that wait, and ends when there are none.
    async fn send_refusals(self: Arc<Self>) {
        while let Some((request_id, refusal)) = self.next_refusal() {
            let frame = refusal.reply(request_id).into_frame();
            self.link.send(self.framing, &frame).await;
        }
    }

    fn next_refusal(&self) -> Option<(String, Refusal)> {
        let mut refusals = self.refusals.lock();
        let next = refusals.waiting.pop_front();
        let before = refusals.cost;
        match &next {
            Some((request_id, _)) => refusals.cost -= cost(request_id),
            None => *refusals = Refusals::default(),
        }
        let now = refusals.cost;
        self.waiting.store(now, Ordering::Relaxed);
        if before >= MAX_REFUSALS / 2 && now <= MAX_REFUSALS / 2 {
            self.fewer.notify_one();
        }
        next
    }

    /// Whether so many refusals wait that no further call is to be read.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) >= MAX_REFUSALS
    }

    /// Waits until only half as many refusals wait.
    pub(crate) async fn has_room(&self) {
        while self.waiting.load(Ordering::Relaxed) > MAX_REFUSALS / 2 {
            self.fewer.notified().await;
        }
    }
}
