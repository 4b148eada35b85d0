//! The limit on the calls of one connection, and the refusals of calls beyond it.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gsb_net::Link;
use gsb_proto::Framing;
use gsb_proto::messages::{CallData, Message as _, StreamCredit};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::engine::call_control::CallControl;
use crate::engine::changes::wait_until;
use crate::engine::credit::Credit;
use crate::engine::refusal::Refusal;
use crate::engine::upload::Upload;
use crate::options::Options;

/// The approximate memory of a call's task, in bytes. A call holds its data and texts in addition.
const CALL_OVERHEAD: usize = 512;

/// How many refusals may be queued before the connection is paused. A refusal with a long request id counts as
/// several.
const MAX_REFUSALS: usize = 65_536;

/// A refusal counts as one more for each of this number of bytes in its request id. Request ids of this client are
/// shorter.
const ID_UNIT: usize = 64;

/// Admits the calls of one connection, within a limit on the bytes that they hold, and refuses those beyond it.
///
/// While calls are refused the connection is still read, because it also carries the replies to calls of this process.
/// It is paused only if the router does not take the refusals.
#[derive(Debug)]
pub(crate) struct CallIntake {
    link: Arc<Link>,
    framing: Framing,
    outbox_limit: usize,
    limit: usize,
    /// The bytes of running calls, and of replies that wait for room in the outbox.
    held: AtomicUsize,
    /// The level of the protocol extensions that both ends of the connection support.
    level: u32,
    /// The calls that the router may cancel, by their request ids.
    running: Mutex<HashMap<String, SteeredCall>>,
    refusals: Mutex<Refusals>,
    /// How many refusals are queued, by [`cost`].
    waiting: AtomicUsize,
    /// The number of queued refusals has fallen to half the limit.
    fewer: Notify,
    /// All refusals are in the outbox.
    all_sent: Notify,
}

/// What frames of the router may change of a call that is running.
#[derive(Debug, Clone)]
struct SteeredCall {
    control: Arc<CallControl>,
    /// The credit for its replies, if they need one.
    credit: Option<Arc<Credit>>,
    /// The body of its request, if it has one.
    upload: Option<Arc<Upload>>,
}

/// The refusals that are queued: the request id of each call, and the reason.
#[derive(Debug, Default)]
struct Refusals {
    waiting: VecDeque<(String, Refusal)>,
    /// The sum of their [costs](cost).
    cost: usize,
    /// A task sends the refusals.
    has_writer: bool,
}

/// How many refusals a refusal counts as.
fn cost(request_id: &str) -> usize {
    1 + request_id.len() / ID_UNIT
}

/// A task that sends refusals, until this is dropped.
struct RefusalWriter<'a> {
    intake: &'a CallIntake,
    /// All are sent; another task may have begun.
    is_done: bool,
}

impl Drop for RefusalWriter<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            // The runtime of the task has ended.
            self.intake.refusals.lock().has_writer = false;
        }
        self.intake.all_sent.notify_waiters();
    }
}

impl SteeredCall {
    fn cancel(&self) {
        self.control.cancel();
        if let Some(upload) = &self.upload {
            upload.cancel();
        }
    }
}

impl CallIntake {
    pub(crate) fn new(link: Arc<Link>, level: u32, options: &Options) -> Self {
        CallIntake {
            link,
            framing: options.framing,
            outbox_limit: options.outbox_limit,
            limit: options.max_running_bytes,
            held: AtomicUsize::new(0),
            level,
            running: Mutex::default(),
            refusals: Mutex::default(),
            waiting: AtomicUsize::new(0),
            fewer: Notify::new(),
            all_sent: Notify::new(),
        }
    }

    /// The connection.
    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Whether both ends of the connection support the streams of this project (rules CA-14 and CA-15).
    pub(crate) fn supports_streams(&self) -> bool {
        self.level >= 1
    }

    /// Whether no admitted call is running.
    pub(crate) fn is_idle(&self) -> bool {
        self.held.load(Ordering::Relaxed) == 0
    }

