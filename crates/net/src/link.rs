//! A stream with its outbox.

use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gsb_proto::{Frame, Framing, Outgoing};
use parking_lot::Mutex;
use tokio::io::Interest;
use tokio::sync::{Notify, Semaphore};

use crate::batch::Batch;
use crate::inbox::{Inbox, is_transient};
use crate::outbox::{Outbox, OutboxFull, advance, with_slices};
use crate::queue::QueuedFrame;
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
///
/// With each frame travels a [`QueuedFrame`], which learns what becomes of it.
#[derive(Debug)]
pub struct Link<T = ()> {
    stream: Stream,
    state: Mutex<State<T>>,
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

#[derive(Debug)]
struct State<T> {
    outbox: Outbox<T>,
    /// Somebody is writing.
    flushing: bool,
    /// The socket was full; only the driver writes until it is not.
    full: bool,
    /// How many bytes the socket has ever taken.
    written: u64,
    /// The socket takes nothing any more; what is pushed is dropped.
    broken: bool,
    /// Nothing more is to be sent; what is pushed is dropped.
    finished: bool,
    /// What was queued when it broke, if that was very much.
    leftover: Option<Box<Outbox<T>>>,
}

impl<T> Default for State<T> {
    fn default() -> Self {
        State {
            outbox: Outbox::default(),
            flushing: false,
            full: false,
            written: 0,
            broken: false,
            finished: false,
            leftover: None,
        }
    }
}

/// Time between attempts to write by a thread that must not wait for the runtime.
const RETRY: Duration = Duration::from_millis(1);

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

/// What whoever writes knows of the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Knowledge {
    /// No more than what is noted of it.
    Nothing,
    /// That it has room.
    HasRoom,
    /// That what is noted of it, and what the runtime has last heard, may be true no more.
    Outdated,
}

/// What ended a wait of the driver.
enum Woken {
    /// There may be something to read, or the peer is gone.
    Readable,
    /// The socket became full.
    Full,
    /// The link was closed on this side.
    Closed,
}

impl Link {
    /// Takes over a stream; `limit` is how many bytes may wait to be written.
    pub fn new(stream: Stream, limit: usize) -> Self {
        Link { limit, ..Link::unlimited(stream) }
    }

    /// Appends a frame; `true` if the caller has to [`flush`](Link::flush), `false` if somebody else will.
    /// On a link that was closed, or whose peer is gone, the frame is dropped.
    ///
    /// # Errors
    /// [`OutboxFull`] if the limit does not allow it.
    pub fn push(&self, framing: Framing, frame: &Frame) -> Result<bool, OutboxFull> {
        let pieces = frame.body.slices();
        let frame = Outgoing { kind: frame.kind, slices: &pieces };
        self.push_within(framing, frame, |_| Some(()), self.limit)
    }

