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

/// A waiter for room that is not polled for this long may be overtaken.
const TURN: Duration = Duration::from_millis(100);

/// A connected socket with an outbox: any task may write to it, and one task, the driver, reads from it.
///
/// Writers [`push`](Link::push) frames and then [`flush`](Link::flush). A flush writes as much as the socket takes without
/// waiting, and does not hold the lock of the outbox while it writes. If another flush is running, that one writes the frames.
/// Frames leave in the order in which they were pushed.
///
/// The driver calls [`receive`](Link::receive) in a loop, which also writes the frames that a flush left because the socket
/// was full.
///
/// A [`QueuedFrame`] travels with each frame, and is told how much of it was written.
#[derive(Debug)]
pub struct Link<T = ()> {
    stream: Stream,
    state: Mutex<State<T>>,
    limit: usize,
    /// Wakes the driver: the socket became full, or the link was closed.
    driver: Notify,
    /// Wakes waiters: there is room again, or the link was closed.
    room: Notify,
    /// Wakes waiters: frames that are pushed from now on are dropped.
    over: Notify,
    /// The first waiter for room holds it, and the others queue for it.
    turn: Semaphore,
    closed: AtomicBool,
}

#[derive(Debug)]
struct State<T> {
    outbox: Outbox<T>,
    /// A task is writing.
    flushing: bool,
    /// The socket was full; only the driver writes until it is not.
    full: bool,
    /// The number of bytes that the socket has taken so far.
    written: u64,
    /// Writing has failed, or the link was closed; pushed frames are dropped.
    broken: bool,
    /// Writing was ended on this side; pushed frames are dropped.
    finished: bool,
    /// A long outbox of a broken link, which is dropped in steps.
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

/// The result of waiting for bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// Bytes were read. They need not end with a whole frame.
    Bytes,
    /// The end of the stream: the peer is gone, or sends nothing more.
    End,
    /// The link was closed on this side.
    Closed,
}

/// The knowledge about the socket before a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Knowledge {
    /// Only the recorded state.
    Nothing,
    /// It has room.
    HasRoom,
    /// The recorded state and the runtime's readiness may be outdated.
    Outdated,
}

/// Why the driver woke up.
enum Woken {
    /// There may be something to read, or the peer is gone.
    Readable,
    /// The socket became full.
    Full,
    /// The link was closed on this side.
    Closed,
}

impl Link {
    /// Takes over a stream. At most `limit` bytes may be queued.
    pub fn new(stream: Stream, limit: usize) -> Self {
        Link { limit, ..Link::unlimited(stream) }
    }

    /// Appends a frame. Returns whether the caller has to [`flush`](Link::flush); otherwise another task flushes. If the link
    /// was closed or the peer is gone, the frame is dropped.
    ///
    /// # Errors
    /// [`OutboxFull`] if the limit does not allow it.
    pub fn push(&self, framing: Framing, frame: &Frame) -> Result<bool, OutboxFull> {
        let pieces = frame.body.slices();
        let frame = Outgoing { kind: frame.kind, slices: &pieces };
        self.push_within(framing, frame, |_| Some(()), self.limit)
    }

    /// Appends a small frame without a limit. Returns whether the caller has to flush. For the few frames that answer or undo
    /// something.
    pub fn push_urgent(&self, framing: Framing, frame: &Frame) -> bool {
        let pieces = frame.body.slices();
        let frame = Outgoing { kind: frame.kind, slices: &pieces };
        self.push_unlimited(framing, frame, |_| Some(()))
    }

    /// Waits until the limit admits a frame, appends it, and flushes. Returns `false` at once if the link is closed.
    pub async fn send(&self, framing: Framing, frame: &Frame) -> bool {
        if self.enqueue(framing, frame).await {
            self.flush();
        }
        !self.is_closed()
    }

    /// Waits until the limit admits a frame, and appends it. Returns whether the caller has to [`flush`](Link::flush), or to
    /// let another task do so: until then the frames of other tasks are not written either.
    pub async fn enqueue(&self, framing: Framing, frame: &Frame) -> bool {
        // A task that sends without a pause must yield to others.
        tokio::task::coop::consume_budget().await;
        self.when_room(|| self.push(framing, frame)).await
    }
}

impl<T: QueuedFrame> Link<T> {
    /// Takes over a stream. The callers limit the queued bytes.
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

    /// The number of bytes in the outbox, which the socket has not taken yet.
    pub fn queued(&self) -> usize {
        self.state.lock().outbox.queued()
    }

