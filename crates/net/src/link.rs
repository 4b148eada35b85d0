//! A stream with its outbox.

use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gsb_proto::{Frame, Framing};
use parking_lot::Mutex;
use tokio::io::Interest;
use tokio::sync::{Notify, Semaphore};

use crate::inbox::{Inbox, is_transient};
use crate::outbox::{Outbox, OutboxFull, advance, with_slices};
use crate::stream::Stream;

/// How long whoever waits for room leaves others the first go.
const TURN: Duration = Duration::from_millis(100);

/// A connected socket that many write to and one task drives.
///
/// Writers [`push`](Link::push) frames and then [`flush`](Link::flush). A flush writes what the socket
/// takes without waiting, and never holds the outbox's lock meanwhile: whoever finds a flush under way
/// leaves its frames to it. Frames leave in the order in which they were pushed.
///
/// One task drives the link by looping over [`receive`](Link::receive), which also writes what a flush
/// had to leave behind because the socket was full.
#[derive(Debug)]
pub struct Link {
    stream: Stream,
    state: Mutex<State>,
    limit: usize,
    /// The driver has to look again: the socket became full, or the link was closed.
    driver: Notify,
    /// There is room again, or the link was closed.
    room: Notify,
    /// Whatever is pushed from now on is dropped.
    over: Notify,
    /// Whoever waits for room holds it, the others queue for it: first come, first served.
    turn: Semaphore,
    closed: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    outbox: Outbox,
    /// Somebody is writing.
    flushing: bool,
    /// The socket was full; only the driver writes until it is not.
    full: bool,
    /// The socket takes nothing any more; what is pushed is dropped.
    broken: bool,
    /// Nothing more is to be sent; what is pushed is dropped.
    finished: bool,
}

/// What came of waiting for bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// Bytes, whole frames or not.
    Bytes,
    /// The end of the stream: the peer is gone, or sends nothing more.
    End,
    /// The link was closed on this side.
    Closed,
}

impl Link {
    /// Takes over a stream; `limit` is how many bytes may wait to be written.
    pub fn new(stream: Stream, limit: usize) -> Self {
        Link {
            stream,
            state: Mutex::default(),
            limit,
            driver: Notify::new(),
            room: Notify::new(),
            over: Notify::new(),
            turn: Semaphore::new(1),
            closed: AtomicBool::new(false),
        }
    }

    /// The socket itself.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// How many bytes wait to be written.
    pub fn queued(&self) -> usize {
        self.state.lock().outbox.queued()
    }

    /// Appends a frame; `true` if the caller has to [`flush`](Link::flush), `false` if somebody else will.
    /// On a link that was closed, or whose peer is gone, the frame is dropped.
    ///
    /// # Errors
    /// [`OutboxFull`] if the limit does not allow it.
    pub fn push(&self, framing: Framing, frame: &Frame) -> Result<bool, OutboxFull> {
        self.push_within(framing, frame, self.limit)
    }

    fn push_within(
        &self,
        framing: Framing,
        frame: &Frame,
        limit: usize,
    ) -> Result<bool, OutboxFull> {
        if self.is_closed() {
            return Ok(false);
        }
        let mut state = self.state.lock();
        if state.broken || state.finished {
            return Ok(false);
        }
        // If there was something already, whoever put it there is about to flush, or the driver is.
        let first = state.outbox.is_empty();
        state.outbox.push(framing, frame, limit)?;
        Ok(first)
    }

    /// Appends a small frame whatever the limit says; `true` if the caller has to flush. For frames that
    /// answer or undo something, of which there are few.
    pub fn push_urgent(&self, framing: Framing, frame: &Frame) -> bool {
        self.push_within(framing, frame, usize::MAX) == Ok(true)
    }

    /// Appends a frame when the limit allows it, and flushes. Returns at once on a closed link, with
    /// `false`.
    pub async fn send(&self, framing: Framing, frame: &Frame) -> bool {
        // Somebody who always has something to send must not keep everybody else from running.
        tokio::task::coop::consume_budget().await;
        if self.when_room(|| self.push(framing, frame)).await {
            self.flush();
        }
        !self.is_closed()
    }

    /// Tries something that pushes, now and whenever there may be more room, until it succeeds. Whoever
    /// waits for room has it before whoever comes later, unless it does not take it: a future that is
    /// kept but not polled holds others up for 100 ms, not for ever.
    pub async fn when_room<R>(&self, mut attempt: impl FnMut() -> Result<R, OutboxFull>) -> R {
        if (self.turn.available_permits() > 0 || self.is_over())
            && let Ok(result) = attempt()
        {
            return result;
        }
        let mut turn = pin!(self.turn.acquire());
        let mut my_turn = None;
        let mut overdue = pin!(tokio::time::sleep(TURN));
        let mut may_overtake = false;
        loop {
            let mut room = pin!(self.room.notified());
            let mut over = pin!(self.over.notified());
            room.as_mut().enable();
            over.as_mut().enable();
            let may_try = my_turn.is_some() || may_overtake || self.is_over();
            if may_try && let Ok(result) = attempt() {
                return result;
            }
            tokio::select! {
                biased;
                // The semaphore is never closed.
                permit = &mut turn, if my_turn.is_none() => my_turn = Some(permit),
                () = room, if may_try => {}
                () = over => {}
                () = &mut overdue, if !may_overtake => may_overtake = true,
            }
        }
    }

