//! How long a peer is given for what it has begun, and what follows when it takes longer.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gsb_core::{CloseReason, ConnId};
use gsb_net::{Fate, Inbox, Link, TakenBack};
use tokio::time::Sleep;

use crate::shared::Shared;
use crate::ticket::{QueuedCall, Ticket};

/// How often in a stall timeout it is looked who takes too long.
const LOOKS: u32 = 16;

/// How long a peer may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeouts {
    /// For taking a call that is queued for it; one of which it has taken some, or another so many bytes of
    /// it.
    pub(crate) stall: Duration,
    pub(crate) stride: usize,
    /// For taking anything of what is queued for it.
    pub(crate) write: Duration,
    /// For the next byte of a frame that it has begun.
    pub(crate) frame: Duration,
}

impl Begun {
    /// Whether it is this call, and not a stride further.
    fn is_still(&self, call: QueuedCall, stride: usize) -> bool {
        let taken = self.call.left.checked_sub(call.left);
        self.call.is(call) && taken.is_some_and(|taken| taken < stride.max(1))
    }
}

impl Timeouts {
    pub(crate) fn shortest(&self) -> Duration {
        self.stall.min(self.write).min(self.frame)
    }
}

/// A call that is being taken.
#[derive(Debug, Clone, Copy)]
struct Begun {
    call: QueuedCall,
    /// When it began, or another stride did.
    since: Instant,
}

/// Watches over what one peer has begun, by the router's clock.
pub(crate) struct Patience {
    shared: Arc<Shared>,
    timeouts: Timeouts,
    /// Fires at the deadline or before. It is only ever moved to the front: moving it costs more than
    /// looking again. Made when it is needed first, since most connections never do.
    timer: Option<Pin<Box<Sleep>>>,
    armed: Option<Instant>,
    /// When the last byte of a frame came that has begun.
    within_frame: Option<Instant>,
    looked: Option<Instant>,
    /// The call of which the peer has taken some.
    begun: Option<Begun>,
    /// See [`forgiven`](Patience::forgiven): what it was at the time below, and whether it grows.
    forgiven: Duration,
    forgiven_at: Instant,
    waits_for_another: bool,
}

impl Patience {
    pub(crate) fn new(timeouts: Timeouts, shared: Arc<Shared>) -> Self {
        let now = shared.clock.now();
        Patience {
            shared,
            forgiven: Duration::ZERO,
            forgiven_at: now,
            waits_for_another: false,
            timeouts,
            timer: None,
            armed: None,
            within_frame: None,
            looked: None,
            begun: None,
        }
    }

    /// Bytes were read, and whole frames taken out.
    pub(crate) fn has_read(&mut self, inbox: &Inbox, link: &Link<Ticket>) {
        // Of a peer that sends without a pause nobody else might tell.
        if link.is_full() {
            self.arm(self.shared.clock.now() + self.pause());
        }
        self.within_frame = inbox.has_partial_frame().then(|| self.shared.clock.now());
        if let Some(since) = self.within_frame {
            self.arm(since + self.timeouts.frame);
        }
    }

    /// Nothing is read for now, and so the rest of a frame cannot be asked for.
    pub(crate) fn does_not_read(&mut self) {
        self.within_frame = None;
    }

    /// Whether that nothing is read is the fault of another, who does not read what the peer has sent. A peer
    /// that does one thing at a time cannot read then, either.
    pub(crate) fn waits_for_another(&mut self, is_so: bool) {
        let now = self.shared.clock.now();
        self.forgiven = self.forgiven(now);
        self.forgiven_at = now;
        self.waits_for_another = is_so;
    }

    /// The peer is read again.
    pub(crate) fn reads(&mut self) {
        self.waits_for_another(false);
    }

    /// How much longer the peer may take than it otherwise may, for having waited for others.
    fn forgiven(&self, now: Instant) -> Duration {
        let since = now.saturating_duration_since(self.forgiven_at);
        match self.waits_for_another {
            true => self.forgiven.saturating_add(since),
            false if since <= self.timeouts.stall => self.forgiven,
            false => Duration::ZERO,
        }
    }

