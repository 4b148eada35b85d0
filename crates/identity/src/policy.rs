//! What one identity may do.

use gsb_proto::Topic;

/// What a permission is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// To register a service.
    Register,
    /// To call an address, with a reply or without.
    Call,
    /// To subscribe to a topic.
    Subscribe,
    /// To broadcast to a topic.
    Broadcast,
    /// To see a service in listings.
    Inspect,
}

impl Verb {
    /// All verbs.
    pub const ALL: [Verb; 5] =
        [Verb::Register, Verb::Call, Verb::Subscribe, Verb::Broadcast, Verb::Inspect];
}

/// The names or topics that are allowed, and those that are denied.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Gate {
    pub(crate) allow: Vec<Topic>,
    pub(crate) deny: Vec<Topic>,
}

/// What one identity may do. By default, nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// By [`Verb`].
    gates: [Gate; Verb::ALL.len()],
}

impl Policy {
    /// Everything is allowed.
    pub fn unlimited() -> Self {
        let all = || Gate { allow: Topic::new("**").into_iter().collect(), deny: Vec::new() };
        Policy { gates: std::array::from_fn(|_| all()) }
    }

    /// Adds what a rule allows and denies.
    pub(crate) fn add(&mut self, gates: &[Gate; Verb::ALL.len()]) {
        for (gate, more) in self.gates.iter_mut().zip(gates) {
            gate.allow.extend_from_slice(&more.allow);
            gate.deny.extend_from_slice(&more.deny);
        }
    }

    /// Whether a service or an address may be used. In it, `*` and `**` are ordinary segments.
    pub fn allows_name(&self, verb: Verb, name: &str) -> bool {
        let Gate { allow, deny } = &self.gates[verb as usize];
        let stands_for = |pattern: &Topic| pattern.stands_for(name);
        allow.iter().any(stands_for) && !deny.iter().any(stands_for)
    }

    /// Whether a topic, which may be a pattern, may be used: one allowed pattern covers all of it, and it shares no topic with
    /// a denied one.
    pub fn allows_topic(&self, verb: Verb, topic: &Topic) -> bool {
        let Gate { allow, deny } = &self.gates[verb as usize];
        allow.iter().any(|pattern| pattern.covers(topic))
            && !deny.iter().any(|pattern| pattern.overlaps(topic))
    }
}
