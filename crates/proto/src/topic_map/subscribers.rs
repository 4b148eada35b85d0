//! Who subscribes to one topic, and to all below a node.

/// The subscribers of one topic, sorted. Nearly always one, which therefore needs no memory of its own.
#[derive(Debug, Clone)]
pub(super) enum Subscribers<K> {
    Nobody,
    One(K),
    /// Two or more.
    Many(Vec<K>),
}

impl<K: Copy + Ord> Subscribers<K> {
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Subscribers::Nobody)
    }

    pub(super) fn as_slice(&self) -> &[K] {
        match self {
            Subscribers::Nobody => &[],
            Subscribers::One(only) => std::slice::from_ref(only),
            Subscribers::Many(all) => all,
        }
    }

    /// `false` if it is there already.
    pub(super) fn add(&mut self, subscriber: K) -> bool {
        let Err(place) = self.as_slice().binary_search(&subscriber) else {
            return false;
        };
        match self {
            Subscribers::Nobody => *self = Subscribers::One(subscriber),
            Subscribers::One(only) => {
                let mut all = vec![*only];
                all.insert(place, subscriber);
                *self = Subscribers::Many(all);
            }
            Subscribers::Many(all) => all.insert(place, subscriber),
        }
        true
    }

    /// `false` if it is not there.
    pub(super) fn remove(&mut self, subscriber: K) -> bool {
        let Ok(place) = self.as_slice().binary_search(&subscriber) else {
            return false;
        };
        let Subscribers::Many(all) = self else {
            *self = Subscribers::Nobody;
            return true;
        };
        all.remove(place);
        if let [only] = **all {
            *self = Subscribers::One(only);
        } else if all.len() < all.capacity() / 8 {
            all.shrink_to(all.len() * 2);
        }
        true
    }
}

/// Whose the topics at and below a node are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner<K> {
    Nobody,
    /// Only this one has topics there.
    Sole(K),
    /// Others have, or had: it would take a look at all that is left to know.
    Several,
}

impl<K: Copy + Eq> Owner<K> {
    pub(super) fn add(&mut self, subscriber: K) {
        *self = match *self {
            Owner::Nobody => Owner::Sole(subscriber),
            Owner::Sole(only) if only == subscriber => return,
            _ => Owner::Several,
        };
    }
}
