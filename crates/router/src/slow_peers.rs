//! Watches peers that do not read (rules LI-3 and LI-4).

use std::collections::BTreeSet;
use std::sync::Arc;

use gsb_core::{ConnId, Progress};
use gsb_net::Link;

use crate::queued_frame::QueuedFrame;
use crate::router_state::RouterState;

/// How often a slow peer is checked within the timeout.
const LOOKS: u32 = 16;

/// Checks a peer whose socket is full, several times in the shorter of the stall and the write timeout, until its
/// outbox is empty.
pub(crate) async fn watch(state: Arc<RouterState>, id: ConnId, link: Arc<Link<QueuedFrame>>) {
    while look(&state, id, &link).await > 0 {
        state.clock.sleep_until(state.clock.now() + state.read_timeout / LOOKS).await;
    }
}

/// Reports to the broker how much of its outbox a peer has read. If the peer has stalled, the calls in the outbox end.
/// Returns the number of queued bytes.
async fn look(state: &RouterState, id: ConnId, link: &Link<QueuedFrame>) -> usize {
    // A Unix socket becomes writable only when most of it is free.
    link.flush_full();
    let (queued, written) = link.progress();
    let mut callers = BTreeSet::new();
    visit(link, |frame| callers.extend(frame.0.paused_caller())).await;
    if state.look_at_slow_peer(id, Progress { queued, written }, &callers) {
        let mut calls = Vec::new();
        visit(link, |frame| calls.extend(frame.0.stall())).await;
        state.end_stalled_calls(id, calls).await;
    }
    queued
}

async fn visit(link: &Link<QueuedFrame>, mut visit: impl FnMut(&mut QueuedFrame)) {
    while link.visit(&mut visit) {
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
#[path = "slow_peers_tests.rs"]
mod tests;
