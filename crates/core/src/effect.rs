//! What a broker wants done.

use gsb_proto::{Frame, Outgoing};

use crate::close_reason::CloseReason;
use crate::flow::{Charge, Cost};
use crate::ids::ConnId;
use crate::report::Report;

/// Carries out what a [`Broker`](crate::Broker) wants done, in the order in which it is told.
pub trait Effects {
    /// Send a frame, at this cost: see [`Effect::Send`].
    fn send(&mut self, to: ConnId, frame: Outgoing<'_>, cost: Cost<'_>);

    /// Close a connection: see [`Effect::Close`].
    fn close(&mut self, connection: ConnId, reason: CloseReason);

    /// Tell the operator: see [`Effect::Report`].
    fn report(&mut self, connection: ConnId, report: Report);
}

/// Keeps them for later.
impl Effects for Vec<Effect> {
    fn send(&mut self, to: ConnId, frame: Outgoing<'_>, cost: Cost<'_>) {
        self.push(Effect::Send { to, frame: frame.to_frame(), charge: cost.charge() });
    }

    fn close(&mut self, connection: ConnId, reason: CloseReason) {
        self.push(Effect::Close { connection, reason });
    }

    fn report(&mut self, connection: ConnId, report: Report) {
        self.push(Effect::Report { connection, report });
    }
}

/// Something that the owner of a [`Broker`](crate::Broker) has to carry out.
#[derive(Debug)]
pub enum Effect {
    /// Send a frame.
    Send {
        /// To whom; live when the effect was made.
        to: ConnId,
        /// What.
        frame: Frame,
        /// Who pays for it while it is queued: to be dropped when it is written or given up. `None` if
        /// nobody does, because the payer is gone.
        charge: Option<Charge>,
    },
    /// Close a connection. The broker has forgotten it already.
    Close {
        /// Which.
        connection: ConnId,
        /// Why.
        reason: CloseReason,
    },
    /// Tell the operator, who need not be told the same of the same connection again and again.
    Report {
        /// Whose fault it is.
        connection: ConnId,
        /// What happened.
        report: Report,
    },
}