    /// Completes when it is time to [`look`](Patience::look).
    pub(crate) async fn is_over(&mut self) {
        while let Some(deadline) = self.armed {
            if let Some(timer) = &mut self.timer {
                timer.as_mut().await;
            }
            self.armed = None;
            if self.shared.clock.now() >= deadline {
                return;
            }
            // The router stood still meanwhile.
            self.arm(deadline);
        }
        std::future::pending().await
    }

    /// Looks after the peer: ends the calls that it has not taken in time, and says when it has to be given
    /// up. To be called whenever its socket has become full, and when the patience is over.
    pub(crate) async fn look(
        &mut self,
        id: ConnId,
        link: &Link<Ticket>,
    ) -> Result<(), CloseReason> {
        let now = self.shared.clock.now();
        let Timeouts { stall, stride, write, frame } = self.timeouts;
        if let Some(since) = self.within_frame {
            if now >= since + frame {
                return Err(CloseReason::UnfinishedFrame(frame));
            }
            self.arm(since + frame);
        }
        // What is queued is looked through, which may be much.
        let pause = self.pause();
        if let Some(looked) = self.looked.filter(|looked| now < *looked + pause) {
            self.arm(looked + pause);
            return Ok(());
        }
        // It may have taken something without a word.
        link.flush_full();
        self.looked = Some(now);
        let Some((stuck, begun, first)) = self.waiting(link) else {
            return Ok(());
        };
        self.arm(now + pause);
        let forgiven = self.forgiven(now);
        let write = write.saturating_add(forgiven);
        // Bounded, since others wait for it: those who call the peer.
        let stall = stall.saturating_add(forgiven.min(stall.saturating_mul(2)));
        if now >= stuck + write {
            return Err(CloseReason::NotReading(self.timeouts.write));
        }
        self.begun = begun.map(|call| match self.begun {
            Some(begun) if begun.is_still(call, stride) => begun,
            _ => Begun { call, since: now },
        });
        if let Some(Begun { call, .. }) = self.begun.filter(|begun| now >= begun.since + stall) {
            // What it will not have whole is not the peer's to answer any more, nor the caller's to pay.
            self.shared.not_taken(id, [call.key], true).await;
            if let Some(room) = self.shared.room(id) {
                // Unless the peer has just taken the rest.
                link.change_begun(|ticket| {
                    if ticket.call().is_some_and(|begun| begun.is(call)) {
                        ticket.pass_to(&room);
                    }
                });
            }
        }
        if let Some(call) = first {
            if now < call.since + stall {
                return Ok(());
            }
            let decide = |ticket: &Ticket| match ticket.call() {
                // So it is for all behind it: frames are queued in the order of time.
                _ if now < ticket.since() + stall => Fate::NotYet,
                Some(_) => Fate::TakeBack,
                None => Fate::Stay,
            };
            loop {
                let TakenBack { tickets, is_more } = link.take_back(decide);
                let calls = tickets.iter().filter_map(Ticket::call).map(|call| call.key);
                self.shared.not_taken(id, calls, false).await;
                drop(tickets);
                if !is_more {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    /// How long to look away from a socket that is full.
    fn pause(&self) -> Duration {
        self.timeouts.stall.min(self.timeouts.write) / LOOKS
    }

    fn arm(&mut self, deadline: Instant) {
        if self.armed.is_none_or(|armed| deadline < armed) {
            self.armed = Some(deadline);
            let left = deadline.saturating_duration_since(self.shared.clock.now());
            match &mut self.timer {
                Some(timer) => timer.as_mut().reset(tokio::time::Instant::now() + left),
                None => self.timer = Some(Box::pin(tokio::time::sleep(left))),
            }
        }
    }

    /// Since when the socket has taken nothing, the call of which it has taken some, and the first of those
    /// of which it has not; `None` if the socket is not full.
    fn waiting(
        &self,
        link: &Link<Ticket>,
    ) -> Option<(Instant, Option<QueuedCall>, Option<QueuedCall>)> {
        let mut begun = None;
        let stuck = link.stuck(|ticket, is_begun| {
            let call = ticket.call()?;
            if is_begun {
                begun = Some(call);
                return None;
            }
            Some(call)
        })?;
        let since = self.shared.clock.at(stuck.since.into_std());
        Some((since, begun, stuck.first))
    }
}

#[cfg(test)]
#[path = "patience_tests.rs"]
mod tests;
