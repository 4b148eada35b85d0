//! Calls from the router: runs the handler of each, and sends its replies.

use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use gsb_proto::messages::{CallReply, CallReplyType, CallRequest};
use tokio::time::Instant;

use crate::call::{Call, CallContext};
use crate::engine::Engine;
use crate::engine::call_control::CallControl;
use crate::engine::credit::{Credit, FIRST_CREDIT};
use crate::engine::intake::CallIntake;
use crate::engine::limits::check_text;
use crate::engine::nesting::Nested;
use crate::engine::queue::detach;
use crate::engine::refusal::{Refusal, failure_reply, too_many_bytes, too_many_calls};
use crate::engine::service_entry::{Handler, RunningCall, ServiceEntry};
use crate::engine::upload::Upload;
use crate::engine::upload_reader::UploadReader;
use crate::failure::Failure;
use crate::headers::Headers;
use crate::panics::discard;
use crate::reply::Reply;
use crate::request_stream::RequestStream;

/// How many bytes of replies are queued before they are flushed. So a stream whose replies are ready is written in few
/// system calls.
const MOST_UNFLUSHED: usize = 64 << 10;

/// How long the replies of a stream that computes without a pause are queued before they are flushed.
const LONGEST_UNFLUSHED: Duration = Duration::from_millis(1);

/// Handles a call. `service` is the service at its address, if there is one.
pub(crate) fn serve(
    engine: &Arc<Engine>,
    intake: &Arc<CallIntake>,
    service: Option<Arc<ServiceEntry>>,
    request: CallRequest,
) {
    let CallRequest {
        caller,
        address,
        request_id,
        data,
        no_reply,
        timeout_ms,
        headers,
        more,
        reply_credit,
        ..
    } = request;
    let refuse = |request_id, refusal| {
        if !no_reply {
            intake.refuse(request_id, refusal);
        }
    };
    let Some(service) = service else {
        return refuse(request_id, Refusal::NoSuchService);
    };
    let supports_upload = || service.takes_uploads() && intake.supports_streams() && !no_reply;
    if more && !supports_upload() {
        return refuse(request_id, Refusal::RequestStream);
    }
    if !no_reply && matches!(service.handler, Handler::Push(_)) {
        return refuse(request_id, Refusal::OnlyPushes);
    }
    let running = match service.enter() {
        Ok(running) => running,
        Err(service) => {
            let limit = service.limit();
            if no_reply {
                service.drop_push(&too_many_calls(limit));
            }
            return refuse(request_id, Refusal::TooManyCalls { limit });
        }
    };
    // The texts count, because their length is the choice of the peer.
    let headers = Headers::from(headers);
    let length =
        data.len() + caller.len() + address.len() + 2 * request_id.len() + headers.memory();
    let length = if more { length + FIRST_CREDIT } else { length };
    let admitted = match intake.admit(length) {
        Ok(admitted) => admitted,
        Err(refusal) => {
            if no_reply {
                running.service().drop_push(&too_many_bytes(engine.options().max_running_bytes));
            }
            return refuse(request_id, refusal);
        }
    };
    // A handler that keeps the data must not keep the whole buffer that it was read into.
    let data = detach(data);
    let control = Arc::new(CallControl::default());
    let is_stream = matches!(running.service().handler, Handler::Stream(_));
    let has_credit = is_stream && reply_credit > 0 && intake.supports_streams() && !no_reply;
    let credit = has_credit.then(|| Arc::new(Credit::new(reply_credit)));
    let upload = more.then(|| Arc::new(Upload::new(address.clone())));
    if let Some(upload) = &upload {
        let window = engine.options().stream_window;
        let id = request_id.clone();
        let body = UploadReader::new(upload.clone(), intake.clone(), id, window);
        control.set_body(RequestStream::new(body));
    }
    if !no_reply {
        intake.begin(&request_id, &control, credit.clone(), upload.clone());
    }
    let has_deadline = timeout_ms > 0 && !no_reply;
    let deadline = has_deadline.then(|| Instant::now() + Duration::from_millis(timeout_ms.into()));
    let responder = Responder {
        engine: engine.clone(),
        intake: intake.clone(),
        control: control.clone(),
        credit,
        upload,
        admitted,
        request_id,
        no_reply,
        finished: no_reply,
        unflushed: 0,
        flushed: Instant::now(),
    };
    let context = CallContext { deadline, headers, trace: Headers::new(), no_reply, control };
    let call = Call { caller, address, data, context };
    let in_order = no_reply || running.service().is_serial();
    let handled = Nested::future(running.bus(), handle(running, call, responder));
    if in_order {
        engine.start_queue().push(handled.boxed());
    } else {
        tokio::spawn(handled);
    }
}

