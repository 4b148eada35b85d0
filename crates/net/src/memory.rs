//! A simulated network inside the process, for tests.
//!
//! It uses tokio's clock, and a seed for everything random. On a single-threaded runtime with a paused clock, the same
//! seed gives the same delays, cuts, and partial reads and writes.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::ops::RangeInclusive;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use fastrand::Rng;
use parking_lot::Mutex;
use tokio::io::{Interest, Ready};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout_at};

/// The properties of a [`Network`].
#[derive(Debug, Clone)]
pub struct Conditions {
    /// How long it takes for written bytes or the end of a stream to arrive, and for a connection to be made. Each delay
    /// is a random whole number of milliseconds, the resolution of tokio's timers. Delays never change the order of
    /// bytes. 0 to 5 ms by default.
    pub delay: RangeInclusive<Duration>,
    /// How many unread bytes one direction of a connection holds, whether they have arrived or not. 64 KiB by default; 0
    /// means 1.
    pub capacity: usize,
}

impl Default for Conditions {
    fn default() -> Self {
        Conditions { delay: Duration::ZERO..=Duration::from_millis(5), capacity: 64 << 10 }
    }
}

impl Conditions {
    fn draw_delay(&self, rng: &mut Rng) -> Duration {
        let millis = |time: &Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (least, most) = (millis(self.delay.start()), millis(self.delay.end()));
        Duration::from_millis(rng.u64(least..=most.max(least)))
    }
}

/// A network with one address, at which one [`MemoryListener`] at a time may listen. Cheap to clone; all clones are the
/// same network.
#[derive(Debug, Clone)]
pub struct Network {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    conditions: Conditions,
    state: Mutex<NetworkState>,
    /// Notified when a connection arrives.
    arrived: Notify,
}

#[derive(Debug)]
struct NetworkState {
    rng: Rng,
    /// Connections that wait to be accepted; `None` without a listener.
    waiting: Option<VecDeque<MemoryStream>>,
    /// All connections in the order in which they were made. Some are closed.
    pipes: Vec<Weak<Pipe>>,
}

impl NetworkState {
    fn open_pipes(&mut self) -> Vec<Arc<Pipe>> {
        let open: Vec<_> =
            self.pipes.iter().filter_map(Weak::upgrade).filter(|pipe| pipe.is_open()).collect();
        self.pipes = open.iter().map(Arc::downgrade).collect();
        open
    }
}

impl Network {
    /// A network without a listener.
    pub fn new(seed: u64, conditions: Conditions) -> Self {
        let state = NetworkState { rng: Rng::with_seed(seed), waiting: None, pipes: Vec::new() };
        let arrived = Notify::new();
        Network { inner: Arc::new(Inner { conditions, state: Mutex::new(state), arrived }) }
    }

    /// Makes a listener, which listens until it is dropped.
    ///
    /// # Errors
    /// [`ErrorKind::AddrInUse`] while there is another listener.
    pub fn listen(&self) -> io::Result<MemoryListener> {
        let mut state = self.inner.state.lock();
        if state.waiting.is_some() {
            return Err(ErrorKind::AddrInUse.into());
        }
        state.waiting = Some(VecDeque::new());
        Ok(MemoryListener { inner: self.inner.clone() })
    }

    /// Connects to the listener, after a delay.
    ///
    /// # Errors
    /// [`ErrorKind::ConnectionRefused`] if there is no listener after the delay.
    ///
    /// # Panics
    /// Outside of a tokio runtime with time enabled.
    pub async fn connect(&self) -> io::Result<MemoryStream> {
        let delay = self.inner.conditions.draw_delay(&mut self.inner.state.lock().rng);
        sleep(delay).await;
        let mut state = self.inner.state.lock();
        let NetworkState { rng, waiting: Some(waiting), pipes } = &mut *state else {
            return Err(ErrorKind::ConnectionRefused.into());
        };
        let (near, far) = pair(&self.inner.conditions, rng.fork());
        waiting.push_back(far);
        pipes.retain(|pipe| pipe.strong_count() > 0);
        pipes.push(Arc::downgrade(&near.pipe));
        drop(state);
        self.inner.arrived.notify_one();
        Ok(near)
    }

    /// Number of open connections: those that neither end has shut down and that were not cut. Connections that are not
    /// accepted yet count, too.
    pub fn connections(&self) -> usize {
        self.inner.state.lock().open_pipes().len()
    }

    /// Cuts every open connection: unread bytes are lost, and both ends get [`ErrorKind::ConnectionReset`] at once.
    pub fn cut_all(&self) {
        let open = self.inner.state.lock().open_pipes();
        for pipe in open {
            pipe.cut();
        }
    }

    /// Cuts a random open connection. Returns `false` if there is none.
    pub fn cut_one(&self) -> bool {
        let mut state = self.inner.state.lock();
        let open = state.open_pipes();
        let chosen = state.rng.choice(&open);
        drop(state);
        chosen.inspect(|pipe| pipe.cut()).is_some()
    }
}