    /// Appends a frame without a limit, with a [`QueuedFrame`] as in [`Batch::push`]. Returns whether the caller has to
    /// [`flush`](Link::flush); otherwise another task flushes. If the link was closed or the peer is gone, the frame is
    /// dropped.
    pub fn push_unlimited(
        &self,
        framing: Framing,
        frame: Outgoing<'_>,
        companion: impl FnOnce(Option<&mut T>) -> Option<T>,
    ) -> bool {
        self.push_within(framing, frame, companion, usize::MAX) == Ok(true)
    }

    /// Appends all frames of a batch, as [`push_unlimited`](Link::push_unlimited) appends one, and empties the batch.
    pub fn push_batch(&self, batch: &mut Batch<T>) -> bool {
        let mut state = self.state.lock();
        if self.is_closed() || state.broken || state.finished {
            drop(state);
            batch.clear();
            return false;
        }
        let first = state.outbox.is_empty() && batch.queued() > 0;
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
        // If the outbox was not empty, the task that filled it or the driver is about to flush.
        let first = state.outbox.is_empty();
        state.outbox.push(framing, frame, companion, limit)?;
        Ok(first)
    }

    /// Repeats an attempt to push until it succeeds: now, and whenever there may be more room. Waiters are served in their
    /// order. A waiter whose future is not polled delays the others for at most 100 ms.
    pub async fn when_room<R>(&self, mut attempt: impl FnMut() -> Result<R, OutboxFull>) -> R {
        if (self.turn.available_permits() > 0 || self.is_over())
            && let Ok(result) = attempt()
        {
            return result;
        }
        // The frames in the way may be those that a task has not flushed yet.
        self.flush();
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

    /// Whether pushed frames are dropped.
    fn is_over(&self) -> bool {
        let state = self.state.lock();
        self.is_closed() || state.broken || state.finished
    }

    /// Ends writing: queued frames are dropped, and the peer sees the end behind the written bytes. Go on reading until the
    /// peer ends, too: closing a TCP socket with unread bytes discards bytes that the peer has not read.
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

    /// Writes queued frames as far as the socket takes them without waiting. If the socket fails, queued frames are dropped,
    /// and the task that drives the link (see [`Link`]) sees the end after all received bytes.
    pub fn flush(&self) {
        self.write(Knowledge::Nothing);
    }

    /// [`flush`](Link::flush) that also tries a full socket. A Unix socket becomes writable only when most of it is free; until
    /// then a slow reader would look like a peer that does not read.
    pub fn flush_full(&self) {
        self.write(Knowledge::Outdated);
    }

    /// Writes queued frames as far as the socket takes them within `time`. Blocks the thread: for the end of a runtime, when
    /// awaiting is no longer possible.
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
                // Closed in between; the frames that were taken out are dropped, too.
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

    /// Marks the link as broken and drops queued frames. A long outbox is left to [`clear_away`](Link::clear_away).
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
        // Wakes the driver to read the received bytes; the end may not be signalled.
        self.driver.notify_one();
    }

    /// Waits for bytes and reads once. Meanwhile it writes queued frames whenever the socket has room. It yields to other tasks
    /// regularly. For one task at a time; cancel-safe.
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

    /// [`receive`](Link::receive) that returns `None` when the socket has become full.
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
                // All bytes from before the failure are read.
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

    /// [`receive_or_full`](Link::receive_or_full) without reading: writes until the link or its peer is gone, or the socket
    /// becomes full. Without reading, the end may be seen late.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn write_only(&self) -> io::Result<Option<Received>> {
        match self.wake(None).await? {
            Woken::Closed => Ok(Some(Received::Closed)),
            Woken::Full => Ok(None),
            // Without interest in reading, this means that the link is broken.
            Woken::Readable => Ok(Some(Received::End)),
        }
    }

    /// Waits until the socket is readable, if `reading` asks for it, and writes meanwhile.
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
            // In this order, so that a simulated run can be repeated. The loop looks at the state first, which records why the
            // driver was woken.
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

    /// Whether the socket is full.
    pub fn is_full(&self) -> bool {
        self.state.lock().full
    }

    /// The number of queued bytes, and of bytes that the socket has taken so far.
    pub fn progress(&self) -> (usize, u64) {
        let state = self.state.lock();
        (state.outbox.queued(), state.written)
    }

    /// Calls `visit` for queued frames, in steps of bounded length. Returns whether there are more. All frames are visited that
    /// were queued at the first step and are not written before their turn. `visit` must not use the link.
    pub fn visit(&self, visit: impl FnMut(&mut T)) -> bool {
        self.state.lock().outbox.visit(visit)
    }

    /// Closes both directions, also for the peer. Queued frames are dropped, and the driver is woken.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.break_off();
        self.stream.shut_down();
    }

    /// Drops some of the frames that were queued when the link was closed or broken. Returns whether there are more. The rest is
    /// dropped with the link. Dropping a long outbox at once would take long.
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

    /// Waits until the outbox is empty or the link is closed. The frames must have been flushed.
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