async fn handle(running: RunningCall, call: Call, mut responder: Responder) {
    let control = responder.control.clone();
    if control.is_cancelled() {
        return;
    }
    // The caller of a handler that panics gets an answer. The values that the handler was working on are dropped, so
    // that no code sees them half changed.
    let handled = run(&running.service().handler, call, &mut responder);
    let handled = tokio::select! {
        // A handler that does not wait is not charged for being cancellable.
        biased;
        handled = AssertUnwindSafe(handled).catch_unwind() => handled,
        () = control.handler_ends() => return,
        () = running.stopped(&control) => return,
    };
    if let Err(payload) = handled {
        discard(payload);
        log::error!("the handler of the service {} panicked", running.service().id);
        responder.finish(Err(Failure::panicked())).await;
    }
}

async fn run(handler: &Handler, call: Call, responder: &mut Responder) {
    match handler {
        _ if responder.no_reply => handler.push(call).await,
        // A call to it is refused before.
        Handler::Push(_) => {}
        Handler::Reply(handler) => {
            let result = handler(call).await;
            responder.finish(result).await;
        }
        Handler::Stream(handler) => {
            let mut replies = handler(call);
            // A detached stream goes on when the connection is lost.
            while !responder.finished || responder.control.is_detached() {
                responder.has_credit().await;
                let next = poll_fn(|cx| {
                    let next = replies.poll_next_unpin(cx);
                    if next.is_pending() {
                        responder.flush();
                    }
                    next
                });
                match next.await {
                    Some(Ok(reply)) => responder.part(reply).await,
                    Some(Err(failure)) => return responder.finish(Err(failure)).await,
                    None => return responder.finish(Ok(Reply::default())).await,
                }
            }
        }
    }
}

impl Drop for Responder {
    /// The caller of a handler that ends without a reply gets an answer. The router gets one even if no caller is left:
    /// it keeps the id of the call in use until then (CO-8).
    fn drop(&mut self) {
        if !self.no_reply {
            self.intake.end(&self.request_id, &self.control);
        }
        if let Some(upload) = &self.upload {
            // The first credit was admitted with the call.
            self.intake.release(upload.close().saturating_sub(FIRST_CREDIT));
        }
        if !self.finished {
            let request_id = std::mem::take(&mut self.request_id);
            let otherwise = match self.control.is_cancelled() {
                true => Refusal::Cancelled,
                false => Refusal::NoReply,
            };
            let refusal = self.refusal().unwrap_or(otherwise);
            if self.intake.queue_refusal(request_id, refusal) {
                self.engine.flush_soon();
            }
        }
        // The last, because an idle connection may be left.
        self.intake.release(self.admitted);
        self.engine.look_again();
    }
}