    /// Whether all that is pushed is dropped.
    fn is_over(&self) -> bool {
        let state = self.state.lock();
        self.is_closed() || state.broken || state.finished
    }

    /// Nothing more is to be sent: what is queued is dropped, and the peer sees the end behind what was
    /// written. Reading goes on, and should go on until the peer's end: a TCP socket that is closed with
    /// something unread takes back what the peer has not read.
    pub fn finish(&self) {
        let dropped = {
            let mut state = self.state.lock();
            state.finished = true;
            std::mem::take(&mut state.outbox)
        };
        drop(dropped);
        self.room.notify_waiters();
        self.over.notify_waiters();
        self.stream.shut_down_writing();
    }

    /// Writes what is queued, as far as the socket takes it without waiting. If the socket fails, what
    /// is queued is dropped, and the driver sees the end when it has read all that came before it.
    pub fn flush(&self) {
        self.write(false);
    }

    fn write(&self, socket_has_room: bool) {
        let mut pieces = {
            let mut state = self.state.lock();
            if socket_has_room {
                state.full = false;
            }
            if state.flushing || state.full || state.outbox.is_empty() {
                return;
            }
            state.flushing = true;
            state.outbox.take()
        };
        loop {
            let written = with_slices(&pieces, |slices| self.stream.try_write(slices));
            let (written, stop) = match written {
                Ok(written) => (written, false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (0, false),
                Err(error) if is_transient(&error) => (0, true),
                Err(_) => return self.break_off(),
            };
            advance(&mut pieces, written);
            let mut state = self.state.lock();
            if state.broken {
                // Closed meanwhile; what was taken out is dropped as well.
                return;
            }
            if state.finished {
                state.flushing = false;
                return;
            }
            state.outbox.put_back(std::mem::take(&mut pieces), written);
            state.full |= stop;
            if stop || state.outbox.is_empty() {
                state.flushing = false;
                drop(state);
                if stop {
                    self.driver.notify_one();
                }
                if written > 0 {
                    self.room.notify_waiters();
                }
                return;
            }
            pieces = state.outbox.take();
            drop(state);
            if written > 0 {
                self.room.notify_waiters();
            }
        }
    }

    /// Drops what is queued and takes nothing more.
    fn break_off(&self) {
        let dropped =
            std::mem::replace(&mut *self.state.lock(), State { broken: true, ..State::default() });
        drop(dropped);
        self.room.notify_waiters();
        self.over.notify_waiters();
        // To read what is there yet; the end may not come by itself.
        self.driver.notify_one();
    }

    /// Waits for bytes and reads them once; meanwhile writes what is queued whenever the socket has
    /// room. Now and then lets other tasks run, however much there is to read. For one task at a time;
    /// may be dropped at any time.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn receive(&self, inbox: &mut Inbox) -> io::Result<Received> {
        if inbox.must_pause() {
            tokio::task::yield_now().await;
        }
        loop {
            if !self.wake().await? {
                return Ok(Received::Closed);
            }
            let is_broken = self.state.lock().broken;
            match inbox.fill(&self.stream, is_broken) {
                // All is read that came before the peer stopped taking anything.
                Ok(None) if is_broken => return Ok(Received::End),
                Ok(None) => {}
                Ok(Some(0)) => return Ok(Received::End),
                Ok(Some(_)) => return Ok(Received::Bytes),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Ok(Received::End);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until there may be something to read; `false` if the link is closed.
    async fn wake(&self) -> io::Result<bool> {
        loop {
            if self.is_closed() {
                return Ok(false);
            }
            let interest = match &*self.state.lock() {
                State { broken: true, .. } => return Ok(true),
                State { full: true, .. } => Interest::READABLE | Interest::WRITABLE,
                _ => Interest::READABLE,
            };
            // In this order, not in a random one, so that what a simulation does can be repeated. What the
            // driver is told stands in the state, which is looked at before either.
            tokio::select! {
                biased;
                ready = self.stream.ready(interest) => {
                    let ready = ready?;
                    if ready.is_writable() {
                        self.write(true);
                    }
                    if ready.is_readable() || ready.is_read_closed() || ready.is_error() {
                        return Ok(true);
                    }
                }
                () = self.driver.notified() => {}
            }
        }
    }

    /// Ends both directions, for the peer too: what is queued is dropped, the driver is woken.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.break_off();
        self.stream.shut_down();
    }

    /// Whether the link was closed on this side.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Waits until nothing is queued, or the link is closed. Whoever pushed must have flushed.
    pub async fn drained(&self) {
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            if self.queued() == 0 || self.is_closed() {
                return;
            }
            room.await;
        }
    }
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