    /// Admits a call with `length` bytes of data and texts, if the limit allows it or no other call is running.
    /// Returns the bytes to [release](CallIntake::release) when the call ends.
    pub(crate) fn admit(&self, length: usize) -> Result<usize, Refusal> {
        let bytes = length.saturating_add(CALL_OVERHEAD);
        let held = self.held.load(Ordering::Relaxed);
        if held > 0 && held.saturating_add(bytes) > self.limit {
            return Err(Refusal::TooManyBytes { limit: self.limit });
        }
        self.held.fetch_add(bytes, Ordering::Relaxed);
        Ok(bytes)
    }

    /// The reply of a call takes the place of the call. Returns the bytes to release instead of `admitted`.
    pub(crate) fn exchange(&self, admitted: usize, length: usize) -> usize {
        let bytes = length.saturating_add(CALL_OVERHEAD);
        self.held.fetch_add(bytes, Ordering::Relaxed);
        self.release(admitted);
        bytes
    }

    /// An admitted call has ended.
    pub(crate) fn release(&self, admitted: usize) {
        self.held.fetch_sub(admitted, Ordering::Relaxed);
    }

    /// A call begins, which the router may cancel until its [end](CallIntake::end).
    pub(crate) fn begin(
        &self,
        request_id: &str,
        control: &Arc<CallControl>,
        credit: Option<Arc<Credit>>,
        upload: Option<Arc<Upload>>,
    ) {
        let call = SteeredCall { control: control.clone(), credit, upload };
        let replaced = self.running.lock().insert(request_id.to_owned(), call);
        // A router that breaks the protocol has given the id to a second call. It can no longer cancel the first one, which
        // must not run for ever.
        if let Some(replaced) = replaced {
            replaced.cancel();
        }
    }

    /// A call has ended.
    pub(crate) fn end(&self, request_id: &str, control: &Arc<CallControl>) {
        let mut running = self.running.lock();
        // A router that breaks the protocol may have given the id to a second call.
        let is_this = |found: &SteeredCall| Arc::ptr_eq(&found.control, control);
        let ended = running.get(request_id).is_some_and(is_this);
        let ended = ended.then(|| running.remove(request_id));
        drop(running);
        drop(ended);
    }

    /// The router has cancelled a call: its caller waits no longer.
    pub(crate) fn cancel(&self, request_id: &str) {
        let call = self.running.lock().get(request_id).cloned();
        if let Some(call) = call {
            call.cancel();
        }
    }

    /// More data of a request that is running. Data for a call that has ended is dropped.
    pub(crate) fn take_data(&self, message: CallData) {
        let CallData { request_id, data, end } = message;
        let call = self.running.lock().get(&request_id).cloned();
        let Some(SteeredCall { control, upload: Some(upload), .. }) = call else {
            return;
        };
        // The end has data of its own, or marks only the end. It needs credit in either case.
        let taken = match end && data.is_empty() && upload.queue.has_credit() {
            true => Ok(()),
            false => upload.receive(data, |bytes| self.reserve(bytes)),
        };
        match taken {
            Ok(()) if end => upload.queue.end(None),
            Ok(()) => {}
            Err(refusal) => {
                upload.refuse(refusal);
                control.cancel();
            }
        }
    }

