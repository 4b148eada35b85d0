//! Services of this process: their handlers, and how calls reach them.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use gsb_proto::ServiceId;
use gsb_proto::messages::{CallReply, CallReplyCode, CallReplyReason, CallReplyType, CallRequest};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::bus::Bus;
use crate::error::{Error, Failure};
use crate::shared::Shared;

/// A call, as a handler gets it.
#[non_exhaustive]
pub struct Call {
    /// Who calls, as the caller states it. Nobody has checked it.
    pub caller: String,
    /// The address that was called: the service id, or something below it.
    pub address: String,
    /// The payload.
    pub data: Bytes,
    pub(crate) no_reply: bool,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("caller", &self.caller)
            .field("address", &self.address)
            .field("length", &self.data.len())
            .finish_non_exhaustive()
    }
}

impl Call {
    /// Whether somebody waits for the reply. If not, whatever the handler returns is dropped.
    pub fn wants_reply(&self) -> bool {
        !self.no_reply
    }
}

/// What runs for each call of a service.
pub(crate) enum Handler {
    Reply(Box<dyn Fn(Call) -> BoxFuture<'static, Result<Bytes, Failure>> + Send + Sync>),
    Stream(Box<dyn Fn(Call) -> BoxStream<'static, Result<Bytes, Failure>> + Send + Sync>),
    Push(Box<dyn Fn(Call) -> BoxFuture<'static, ()> + Send + Sync>),
}

/// A registered service.
pub(crate) struct ServiceEntry {
    pub(crate) id: ServiceId,
    handler: Handler,
    /// One permit per call that may run.
    running: Arc<Semaphore>,
    limit: usize,
}

impl fmt::Debug for ServiceEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceEntry").field("id", &self.id).finish_non_exhaustive()
    }
}

impl ServiceEntry {
    /// `limit` is how many calls may run at the same time.
    pub(crate) fn new(id: ServiceId, handler: Handler, limit: usize) -> Self {
        let limit = limit.min(Semaphore::MAX_PERMITS);
        ServiceEntry { id, handler, running: Arc::new(Semaphore::new(limit)), limit }
    }
}

/// A registered service; dropping it unregisters the service. Calls that are being handled go on.
#[derive(Debug)]
#[must_use = "dropping it unregisters the service; see `detach`"]
pub struct Registration {
    bus: Bus,
    service: Arc<ServiceEntry>,
    /// Whether dropping it unregisters the service.
    active: bool,
}

impl Registration {
    pub(crate) fn new(bus: Bus, service: Arc<ServiceEntry>) -> Self {
        Registration { bus, service, active: true }
    }

    /// The name under which the service is registered.
    pub fn service_id(&self) -> &str {
        self.service.id.as_str()
    }

    /// Gives the name back and waits until the router has confirmed it. Calls that are being handled
    /// go on.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::NotSent`], [`Error::ConnectionLost`].
    pub async fn unregister(mut self) -> Result<(), Error> {
        self.active = false;
        self.bus.shared().unregister(&self.service).await
    }

    /// Leaves the service registered for as long as the connection lives.
    pub fn detach(mut self) {
        self.active = false;
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if self.active {
            // Nobody waits for the router to confirm it.
            drop(self.bus.shared().unregister(&self.service));
        }
    }
}

/// Handles a call that has come for this process; `service` is who serves its address, if anybody.
pub(crate) fn serve(
    shared: &Arc<Shared>,
    service: Option<Arc<ServiceEntry>>,
    request: CallRequest,
) {
    let responder = Responder {
        shared: shared.clone(),
        request_id: request.request_id,
        finished: request.no_reply,
    };
    let Some(service) = service else {
        // Unregistered while the call was on its way.
        let failure = Failure::bad_request("the service has been unregistered");
        return responder.refuse(failure, CallReplyReason::ReasonNoSuchService);
    };
    if !request.no_reply && matches!(service.handler, Handler::Push(_)) {
        let failure = Failure::bad_request("this service only takes pushes; it answers nothing");
        return responder.refuse(failure, CallReplyReason::ReasonUnspecified);
    }
    let Ok(permit) = service.running.clone().try_acquire_owned() else {
        let limit = service.limit;
        if request.no_reply {
            log::warn!("{}: a push was dropped, {limit} calls are running", service.id);
        }
        let failure = Failure::new(format!("{limit} calls are running; try again later"));
        return responder.refuse(failure, CallReplyReason::ReasonBusy);
    };
    let call = Call {
        caller: request.caller,
        address: request.address,
        data: request.data,
        no_reply: request.no_reply,
    };
    tokio::spawn(handle(service, call, responder, permit));
}

async fn handle(
    service: Arc<ServiceEntry>,
    call: Call,
    mut responder: Responder,
    _running: OwnedSemaphorePermit,
) {
    // A handler that panics must not leave its caller waiting. What it was working on is dropped
    // with it, so nobody sees anything half done.
    let outcome = AssertUnwindSafe(run(&service, call, &mut responder)).catch_unwind().await;
    if outcome.is_err() {
        log::error!("the handler of {} has panicked", service.id);
        responder.finish(Err(Failure::new("the service's handler has panicked"))).await;
    }
}

async fn run(service: &ServiceEntry, call: Call, responder: &mut Responder) {
    match &service.handler {
        Handler::Push(handler) => handler(call).await,
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

/// The way back to a caller.
struct Responder {
    shared: Arc<Shared>,
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

    /// The last reply, without waiting: it is small, and the router limits how many calls come.
    fn refuse(self, failure: Failure, reason: CallReplyReason) {
        if !self.finished {
            let reply = CallReply { reason: reason.into(), ..self.failure(failure) };
            self.shared.send_urgent(&reply.into_frame());
        }
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
        let mut frame = reply.into_frame();
        if let Err(error) = self.shared.check_size(&frame) {
            // The caller must hear of it, and the connection must not be lost over it.
            let failure = Failure::new(format!("the reply does not fit: {error}"));
            frame = self.failure(failure).into_frame();
            self.finished = true;
        }
        if !self.shared.send(&frame).await {
            self.finished = true;
        }
    }
}
