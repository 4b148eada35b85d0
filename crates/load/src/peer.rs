//! A connection that does nothing but what a load needs.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use gsb_net::{StdStream, Stream};
use tokio::io::Interest;
use tokio::time::timeout;

use crate::{Failure, Heard, Protocol, Target};

/// Room that each read is offered, in bytes.
const ROOM: usize = 64 << 10;

/// A router that says nothing for so long will not answer.
const ANSWER: Duration = Duration::from_secs(10);

/// A connection that does nothing but what a load needs.
#[derive(Debug)]
pub struct Peer<P> {
    stream: Stream,
    protocol: P,
    received: BytesMut,
    /// What is to be sent, of which so much was.
    out: Vec<u8>,
    sent: usize,
}

/// A connection that belongs to no thread yet.
#[derive(Debug)]
pub(crate) struct Connected<P> {
    stream: StdStream,
    protocol: P,
}

impl<P: Protocol> Connected<P> {
    /// Connects, waiting as long as that takes.
    pub(crate) fn connect(target: &Target<P>) -> Result<Self, Failure> {
        let stream = StdStream::connect(&target.address)
            .map_err(|error| Failure::connect(&target.address, error))?;
        Ok(Connected { stream, protocol: target.protocol.clone() })
    }

    /// Joins the current runtime, and introduces the peer.
    pub(crate) fn join(self) -> Result<Peer<P>, Failure> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let mut peer = Peer {
            stream: Stream::from_std(self.stream)?,
            protocol: self.protocol,
            received: BytesMut::new(),
            out: Vec::new(),
            sent: 0,
        };
        peer.protocol.greet(COUNT.fetch_add(1, Ordering::Relaxed), &mut peer.out);
        Ok(peer)
    }
}

impl<P: Protocol> Peer<P> {
    /// Says something, at the next [`flush`](Peer::flush).
    pub fn say(&mut self, say: impl FnOnce(&P, &mut Vec<u8>)) {
        say(&self.protocol, &mut self.out);
    }

    /// Sends what was said, as far as the socket takes it. [`receive`](Peer::receive) sends the rest.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn flush(&mut self) -> Result<(), Failure> {
        while self.sent < self.out.len() {
            match self.stream.try_write(&[io::IoSlice::new(&self.out[self.sent..])]) {
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // Each byte is moved once at most, and there are never twice as many as wait.
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

    /// Waits for something, hands over all that is there, and sends what is said to that. May be dropped at
    /// any time.
    ///
    /// # Errors
    /// The connection has failed or ended, what came cannot be read, or `each` fails.
    pub async fn receive(
        &mut self,
        mut each: impl FnMut(&P, Heard<'_>, &mut Vec<u8>) -> Result<(), Failure>,
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
                self.received.reserve(ROOM);
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
        while let Some((heard, length)) = self.protocol.next(&self.received[done..])? {
            match heard {
                Heard::Ping => self.protocol.answer_ping(&mut self.out),
                Heard::Refused(why) => return Err(Failure::Refused(why.to_owned())),
                heard => each(&self.protocol, heard, &mut self.out)?,
            }
            done += length;
        }
        self.received.advance(done);
        self.flush()
    }

    /// Says something that is answered, and waits for that.
    ///
    /// # Errors
    /// As those of [`receive`](Peer::receive), and [`Failure::NoAnswer`] if nothing comes for ten seconds.
    pub async fn ask(&mut self, say: impl FnOnce(&P, &mut Vec<u8>)) -> Result<(), Failure> {
        self.say(say);
        self.await_done(1).await
    }

    /// Sends what was said, and waits until so much of it is done.
    ///
    /// # Errors
    /// As those of [`receive`](Peer::receive), and [`Failure::NoAnswer`] if nothing comes for ten seconds.
    pub(crate) async fn await_done(&mut self, count: u32) -> Result<(), Failure> {
        self.flush()?;
        let mut done = 0;
        while done < count {
            let received = self.receive(|_, heard, _| {
                done += u32::from(heard == Heard::Done);
                Ok(())
            });
            timeout(ANSWER, received).await.map_err(|_| Failure::NoAnswer(ANSWER))??;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use gsb_proto::{Address, Framing};

    use super::*;
    use crate::Gsb;

    #[tokio::test(start_paused = true)]
    async fn a_router_that_never_answers_is_given_up() -> Result<(), Failure> {
        let silent = TcpListener::bind("127.0.0.1:0")?;
        let port = silent.local_addr()?.port();
        let address = Address::Tcp { host: "127.0.0.1".to_owned(), port };
        let target = Target { address, protocol: Gsb(Framing::Packet) };
        let mut peer = Connected::connect(&target)?.join()?;
        let answer = peer.ask(|protocol, out| protocol.serve("/a", out)).await;
        assert!(matches!(answer, Err(Failure::NoAnswer(ANSWER))), "{answer:?}");
        Ok(())
    }
}
