//! The choice of the service that gets a call (rules SV-3, SV-8, SV-10 and SV-11).

use gsb_proto::head::CallHead;
use gsb_proto::messages::RegisterMode;

use crate::broker::Broker;
use crate::config::STREAMS_LEVEL;
use crate::groups::{CallKind, Condition, GroupKey, Unavailable};
use crate::ids::{CallKey, ConnId};
use crate::route_cache::Route;

/// The service that gets a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    pub(crate) service: ConnId,
    /// The group that it was chosen from.
    group: Option<GroupKey>,
}

impl Broker {
    /// The service that gets a call.
    #[inline]
    pub(crate) fn target(&mut self, head: &CallHead<'_>) -> Result<Target, Unavailable> {
        match self.services.find(head.address, |id| self.connections.get(id).is_some()) {
            Some(Route::Owner(service)) if self.flow.is_stalled(service) => {
                Err(Unavailable::Stalled(service))
            }
            Some(Route::Owner(service)) => Ok(Target { service, group: None }),
            Some(Route::Group(group)) => self.choose(group, head),
            None => Err(Unavailable::Gone),
        }
    }

    // Not inlined: an ordinary call has no group.
    #[inline(never)]
    fn choose(&mut self, group: GroupKey, head: &CallHead<'_>) -> Result<Target, Unavailable> {
        let (groups, connections, flow) =
            (&mut self.services.groups, &self.connections, &self.flow);
        let mode = groups.mode(group);
        let mut choose = |least_level| {
            let condition = |owner| match connections.get(owner) {
                Some(peer) if peer.level < least_level => Condition::Gone,
                Some(_) if flow.is_stalled(owner) => Condition::Stalled,
                Some(_) => Condition::Ready,
                None => Condition::Gone,
            };
            groups.choose(group, kind(head.no_reply), head.steering.affinity, condition)
        };
        // Owners that do not support streams are left out where there is a choice.
        let may_leave_out = head.steering.more
            && head.steering.affinity.is_empty()
            && mode == Some(RegisterMode::Shared);
        let service = match may_leave_out.then(|| choose(STREAMS_LEVEL)) {
            None | Some(Err(Unavailable::Gone)) => choose(0)?,
            Some(chosen) => chosen?,
        };
        Ok(Target { service, group: Some(group) })
    }

    /// A call goes to its target. `call` is its key; `None` for a call without a reply.
    #[inline]
    pub(crate) fn begin_at(&mut self, target: Target, call: Option<CallKey>) {
        if let Some(group) = target.group {
            let kind = kind(call.is_none());
            let registration = self.services.groups.begin(group, target.service, kind);
            if let Some((call, registration)) = call.zip(registration) {
                self.calls.count_against(call, registration);
            }
        }
    }

    /// Calls that have ended count against no capacity any more.
    #[inline]
    pub(crate) fn release_capacity(&mut self) {
        while let Some((owner, registration)) = self.calls.released() {
            self.services.groups.end(owner, registration);
        }
    }
}

fn kind(no_reply: bool) -> CallKind {
    if no_reply { CallKind::Push } else { CallKind::Call }
}