    /// Appends a small frame whatever the limit says; `true` if the caller has to flush. For frames that
    /// answer or undo something, of which there are few.
    pub fn push_urgent(&self, framing: Framing, frame: &Frame) -> bool {
        let pieces = frame.body.slices();
        let frame = Outgoing { kind: frame.kind, slices: &pieces };
        self.push_unlimited(framing, frame, |_| Some(()))
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
}

impl<T: QueuedFrame> Link<T> {
    /// Takes over a stream. Whoever pushes sees to it that there is a limit to what waits to be written.
    pub fn unlimited(stream: Stream) -> Self {
        Link {
            stream,
            state: Mutex::default(),
            limit: usize::MAX,
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

    /// Appends a frame whatever the limit says, with what travels with it as in [`Batch::push`]; `true` if the caller has to
    /// [`flush`](Link::flush), `false` if somebody else will. On a link that was closed, or whose peer is gone, the
    /// frame is dropped.
    pub fn push_unlimited(
        &self,
        framing: Framing,
        frame: Outgoing<'_>,
        companion: impl FnOnce(Option<&mut T>) -> Option<T>,
    ) -> bool {
        self.push_within(framing, frame, companion, usize::MAX) == Ok(true)
    }

    /// Appends all frames of a batch, which is empty then, as [`push_unlimited`](Link::push_unlimited) appends one.
    pub fn push_batch(&self, batch: &mut Batch<T>) -> bool {
        let mut state = self.state.lock();
        if self.is_closed() || state.broken || state.finished {
            drop(state);
            batch.clear();
            return false;
        }
        let first = state.outbox.is_empty();
        state.outbox.push_batch(batch);
        first
    }

    fn push_within(
        &self,
        framing: Framing,
        frame: Outgoing<'_>,
        companion: impl FnOnce(Option<&mut T>) -> Option<T>,
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
        state.outbox.push(framing, frame, companion, limit)?;
        Ok(first)
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
        self.write(Knowledge::Nothing);
    }

    /// [`flush`](Link::flush) that asks a full socket, too, without waiting for it to say that it has room: a
    /// Unix socket does not before most of it is free, and until then a peer that reads slowly looks like one
    /// that does not read.
    pub fn flush_full(&self) {
        self.write(Knowledge::Outdated);
    }

    /// Writes what is queued, as far as the socket takes it within `time`. Blocks the thread: for the end of a
    /// runtime, when nothing can be awaited any more.
    pub fn write_within(&self, time: Duration) {
        let start = std::time::Instant::now();
        loop {
            self.flush_full();
            if self.queued() == 0 || self.is_over() || !self.stream.is_socket() {
                return;
            }
            if start.elapsed() >= time {
                return;
            }
            std::thread::sleep(RETRY);
        }
    }

    fn write(&self, knowledge: Knowledge) {
        let mut pieces = {
            let mut state = self.state.lock();
            if state.flushing || state.outbox.is_empty() {
                return;
            }
            if state.full && knowledge == Knowledge::Nothing {
                return;
            }
            state.flushing = true;
            state.outbox.take()
        };
        loop {
            let written = with_slices(&pieces, |slices| match knowledge {
                Knowledge::Outdated => self.stream.write_now(slices),
                Knowledge::Nothing | Knowledge::HasRoom => self.stream.try_write(slices),
            });
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
            state.written += written as u64;
            state.full = stop;
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

    /// Drops what is queued, but for what is left to [`clear_away`](Link::clear_away), and takes nothing more.
    fn break_off(&self) {
        let dropped = {
            let mut state = self.state.lock();
            let broken = State { broken: true, ..State::default() };
            let mut dropped = std::mem::replace(&mut *state, broken);
            state.leftover = dropped.leftover.take();
            if dropped.outbox.is_long() {
                state.leftover = Some(Box::new(std::mem::take(&mut dropped.outbox)));
            }
            dropped
        };
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
        loop {
            if let Some(received) = self.receive_or_full(inbox).await? {
                return Ok(received);
            }
        }
    }

    /// [`receive`](Link::receive) that ends, with `None`, also whenever the socket has become full.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn receive_or_full(&self, inbox: &mut Inbox) -> io::Result<Option<Received>> {
        if inbox.should_yield() {
            tokio::task::yield_now().await;
        }
        loop {
            match self.wake(Some(Interest::READABLE)).await? {
                Woken::Closed => return Ok(Some(Received::Closed)),
                Woken::Full => return Ok(None),
                Woken::Readable => {}
            }
            let is_broken = self.state.lock().broken;
            match inbox.fill(&self.stream, is_broken) {
                // All is read that came before the peer stopped taking anything.
                Ok(None) if is_broken => return Ok(Some(Received::End)),
                Ok(None) => {}
                Ok(Some(0)) => return Ok(Some(Received::End)),
                Ok(Some(_)) => return Ok(Some(Received::Bytes)),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Ok(Some(Received::End));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// [`receive_or_full`](Link::receive_or_full) that reads nothing: writes until the link or its peer is gone, which
    /// for want of reading may be seen late, or until the socket becomes full.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn write_only(&self) -> io::Result<Option<Received>> {
        match self.wake(None).await? {
            Woken::Closed => Ok(Some(Received::Closed)),
            Woken::Full => Ok(None),
            // There is nothing to read for; it is broken.
            Woken::Readable => Ok(Some(Received::End)),
        }
    }

    /// Waits for what there is to read, if that is wanted, and writes.
    async fn wake(&self, reading: Option<Interest>) -> io::Result<Woken> {
        loop {
            if self.is_closed() {
                return Ok(Woken::Closed);
            }
            let writing = match &*self.state.lock() {
                State { broken: true, .. } => return Ok(Woken::Readable),
                State { full: true, .. } => Some(Interest::WRITABLE),
                _ => None,
            };
            let interest = match (reading, writing) {
                (Some(reading), Some(writing)) => Some(reading | writing),
                (reading, writing) => reading.or(writing),
            };
            let ready = async {
                match interest {
                    Some(interest) => self.stream.ready(interest).await,
                    None => std::future::pending().await,
                }
            };
            // In this order, not in a random one, so that what a simulation does can be repeated. What the
            // driver is told stands in the state, which is looked at before either.
            tokio::select! {
                biased;
                ready = ready => {
                    let ready = ready?;
                    if ready.is_writable() {
                        self.write(Knowledge::HasRoom);
                    }
                    let is_readable = ready.is_readable() || ready.is_read_closed() || ready.is_error();
                    if reading.is_some() && is_readable {
                        return Ok(Woken::Readable);
                    }
                }
                () = self.driver.notified() => {
                    if self.state.lock().full {
                        return Ok(Woken::Full);
                    }
                }
            }
        }
    }

    /// Whether the socket takes nothing for now.
    pub fn is_full(&self) -> bool {
        self.state.lock().full
    }

    /// How many bytes wait to be written, and how many the socket has ever taken.
    pub fn progress(&self) -> (usize, u64) {
        let state = self.state.lock();
        (state.outbox.queued(), state.written)
    }

    /// Shows what travels with the queued frames to `visit`, in steps that others can wait for: whether there are more.
    /// Each frame is visited that is queued when the first step begins, and not written before its turn. `visit` must
    /// not use the link.
    pub fn visit(&self, visit: impl FnMut(&mut T)) -> bool {
        self.state.lock().outbox.visit(visit)
    }

    /// Ends both directions, for the peer too: what is queued is dropped, the driver is woken.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.break_off();
        self.stream.shut_down();
    }

    /// Drops some of what was queued when the link was closed or its peer went; whether there is more, which
    /// goes with the link at the latest. To drop very much at once would take long.
    pub fn clear_away(&self) -> bool {
        let leftover = self.state.lock().leftover.take();
        let Some(mut outbox) = leftover else {
            return false;
        };
        let is_more = outbox.drop_some();
        if is_more {
            self.state.lock().leftover = Some(outbox);
        }
        is_more
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
