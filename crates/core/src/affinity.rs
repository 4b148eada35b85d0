//! Affinity: which owner of a name gets the calls with a given text (rule SV-11).
//!
//! Rendezvous hashing: each owner has a score for each text, and the owner with the highest score gets the call. When an
//! owner comes or goes, only the texts for which its score is the highest move. The hashes have fixed keys, so the scores
//! are the same after a restart of the router.

use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

use crate::ids::ConnId;

/// What an owner's scores are computed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seed(u64);

impl Seed {
    /// The seed of a peer with an instance id, which keeps it when it connects again.
    pub(crate) fn of_instance(instance_id: &[u8]) -> Self {
        Seed(hash(1, instance_id))
    }

    /// The seed of a peer without an instance id, for as long as it is connected.
    pub(crate) fn of_connection(connection: ConnId) -> Self {
        let number = u64::from(connection.serial) << 32 | u64::from(connection.slot);
        Seed(hash(2, &number.to_le_bytes()))
    }
}

// Not `SipHasher13::hash`: it is inlined where calls are found by their ids only as long as few others use it.
fn hash(key: u64, bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(0, key);
    hasher.write(bytes);
    hasher.finish()
}

/// The affinity of a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Affinity(u64);

impl Affinity {
    /// `None` if the text is empty: any owner may get the call.
    pub(crate) fn new(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| Affinity(hash(0, text.as_bytes())))
    }

    /// The score of an owner. Seeds make the scores of two owners differ where their hashes do not.
    pub(crate) fn score(self, seed: Seed) -> (u64, Seed) {
        // The mixer of SplitMix64: each bit of its input changes half of the bits of its output.
        let mixed = self.0.wrapping_add(seed.0);
        let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31, seed)
    }
}
