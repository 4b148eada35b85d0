//! A connection that does nothing but what a load needs.

use gsb_net::{Inbox, Link, Received, Stream};
use gsb_proto::frame::DEFAULT_MAX_FRAME;
use gsb_proto::messages::{Message, RegisterReply, RegisterRequest};
use gsb_proto::{Address, Frame, FrameDecoder, Framing, MessageKind};

use super::Failure;

/// A connection to a router.
pub(crate) struct Peer {
    link: Link,
    inbox: Inbox,
    framing: Framing,
}

impl Peer {
    pub(crate) async fn connect(address: &Address, framing: Framing) -> Result<Peer, Failure> {
        let stream = Stream::connect(address)
            .await
            .map_err(|error| Failure::Connect { address: address.clone(), error })?;
        let inbox = Inbox::new(FrameDecoder::new(framing, DEFAULT_MAX_FRAME));
        // Whoever loads a router never has more on its way than it was told to.
        Ok(Peer { link: Link::new(stream, usize::MAX), inbox, framing })
    }

    /// Appends a frame to what is to be sent.
    pub(crate) fn push(&self, frame: &Frame) {
        self.link.push_unlimited(self.framing, frame, ());
    }

    /// Sends what was appended.
    pub(crate) fn flush(&self) {
        self.link.flush();
    }

    /// Waits for frames, and hands over all that are there.
    pub(crate) async fn receive(
        &mut self,
        mut each: impl FnMut(&Link, Frame) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if self.link.receive(&mut self.inbox).await? != Received::Bytes {
            return Err(Failure::Closed);
        }
        while let Some(frame) = self.inbox.next_frame()? {
            each(&self.link, frame)?;
        }
        Ok(())
    }

    pub(crate) fn framing(&self) -> Framing {
        self.framing
    }

    /// Registers a name.
    pub(crate) async fn register(&mut self, name: &str) -> Result<(), Failure> {
        self.push(&RegisterRequest { service_id: name.to_owned() }.to_frame());
        self.flush();
        let mut answer = None;
        while answer.is_none() {
            self.receive(|_, frame| {
                if frame.kind == MessageKind::RegisterReply {
                    answer = Some(frame.decode::<RegisterReply>()?);
                }
                Ok(())
            })
            .await?;
        }
        match answer {
            Some(RegisterReply { code: 1.., message }) => {
                Err(Failure::Refused { name: name.to_owned(), message })
            }
            _ => Ok(()),
        }
    }
}