    /// Reserves bytes for the body of a running call.
    pub(crate) fn reserve(&self, bytes: usize) -> Result<(), Refusal> {
        let held = self.held.load(Ordering::Relaxed);
        if held.saturating_add(bytes) > self.limit {
            return Err(Refusal::TooManyBytes { limit: self.limit });
        }
        self.held.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Grants the caller of a running call more credit for its body.
    pub(crate) fn grant(&self, request_id: &str, bytes: usize) {
        let (request_id, bytes) = (request_id.to_owned(), bytes as u64);
        let frame = StreamCredit { request_id, bytes, for_request: true }.to_frame();
        if self.link.push_urgent(self.framing, &frame) {
            self.link.flush();
        }
    }

    /// The caller grants more credit for the replies to a call. Without effect if the call has ended, or needs no credit.
    pub(crate) fn add_credit(&self, request_id: &str, bytes: u64) {
        let credit = self.running.lock().get(request_id).and_then(|call| call.credit.clone());
        if let Some(credit) = credit {
            credit.add(bytes);
        }
    }

    /// The connection is lost, and its calls cannot be answered.
    pub(crate) fn cancel_all(&self) {
        let running = mem::take(&mut *self.running.lock());
        for call in running.values() {
            call.cancel();
        }
    }

    /// Refuses a call, as soon as there is room in the outbox.
    pub(crate) fn refuse(self: &Arc<Self>, request_id: String, refusal: Refusal) {
        if self.queue_refusal(request_id, refusal) {
            self.link.flush();
        }
    }

    /// Queues the refusal of a call. `true` if the link has to be flushed.
    pub(crate) fn queue_refusal(self: &Arc<Self>, request_id: String, refusal: Refusal) -> bool {
        let mut refusals = self.refusals.lock();
        if !refusals.has_writer && self.link.queued() <= self.outbox_limit {
            drop(refusals);
            let frame = refusal.reply(request_id).into_frame();
            return self.link.push_urgent(self.framing, &frame);
        }
        // Without a runtime the connection has ended, or is about to.
        let Ok(runtime) = Handle::try_current() else {
            return false;
        };
        refusals.cost += cost(&request_id);
        refusals.waiting.push_back((request_id, refusal));
        self.waiting.store(refusals.cost, Ordering::Relaxed);
        let has_writer = mem::replace(&mut refusals.has_writer, true);
        drop(refusals);
        if !has_writer {
            runtime.spawn(self.clone().send_refusals());
        }
        false
    }

    /// Sends the queued refusals, and ends when there are none.
    async fn send_refusals(self: Arc<Self>) {
        let mut writer = RefusalWriter { intake: &self, is_done: false };
        while let Some((request_id, refusal)) = self.next_refusal() {
            let frame = refusal.reply(request_id).into_frame();
            self.link.send(self.framing, &frame).await;
        }
        writer.is_done = true;
    }

    /// Waits until all refusals are in the outbox.
    pub(crate) async fn all_sent(&self) {
        wait_until(&self.all_sent, || (!self.refusals.lock().has_writer).then_some(())).await;
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

    /// Whether the connection has to be paused because of queued refusals.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) >= MAX_REFUSALS
    }

    /// Waits until at most half as many refusals are queued.
    pub(crate) async fn has_room(&self) {
        while self.waiting.load(Ordering::Relaxed) > MAX_REFUSALS / 2 {
            self.fewer.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::poll;
    use gsb_net::{Inbox, Stream};
    use gsb_proto::FrameDecoder;
    use tokio::net::UnixStream;

    use super::*;

    fn link(stream: UnixStream) -> Arc<Link> {
        Arc::new(Link::new(Stream::Unix(stream), 1 << 20))
    }

    // A shutdown waits for them: they are not in the outbox that it waits for.
    #[tokio::test]
    async fn refusals_that_wait_for_the_outbox_are_waited_for() {
        const COUNT: usize = 20_000;
        let (near, far) = UnixStream::pair().unwrap();
        let (near, far) = (link(near), link(far));
        let options = Options { outbox_limit: 300, ..Options::default() };
        let intake = Arc::new(CallIntake::new(near.clone(), 1, &options));
        assert!(poll!(Box::pin(intake.all_sent())).is_ready());
        for number in 0..COUNT {
            intake.refuse(number.to_string(), Refusal::OnlyPushes);
        }
        assert!(poll!(Box::pin(intake.all_sent())).is_pending());
        let driver = tokio::spawn(async move {
            let mut inbox = Inbox::new(FrameDecoder::new(Framing::Packet, 1 << 20));
            near.receive(&mut inbox).await
        });
        let reader = tokio::spawn(async move {
            let mut inbox = Inbox::new(FrameDecoder::new(Framing::Packet, 1 << 20));
            let mut count = 0;
            while count < COUNT {
                far.receive(&mut inbox).await.unwrap();
                while inbox.next_frame().unwrap().is_some() {
                    count += 1;
                }
            }
        });
        tokio::time::timeout(Duration::from_secs(20), intake.all_sent()).await.unwrap();
        intake.link().flush();
        reader.await.unwrap();
        driver.abort();
    }
}
