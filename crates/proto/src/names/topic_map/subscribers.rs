//! The subscribers of a topic, and the owner of a subtree.

/// The subscribers of one topic, sorted. Most topics have one subscriber, which needs no allocation.
#[derive(Debug, Clone)]
pub(super) enum Subscribers<K> {
    Empty,
    One(K),
    /// Two or more.
    Many(Vec<K>),
}

impl<K: Copy + Ord> Subscribers<K> {
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Subscribers::Empty)
    }

    pub(super) fn as_slice(&self) -> &[K] {
        match self {
            Subscribers::Empty => &[],
            Subscribers::One(only) => std::slice::from_ref(only),
            Subscribers::Many(all) => all,
        }
    }

    /// Adds a subscriber. Returns `false` if it is one already.
    pub(super) fn add(&mut self, subscriber: K) -> bool {
        let Err(index) = self.as_slice().binary_search(&subscriber) else {
            return false;
        };
        match self {
            Subscribers::Empty => *self = Subscribers::One(subscriber),
            Subscribers::One(only) => {
                let mut all = vec![*only];
                all.insert(index, subscriber);
                *self = Subscribers::Many(all);
            }
            Subscribers::Many(all) => all.insert(index, subscriber),
        }
        true
    }

    /// Removes a subscriber. Returns `false` if it is none.
    pub(super) fn remove(&mut self, subscriber: K) -> bool {
        let Ok(index) = self.as_slice().binary_search(&subscriber) else {
            return false;
        };
        let Subscribers::Many(all) = self else {
            *self = Subscribers::Empty;
            return true;
        };
        all.remove(index);
        if let [only] = **all {
            *self = Subscribers::One(only);
        } else if all.len() < all.capacity() / 8 {
            all.shrink_to(all.len() * 2);
        }
        true
    }
}

/// The subscriber that owns all topics at and below a node, if there is only one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner<K> {
    /// There are no topics.
    Unowned,
    /// All topics belong to this subscriber.
    Sole(K),
    /// The topics belong, or have belonged, to several subscribers. A removed topic does not change that: it would take
    /// a search to know whether one subscriber is left.
    Several,
}

impl<K: Copy + Eq> Owner<K> {
    pub(super) fn add(&mut self, subscriber: K) {
        *self = match *self {
            Owner::Unowned => Owner::Sole(subscriber),
            Owner::Sole(only) if only == subscriber => return,
            _ => Owner::Several,
        };
    }
}
