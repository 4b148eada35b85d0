//! Calls that come from the router, and the way back to their callers.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use gsb_proto::messages::{CallReply, CallReplyType, CallRequest};

use crate::error::Failure;
use crate::intake::{CallIntake, Refusal, failure_reply, too_many_bytes, too_many_calls};
use crate::nesting::Nested;
use crate::panics::discard;
use crate::queue::detach;
use crate::services::{Call, Handler, Running, ServiceEntry};
use crate::shared::Shared;

/// Handles a call; `service` is who serves its address, if anybody.
pub(crate) fn serve(
    shared: &Arc<Shared>,
    intake: &Arc<CallIntake>,
    service: Option<Arc<ServiceEntry>>,
    request: CallRequest,
) {
    let CallRequest { caller, address, request_id, data, no_reply } = request;
    let refuse = |request_id, refusal| {
        if !no_reply {
            intake.refuse(request_id, refusal);
        }
    };
    let Some(service) = service else {
        return refuse(request_id, Refusal::NoSuchService);
    };
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
    // The texts are the peer's choice, too.
    let length = data.len() + caller.len() + address.len() + request_id.len();
    let admitted = match intake.admit(length) {
        Ok(admitted) => admitted,
        Err(refusal) => {
            if no_reply {
                running.service().drop_push(&too_many_bytes(shared.options().max_running_bytes));
            }
            return refuse(request_id, refusal);
        }
    };
    // Not in the buffer that it was read into, which it would keep for as long as somebody keeps it.
    let call = Call { caller, address, data: detach(data), no_reply };
    let responder = Responder {
        shared: shared.clone(),
        intake: intake.clone(),
        admitted,
        request_id,
        finished: no_reply,
    };
    let in_order = no_reply || running.service().is_serial();
    let handled = Nested::future(running.bus(), handle(running, call, responder));
    if in_order {
        shared.start_queue().push(handled.boxed());
    } else {
        tokio::spawn(handled);
    }
}

async fn handle(running: Running, call: Call, mut responder: Responder) {
    // A handler that panics must not leave its caller waiting. What it was working on is dropped
    // with it, so nobody sees anything half done.
    let handled = run(&running.service().handler, call, &mut responder);
    if let Err(payload) = AssertUnwindSafe(handled).catch_unwind().await {
        discard(payload);
        log::error!("the handler of {} has panicked", running.service().id);
        responder.finish(Err(Failure::panicked())).await;
    }
}

async fn run(handler: &Handler, call: Call, responder: &mut Responder) {
    match handler {
        Handler::Push(handler) => {
            handler(call).await;
            responder.finished = true;
        }
        Handler::Reply(handler) => {
            let result = handler(call).await;
            responder.finish(result).await;
        }
        Handler::Stream(handler) => {
            let mut replies = handler(call);
            while let Some(reply) = replies.next().await {
                match reply {
                    Ok(data) => responder.part(data).await,
                    Err(failure) => responder.finish(Err(failure)).await,
                }
                // Nobody wants the rest: it has failed, or the connection is gone.
                if responder.finished {
                    return;
                }
            }
            responder.finish(Ok(Bytes::new())).await;
        }
    }
}

impl Drop for Responder {
    /// Whatever ends a handler without a reply, its caller hears of it.
    fn drop(&mut self) {
        self.intake.release(self.admitted);
        if !self.finished {
            let request_id = std::mem::take(&mut self.request_id);
            self.intake.refuse(request_id, Refusal::NoReply);
        }
    }
}

/// The way back to a caller. It ends with the connection that the call came over: on another one, the
/// same request id means another call.
struct Responder {
    shared: Arc<Shared>,
    intake: Arc<CallIntake>,
    /// What the call holds of what the intake may hold.
    admitted: usize,
    request_id: String,
    /// The last reply was sent, or none is wanted. What comes after it is dropped: the router may
    /// have given the request id to another call.
    finished: bool,
}

impl Responder {
    /// One reply of several.
    async fn part(&mut self, data: Bytes) {
        let reply = CallReply { reply_type: CallReplyType::Partial.into(), data, ..self.reply() };
        self.send(reply).await;
    }

    /// The last reply.
    async fn finish(&mut self, result: Result<Bytes, Failure>) {
        let reply = match result {
            Ok(data) => CallReply { data, ..self.reply() },
            Err(failure) => failure_reply(self.request_id.clone(), failure),
        };
        self.send(reply).await;
        self.finished = true;
    }

    fn reply(&self) -> CallReply {
        CallReply { request_id: self.request_id.clone(), ..CallReply::default() }
    }

    async fn send(&mut self, reply: CallReply) {
        if self.finished {
            return;
        }
        let options = self.shared.options();
        let mut frame = reply.into_frame();
        if let Err(error) = self.shared.check_size(&frame) {
            // The caller must hear of it, and the connection must not be lost over it.
            let failure = Failure::new(format!("the reply does not fit: {error}"));
            frame = failure_reply(self.request_id.clone(), failure).into_frame();
            self.finished = true;
        }
        // Until there is room for the reply, it holds memory in place of the call.
        self.admitted = self.intake.exchange(self.admitted, frame.body.len());
        if !self.intake.link().send(options.framing, &frame).await {
            self.finished = true;
        }
    }
}
