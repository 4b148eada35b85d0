//! The body of a request, at its caller: sends it as far as the service has granted credit (rule CA-15).

use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use gsb_proto::messages::CallData;

use crate::engine::Engine;
use crate::engine::credit::Credit;
use crate::engine::farewell::Sending;
use crate::engine::state::Phase;
use crate::error::Error;

/// Sends the body of a call, until its end, its error or the end of the call. The body is polled only while there is credit.
pub(crate) async fn send_body(
    engine: Arc<Engine>,
    number: u64,
    credit: Arc<Credit>,
    body: impl Stream<Item = Result<Bytes, Error>>,
) -> Result<(), Error> {
    let sending = async {
        let mut body = pin!(body);
        loop {
            credit.available().await;
            let next = body.next().await.transpose()?;
            let end = next.is_none();
            let data = next.unwrap_or_default();
            credit.take(data.len());
            if !engine.send_data(number, data, end).await? || end {
                return Ok(());
            }
        }
    };
    tokio::select! {
        biased;
        () = credit.closed() => Ok(()),
        sent = sending => sent,
    }
}

impl Engine {
    /// Sends a part of the body of a call, when there is room for it. `false` if the call has ended.
    async fn send_data(&self, number: u64, data: Bytes, end: bool) -> Result<bool, Error> {
        let frame = CallData { request_id: self.request_id(number), data, end }.into_frame();
        self.check_size(&frame)?;
        // A task that sends without a pause must not starve the others.
        tokio::task::coop::consume_budget().await;
        let Ok(link) = self.link(&mut Sending::Other, None).await else {
            return Ok(false);
        };
        let attempt = || {
            self.change(|state, deferred| {
                let Phase::Up(session) = &mut state.phase else {
                    return Ok(false);
                };
                if !session.calls.is_open(number) {
                    return Ok(false);
                }
                if link.push(session.framing, &frame)? {
                    deferred.flush = Some(link.clone());
                }
                Ok(true)
            })
        };
        Ok(link.when_room(attempt).await)
    }

    /// A service grants more credit for the body of a call.
    pub(crate) fn add_credit(&self, request_id: &str, bytes: u64) {
        let credit =
            self.call_number(request_id).and_then(|number| match &self.state.lock().phase {
                Phase::Up(session) => session.calls.credit(number),
                _ => None,
            });
        if let Some(credit) = credit {
            credit.add(bytes);
        }
    }
}
