//! A client connection that does only what a load needs.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use gsb_net::{StdStream, Stream};
use tokio::io::Interest;
use tokio::time::timeout;

use crate::failure::Failure;
use crate::protocol::{Incoming, Protocol};
use crate::target::Target;

/// The smallest read buffer in bytes.
const READ_BUFFER: usize = 64 << 10;

/// How long a request waits for its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A client connection that does only what a load needs.
#[derive(Debug)]
pub struct Peer<P> {
    stream: Stream,
    protocol: P,
    received: BytesMut,
    /// Bytes to be sent; the first `sent` of them have been.
    out: Vec<u8>,
    sent: usize,
}

/// A connection that is not registered with a runtime yet.
#[derive(Debug)]
pub(crate) struct Connection<P> {
    stream: StdStream,
    protocol: P,
}

impl<P: Protocol> Connection<P> {
    /// Connects, and blocks until the connection is made.
    pub(crate) fn connect(target: &Target<P>) -> Result<Self, Failure> {
        let stream = StdStream::connect(&target.address)
            .map_err(|error| Failure::connect(&target.address, error))?;
        Ok(Connection { stream, protocol: target.protocol.clone() })
    }

    /// Registers the connection with the current runtime, and introduces the client at the next
    /// [`flush`](Peer::flush).
    pub(crate) fn start(self) -> Result<Peer<P>, Failure> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let mut peer = Peer {
            stream: Stream::from_std(self.stream)?,
            protocol: self.protocol,
            received: BytesMut::new(),
            out: Vec::new(),
            sent: 0,
        };
        peer.protocol.hello(COUNT.fetch_add(1, Ordering::Relaxed), &mut peer.out);
        Ok(peer)
    }
}

impl<P: Protocol> Peer<P> {
    /// Encodes a message that the next [`flush`](Peer::flush) sends.
    pub fn send(&mut self, encode: impl FnOnce(&P, &mut Vec<u8>)) {
        encode(&self.protocol, &mut self.out);
    }

    /// Writes to the socket as much as it takes. [`receive`](Peer::receive) writes the rest.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn flush(&mut self) -> Result<(), Failure> {
        while self.sent < self.out.len() {
            match self.stream.try_write(&[io::IoSlice::new(&self.out[self.sent..])]) {
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // At most half of the buffer are sent bytes, and each byte is moved at most once.
                    if self.sent > self.out.len() / 2 {
                        self.out.drain(..self.sent);
                        self.sent = 0;
                    }
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.out.clear();
        self.sent = 0;
        Ok(())
    }

    /// Waits until the socket is readable, passes each complete message to `each`, and flushes what `each` encodes.
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    /// The connection failed or was closed, a message cannot be parsed, a request was refused, or `each` fails.
    pub async fn receive(
        &mut self,
        mut each: impl FnMut(&P, Incoming<'_>, &mut Vec<u8>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        loop {
            let interest = match self.sent < self.out.len() {
                true => Interest::READABLE | Interest::WRITABLE,
                false => Interest::READABLE,
            };
            let ready = self.stream.ready(interest).await?;
            if ready.is_writable() {
                self.flush()?;
            }
            if ready.is_readable() || ready.is_read_closed() {
                self.received.reserve(READ_BUFFER);
                let room = self.received.capacity() - self.received.len();
                match self.stream.try_read(&mut self.received, room) {
                    Ok(0) => return Err(Failure::Closed),
                    Ok(_) => break,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        let mut done = 0;
        while let Some((incoming, length)) = self.protocol.next(&self.received[done..])? {
            match incoming {
                Incoming::Ping => self.protocol.pong(&mut self.out),
                Incoming::Refused { code, message } => return Err(Failure::refused(code, message)),
                incoming => each(&self.protocol, incoming, &mut self.out)?,
            }
            done += length;
        }
        self.received.advance(done);
        self.flush()
    }

    /// Sends a request, and waits until it is done.
    ///
    /// # Errors
    /// As those of [`receive`](Peer::receive), and [`Failure::NoAnswer`] if nothing arrives for 10 seconds.
    pub async fn request(&mut self, encode: impl FnOnce(&P, &mut Vec<u8>)) -> Result<(), Failure> {
        self.send(encode);
        self.await_done(1).await
    }

    /// Flushes, and waits until `count` requests are done.
    ///
    /// # Errors
    /// As those of [`receive`](Peer::receive), and [`Failure::NoAnswer`] if nothing arrives for 10 seconds.
    pub(crate) async fn await_done(&mut self, count: u32) -> Result<(), Failure> {
        self.flush()?;
        let mut done = 0;
        while done < count {
            let received = self.receive(|_, incoming, _| {
                done += u32::from(incoming == Incoming::Done);
                Ok(())
            });
            timeout(ANSWER_TIMEOUT, received)
                .await
                .map_err(|_| Failure::NoAnswer(ANSWER_TIMEOUT))??;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use gsb_proto::{Address, Framing};

    use super::*;
    use crate::gsb::Gsb;

    #[tokio::test(start_paused = true)]
    async fn a_request_without_an_answer_times_out() -> Result<(), Failure> {
        let silent = TcpListener::bind("127.0.0.1:0")?;
        let port = silent.local_addr()?.port();
        let address = Address::Tcp { host: "127.0.0.1".to_owned(), port };
        let target = Target { address, protocol: Gsb(Framing::Packet) };
        let mut peer = Connection::connect(&target)?.start()?;
        let answer = peer.request(|protocol, out| protocol.register("/a", false, out)).await;
        assert!(matches!(answer, Err(Failure::NoAnswer(ANSWER_TIMEOUT))), "{answer:?}");
        Ok(())
    }
}
