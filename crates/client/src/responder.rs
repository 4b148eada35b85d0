//! Calls that come from the router, and the way back to their callers.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use gsb_net::Link;
use gsb_proto::messages::{CallReply, CallReplyCode, CallReplyReason, CallReplyType, CallRequest};

use crate::error::Failure;
use crate::in_process::forget;
use crate::services::{Call, Handler, Running, ServiceEntry, only_pushes};
use crate::shared::Shared;

/// Handles a call that has come over `link`; `service` is who serves its address, if anybody.
pub(crate) fn serve(
    shared: &Arc<Shared>,
    link: &Arc<Link>,
    service: Option<Arc<ServiceEntry>>,
    request: CallRequest,
) {
    let responder = Responder {
        shared: shared.clone(),
        link: link.clone(),
        request_id: request.request_id,
        finished: request.no_reply,
    };
    let Some(service) = service else {
        // Unregistered while the call was on its way.
        let failure = Failure::bad_request("the service has been unregistered");
        return responder.refuse(failure, CallReplyReason::ReasonNoSuchService);
    };
    if !request.no_reply && matches!(service.handler, Handler::Push(_)) {
        return responder.refuse(only_pushes(), CallReplyReason::ReasonUnspecified);
    }
    let running = match service.enter() {
        Ok(running) => running,
        Err(service) => {
            let failure = Failure::new(service.busy_message());
            if request.no_reply {
                log::warn!("{}: a push was dropped: {}", service.id, failure.message());
            }
            return responder.refuse(failure, CallReplyReason::ReasonBusy);
        }
    };
    let call = Call {
        caller: request.caller,
        address: request.address,
        data: request.data,
        no_reply: request.no_reply,
    };
    tokio::spawn(handle(running, call, responder));
}

async fn handle(running: Running, call: Call, mut responder: Responder) {
    // A handler that panics must not leave its caller waiting. What it was working on is dropped
    // with it, so nobody sees anything half done.
    let handled = run(&running.service().handler, call, &mut responder);
    if let Err(payload) = AssertUnwindSafe(handled).catch_unwind().await {
        forget(payload);
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
        let failure = Failure::new("the service's handler has ended without a reply");
        self.refuse_now(failure, CallReplyReason::ReasonUnspecified);
    }
}

/// The way back to a caller. It ends with the connection that the call came over: on another one, the
/// same request id means another call.
struct Responder {
    shared: Arc<Shared>,
    link: Arc<Link>,
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
            Err(failure) => self.failure(failure),
        };
        self.send(reply).await;
        self.finished = true;
    }

    /// The last reply, without waiting: it is small, and a router that sends calls and takes no replies
    /// is left.
    fn refuse(mut self, failure: Failure, reason: CallReplyReason) {
        self.refuse_now(failure, reason);
    }

    fn refuse_now(&mut self, failure: Failure, reason: CallReplyReason) {
        if !self.finished {
            let reply = CallReply { reason: reason.into(), ..self.failure(failure) };
            self.shared.send_urgent(&self.link, &reply.into_frame());
        }
        self.finished = true;
    }

    fn reply(&self) -> CallReply {
        CallReply { request_id: self.request_id.clone(), ..CallReply::default() }
    }

    fn failure(&self, failure: Failure) -> CallReply {
        let code = if failure.is_bad_request {
            CallReplyCode::CallReplyBadRequest
        } else {
            CallReplyCode::ServiceFailure
        };
        CallReply { code: code.into(), data: failure.message.into(), ..self.reply() }
    }

    async fn send(&mut self, reply: CallReply) {
        if self.finished {
            return;
        }
        let options = self.shared.options();
        let mut frame = reply.into_frame();
        if let Err(error) = options.check_size(&frame) {
            // The caller must hear of it, and the connection must not be lost over it.
            let failure = Failure::new(format!("the reply does not fit: {error}"));
            frame = self.failure(failure).into_frame();
            self.finished = true;
        }
        if !self.link.send(options.framing, &frame).await {
            self.finished = true;
        }
    }
}