/// Accepts the connections to a [`Network`]. When it is dropped, later connections are refused, and those that were not
/// accepted are closed.
#[derive(Debug)]
pub struct MemoryListener {
    inner: Arc<Inner>,
}

impl MemoryListener {
    /// Waits for the next connection. Only one task at a time may wait. Cancel-safe.
    pub async fn accept(&self) -> MemoryStream {
        loop {
            let next = self.inner.state.lock().waiting.as_mut().and_then(VecDeque::pop_front);
            if let Some(stream) = next {
                return stream;
            }
            self.inner.arrived.notified().await;
        }
    }
}

impl Drop for MemoryListener {
    fn drop(&mut self) {
        let waiting = self.inner.state.lock().waiting.take();
        drop(waiting);
    }
}

/// One end of a connection over a [`Network`]. It is shut down when it is dropped.
#[derive(Debug)]
pub struct MemoryStream {
    pipe: Arc<Pipe>,
    /// 0 or 1. The other end has `1 - side`.
    side: usize,
}

#[derive(Debug)]
struct Pipe {
    conditions: Conditions,
    state: Mutex<PipeState>,
    /// For each side, notified when something changes that it may wait for.
    changed: [Notify; 2],
}

#[derive(Debug)]
struct PipeState {
    /// Each connection has its own generator, so that it does not depend on other connections.
    rng: Rng,
    is_cut: bool,
    /// For each side, the direction that it reads from.
    flows: [Flow; 2],
}

/// One direction of a connection.
#[derive(Debug, Default)]
struct Flow {
    /// The unread bytes, with their times of arrival. No chunk is empty.
    chunks: VecDeque<(Instant, Bytes)>,
    /// Number of bytes in `chunks`.
    length: usize,
    /// When the last written bytes arrive.
    latest: Option<Instant>,
    /// When the end arrives, if the sender has shut down.
    end: Option<Instant>,
    /// Whether the receiver has shut down.
    is_closed: bool,
}

impl Flow {
    /// When bytes arrive that are written now.
    fn arrival(&mut self, delay: Duration) -> Instant {
        let arrival = Instant::now() + delay;
        // Bytes never overtake earlier ones.
        let arrival = self.latest.map_or(arrival, |latest| latest.max(arrival));
        self.latest = Some(arrival);
        arrival
    }

    /// When the next bytes, or the end, can be read.
    fn next(&self) -> Option<Instant> {
        self.chunks.front().map(|(arrival, _)| *arrival).or(self.end)
    }

    fn has_ended(&self, now: Instant) -> bool {
        self.end.is_some_and(|end| end <= now)
    }

    fn clear(&mut self) {
        self.chunks.clear();
        self.length = 0;
    }
}

/// The two ends of a connection.
fn pair(conditions: &Conditions, rng: Rng) -> (MemoryStream, MemoryStream) {
    let pipe = Arc::new(Pipe {
        conditions: conditions.clone(),
        state: Mutex::new(PipeState { rng, is_cut: false, flows: Default::default() }),
        changed: Default::default(),
    });
    let far = MemoryStream { pipe: pipe.clone(), side: 1 };
    (MemoryStream { pipe, side: 0 }, far)
}

impl Pipe {
    /// Whether the connection was not cut and neither end has shut down.
    fn is_open(&self) -> bool {
        let state = self.state.lock();
        !state.is_cut && !state.flows.iter().any(|flow| flow.is_closed)
    }

    fn cut(&self) {
        let mut state = self.state.lock();
        state.is_cut = true;
        state.flows.iter_mut().for_each(Flow::clear);
        drop(state);
        self.changed.iter().for_each(Notify::notify_waiters);
    }
}

impl PipeState {
    /// What `side` is ready for; if nothing, when to check again.
    fn readiness(
        &self,
        side: usize,
        interest: Interest,
        capacity: usize,
    ) -> (Ready, Option<Instant>) {
        let now = Instant::now();
        let (incoming, outgoing) = (&self.flows[side], &self.flows[1 - side]);
        let is_over = self.is_cut || incoming.is_closed;
        let mut ready = Ready::EMPTY;
        let mut look_again = None;
        if interest.is_readable() {
            match incoming.next() {
                _ if is_over => ready |= Ready::READABLE | Ready::READ_CLOSED,
                Some(next) if next <= now => ready |= Ready::READABLE,
                next => look_again = next,
            }
        }
        if interest.is_writable() {
            if is_over {
                ready |= Ready::WRITABLE | Ready::WRITE_CLOSED;
            } else if outgoing.length < capacity {
                ready |= Ready::WRITABLE;
            }
        }
        (ready, look_again)
    }

