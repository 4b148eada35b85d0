//! The effects of events: frames to send, connections to close, reports for the operator.

use gsb_proto::{Frame, Outgoing};

use crate::close_reason::CloseReason;
use crate::flow::{Charge, Cost};
use crate::ids::ConnId;
use crate::report::Report;

/// Carries out the effects of a [`Broker`](crate::Broker), in the order of the calls.
pub trait Effects {
    /// Send a frame, at this cost: see [`Effect::Send`].
    fn send(&mut self, to: ConnId, frame: Outgoing<'_>, cost: Cost<'_>);

    /// Close a connection: see [`Effect::Close`].
    fn close(&mut self, connection: ConnId, reason: CloseReason);

    /// Tell the operator: see [`Effect::Report`].
    fn report(&mut self, connection: ConnId, report: Report);
}

/// Stores the effects, in their order.
impl Effects for Vec<Effect> {
    fn send(&mut self, to: ConnId, frame: Outgoing<'_>, cost: Cost<'_>) {
        let charge = cost.charge(None);
        self.push(Effect::Send { to, frame: frame.to_frame(), charge });
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
        /// The receiver, which is connected at that moment.
        to: ConnId,
        /// The frame.
        frame: Frame,
        /// Pays for the frame while it is queued. Drop it when the frame was written or dropped. Always `Some`: stored
        /// frames are charged one by one.
        charge: Option<Charge>,
    },
    /// Close a connection, which the broker has removed already.
    Close {
        /// The connection.
        connection: ConnId,
        /// The reason.
        reason: CloseReason,
    },
    /// Tell the operator. Repeated reports about one connection need not be shown.
    Report {
        /// The connection that caused it.
        connection: ConnId,
        /// What happened.
        report: Report,
    },
}