/// Sends the replies to one call, over the connection that the call came over: on another connection the same request
/// id belongs to another call.
struct Responder {
    engine: Arc<Engine>,
    intake: Arc<CallIntake>,
    /// The bytes to release at the intake.
    admitted: usize,
    control: Arc<CallControl>,
    /// The credit for the replies, if they need one.
    credit: Option<Arc<Credit>>,
    /// The body of the request, if it has one.
    upload: Option<Arc<Upload>>,
    request_id: String,
    no_reply: bool,
    /// The last reply was sent, or none is wanted. Further replies are dropped, because the router may have given the
    /// request id to another call.
    finished: bool,
    /// The bytes of replies that were queued since the last flush. The connection's task flushes them, too.
    unflushed: usize,
    /// When the last flush was.
    flushed: Instant,
}

impl Responder {
    /// Why the service has ended the call.
    fn refusal(&self) -> Option<Refusal> {
        self.upload.as_ref()?.refusal()
    }

    /// Waits until one reply of several may be sent. The replies of a detached stream are dropped when its call is
    /// cancelled, and then it needs no credit.
    async fn has_credit(&mut self) {
        let Some(credit) = self.credit.clone() else {
            return;
        };
        if !self.finished && !credit.is_available() {
            self.flush();
            tokio::select! {
                biased;
                () = credit.available() => {}
                () = self.control.cancelled_when_detached() => {}
            }
        }
    }

    /// One reply of several. It is dropped if the call is cancelled.
    async fn part(&mut self, reply: Reply) {
        if self.finished || self.control.is_cancelled() {
            // The stream is detached. It must not keep the other tasks from running.
            return tokio::task::coop::consume_budget().await;
        }
        if let Some(credit) = &self.credit {
            credit.take(reply.data.len());
        }
        let reply = CallReply { reply_type: CallReplyType::Partial.into(), ..self.message(reply) };
        let owes_flush = self.queue(reply).await;
        if self.unflushed >= MOST_UNFLUSHED || self.flushed.elapsed() >= LONGEST_UNFLUSHED {
            self.flush();
        } else if owes_flush {
            // Frames of other tasks wait for this flush, too, and the code of the stream that runs next may take long.
            self.engine.flush_soon();
        }
    }

    /// The last reply.
    async fn finish(&mut self, result: Result<Reply, Failure>) {
        let reply = match (self.refusal(), result) {
            (Some(refusal), _) => refusal.reply(self.request_id.clone()),
            (None, Ok(reply)) => self.message(reply),
            (None, Err(failure)) => failure_reply(self.request_id.clone(), failure),
        };
        self.queue(reply).await;
        self.flush();
        self.finished = true;
    }

    /// Writes the replies that were queued.
    fn flush(&mut self) {
        if std::mem::take(&mut self.unflushed) > 0 {
            self.intake.link().flush();
        }
        self.flushed = Instant::now();
    }

    fn message(&self, reply: Reply) -> CallReply {
        let Reply { data, headers } = reply;
        let (request_id, headers) = (self.request_id.clone(), headers.to_proto());
        CallReply { request_id, data, headers, ..CallReply::default() }
    }

    /// Queues a reply when there is room for it. Returns whether it has to be flushed.
    async fn queue(&mut self, reply: CallReply) -> bool {
        if self.finished {
            return false;
        }
        let options = self.engine.options();
        let checked = check_text([&reply.request_id], &reply.headers);
        let mut frame = reply.into_frame();
        let mut is_last = false;
        if let Err(error) = checked.and_then(|()| self.engine.check_size(&frame)) {
            // The caller gets an answer, and the router does not close the connection over the reply.
            let failure = Failure::new(format!("the reply is too large to be sent: {error}"));
            frame = failure_reply(self.request_id.clone(), failure).into_frame();
            is_last = true;
        }
        // Until there is room for the reply, it counts in place of the call.
        self.admitted = self.intake.exchange(self.admitted, frame.body.len());
        let link = self.intake.link().clone();
        let owes_flush = link.enqueue(options.framing, &frame).await;
        // A reply may have no body.
        self.unflushed += frame.body.len().max(1);
        // Not before it is queued: a handler that is dropped while it waits for room still owes its last reply.
        self.finished = link.is_closed() || is_last;
        owes_flush
    }
}