    fn read(&mut self, side: usize, buffer: &mut BytesMut, most: usize) -> io::Result<usize> {
        let now = Instant::now();
        let PipeState { rng, is_cut, flows } = self;
        let flow = &mut flows[side];
        if *is_cut {
            return Err(ErrorKind::ConnectionReset.into());
        }
        let arrived = flow.chunks.iter().take_while(|(arrival, _)| *arrival <= now);
        let arrived: usize = arrived.map(|(_, chunk)| chunk.len()).sum();
        let has_ended = flow.is_closed || (flow.chunks.is_empty() && flow.has_ended(now));
        if arrived == 0 && !has_ended {
            return Err(ErrorKind::WouldBlock.into());
        }
        let read = part(rng, arrived.min(most));
        let mut left = read;
        while let Some((_, chunk)) = flow.chunks.front_mut().filter(|_| left > 0) {
            let taken = chunk.split_to(left.min(chunk.len()));
            buffer.extend_from_slice(&taken);
            left -= taken.len();
            if !chunk.has_remaining() {
                flow.chunks.pop_front();
            }
        }
        flow.length -= read;
        Ok(read)
    }

    fn write(
        &mut self,
        side: usize,
        slices: &[IoSlice<'_>],
        conditions: &Conditions,
    ) -> io::Result<usize> {
        let PipeState { rng, is_cut, flows } = self;
        if *is_cut {
            return Err(ErrorKind::ConnectionReset.into());
        }
        let incoming = &flows[side];
        // Until the end of the other direction arrives, the written bytes are accepted and lost.
        if incoming.is_closed || incoming.has_ended(Instant::now()) {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let flow = &mut flows[1 - side];
        let wanted = slices.iter().map(|slice| slice.len()).sum();
        let room = conditions.capacity.max(1) - flow.length;
        if room == 0 && wanted > 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let written = part(rng, room.min(wanted));
        if written == 0 || flow.is_closed {
            return Ok(written);
        }
        let mut chunk = BytesMut::with_capacity(written);
        for slice in slices {
            let left = written - chunk.len();
            chunk.extend_from_slice(&slice[..left.min(slice.len())]);
        }
        let arrival = flow.arrival(conditions.draw_delay(rng));
        flow.chunks.push_back((arrival, chunk.freeze()));
        flow.length += written;
        Ok(written)
    }
}

/// How many of `most` bytes a read or write handles. Half of the time all of them, so that large frames get through;
/// otherwise fewer, and often very few, so that headers are divided, too.
fn part(rng: &mut Rng, most: usize) -> usize {
    match rng.u8(0..4) {
        _ if most == 0 => 0,
        0 => rng.usize(1..=most.min(16)),
        1 => rng.usize(1..=most),
        _ => most,
    }
}

impl MemoryStream {
    /// The peer's user id, at both ends of every connection.
    pub(crate) const UID: u32 = 1000;

    pub(crate) async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        loop {
            // Created before the check, so that no change is missed.
            let changed = self.pipe.changed[self.side].notified();
            let capacity = self.pipe.conditions.capacity.max(1);
            let (ready, look_again) =
                self.pipe.state.lock().readiness(self.side, interest, capacity);
            match look_again {
                _ if !ready.is_empty() => return Ok(ready),
                None => changed.await,
                // Either something changed or the time has come.
                Some(time) => drop(timeout_at(time, changed).await),
            }
        }
    }

    /// Reads some of the bytes that have arrived, at most `most`, and appends them to `buffer`. Returns their number, 0 at
    /// the end. Public for tests that play a peer byte by byte.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`] if nothing has arrived, [`ErrorKind::ConnectionReset`] after a cut.
    pub fn try_read(&self, buffer: &mut BytesMut, most: usize) -> io::Result<usize> {
        let read = self.pipe.state.lock().read(self.side, buffer, most)?;
        self.pipe.changed[1 - self.side].notify_waiters();
        Ok(read)
    }

    /// Writes some of the bytes, as many as there is room for or fewer. Returns their number.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`] if there is no room, [`ErrorKind::ConnectionReset`] after a cut,
    /// [`ErrorKind::BrokenPipe`] if the other end has shut down.
    pub fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let written = self.pipe.state.lock().write(self.side, slices, &self.pipe.conditions)?;
        self.pipe.changed[1 - self.side].notify_waiters();
        Ok(written)
    }

    pub(crate) fn shut_down(&self) {
        let mut state = self.pipe.state.lock();
        let incoming = &mut state.flows[self.side];
        if std::mem::replace(&mut incoming.is_closed, true) {
            return;
        }
        incoming.clear();
        drop(state);
        self.shut_down_writing();
    }

    /// Shuts down the direction to the other end, after the written bytes.
    pub(crate) fn shut_down_writing(&self) {
        let mut state = self.pipe.state.lock();
        let PipeState { rng, flows, .. } = &mut *state;
        let outgoing = &mut flows[1 - self.side];
        if outgoing.end.is_none() {
            outgoing.end = Some(outgoing.arrival(self.pipe.conditions.draw_delay(rng)));
        }
        drop(state);
        self.pipe.changed.iter().for_each(Notify::notify_waiters);
    }
}

impl Drop for MemoryStream {
    fn drop(&mut self) {
        self.shut_down();
    }
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
