//! Hello: the introduction of a peer, which may replace an older connection of the same peer (rules CO-2 to CO-5), and the
//! level that it fixes (rule CO-18).

use gsb_proto::messages::Hello;
use gsb_proto::violation::MAX_INSTANCE_ID;
use gsb_proto::{LEVEL, MessageKind, Violation};

use crate::broker::Broker;
use crate::close_reason::CloseReason;
use crate::effect::Effects;
use crate::ids::ConnId;

impl Broker {
    pub(crate) fn hello(
        &mut self,
        from: ConnId,
        hello: &Hello,
        effects: &mut dyn Effects,
    ) -> Result<(), Violation> {
        let Some(newcomer) = self.connections.get_mut(from) else {
            return Ok(());
        };
        if std::mem::replace(&mut newcomer.hello_seen, true) {
            return Err(Violation::SecondHello);
        }
        newcomer.no_echo = hello.no_echo;
        if !newcomer.has_begun {
            newcomer.level = hello.level.min(LEVEL);
        }
        let instance_id = &hello.instance_id;
        if instance_id.len() > MAX_INSTANCE_ID {
            return Err(Violation::InstanceIdTooLong(instance_id.len()));
        }
        if let Some(holder) = self.instances.holder(instance_id) {
            let identity = |id| self.connections.get(id).map(|c| &c.identity);
            let is_same_peer = match (identity(holder), identity(from)) {
                (Some(old), Some(new)) => new.is_same_peer(old),
                _ => false,
            };
            if !is_same_peer {
                self.close(from, CloseReason::ForeignInstanceId, effects);
                return Ok(());
            }
            self.close(holder, CloseReason::Replaced, effects);
        }
        self.instances.set(from, instance_id);
        self.say_late_farewell(from, effects);
        Ok(())
    }

    /// The level of the extensions that may be sent to a connection; 0 if it is gone.
    pub(crate) fn level(&self, connection: ConnId) -> u32 {
        self.connections.get(connection).map_or(0, |connection| connection.level)
    }

    /// Checks that a connection has the level of a message that came from it (rule CO-18).
    pub(crate) fn check_level(&self, from: ConnId, kind: MessageKind) -> Result<(), Violation> {
        if self.level(from) < kind.level() {
            return Err(Violation::LevelTooLow(kind));
        }
        Ok(())
    }
}
