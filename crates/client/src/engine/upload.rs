//! The body of a request, at its service: the buffer between the connection and the handler (rule CA-15).

use std::sync::OnceLock;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::engine::credit::{FIRST_CREDIT, cost};
use crate::engine::queue::{Queue, WhenFull, detach};
use crate::engine::refusal::Refusal;
use crate::error::Error;

/// The data of a request that its handler has not read yet.
#[derive(Debug)]
pub(crate) struct Upload {
    /// The address of the call, for errors.
    address: String,
    pub(crate) queue: Queue<Bytes>,
    /// The part of the limit on the bytes of running calls that the data may fill. `None` after the end of the call.
    reserved: Mutex<Option<usize>>,
    /// Why the call was ended.
    refusal: OnceLock<Refusal>,
}

impl Upload {
    /// The call has been admitted with [`FIRST_CREDIT`] bytes for its data.
    pub(crate) fn new(address: String) -> Self {
        // The credit is the limit, whatever the one of the queue.
        let queue = Queue::new(usize::MAX, WhenFull::End);
        queue.set_window(FIRST_CREDIT);
        let (reserved, refusal) = (Mutex::new(Some(FIRST_CREDIT)), OnceLock::new());
        Upload { address, queue, reserved, refusal }
    }

    /// Takes more data. Data of a call that has ended is dropped. `reserve` asks for a part of the limit on the bytes of
    /// running calls.
    pub(crate) fn receive(
        &self,
        data: Bytes,
        reserve: impl FnOnce(usize) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        if !self.queue.has_credit() {
            return Err(Refusal::TooMuchData);
        }
        // The last item may exceed the credit.
        let needed = self.queue.bytes().saturating_add(cost(data.len()));
        if !self.reserve(needed, reserve)? {
            return Ok(());
        }
        let length = data.len();
        self.queue.push(detach(data), length, 0);
        Ok(())
    }

    /// Reserves `needed` bytes in all. `false` if the call has ended.
    fn reserve(
        &self,
        needed: usize,
        reserve: impl FnOnce(usize) -> Result<(), Refusal>,
    ) -> Result<bool, Refusal> {
        let mut reserved = self.reserved.lock();
        let Some(reserved) = &mut *reserved else {
            return Ok(false);
        };
        if let Some(more) = needed.checked_sub(*reserved).filter(|&more| more > 0) {
            reserve(more)?;
            *reserved = needed;
        }
        Ok(true)
    }

    /// The handler reads: the caller may send `window` bytes ahead, if the limit on running calls allows it.
    pub(crate) fn widen(&self, window: usize, reserve: impl FnOnce(usize) -> Result<(), Refusal>) {
        if window > FIRST_CREDIT && self.reserve(window, reserve) == Ok(true) {
            self.queue.widen(window);
        }
    }

    /// Ends the body with an error, because the call is cancelled.
    pub(crate) fn cancel(&self) {
        self.queue.abort(Error::body_cancelled(&self.address));
    }

    /// Ends the body, because the service ends the call.
    pub(crate) fn refuse(&self, refusal: Refusal) {
        let _ = self.refusal.set(refusal);
        self.cancel();
    }

    /// Why the service has ended the call.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        self.refusal.get().copied()
    }

    /// The call has ended. Returns what it had reserved.
    pub(crate) fn close(&self) -> usize {
        let reserved = self.reserved.lock().take().unwrap_or(0);
        self.cancel();
        reserved
    }
}
