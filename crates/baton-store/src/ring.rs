//! The last changes in memory, by kind.
//!
//! A watcher holds a position, not a queue: it reads from here when woken, so that a slow watcher costs nothing and cannot
//! hold up the committer. A position that has left the ring is served from the table.
//!
//! # Invariants
//! - Within a ring revisions rise, and every change of its kind after `floor` is there.
//! - Changes enter before the published head reaches their revision.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::model::Change;

/// What a change costs beside its body.
const CHANGE_OVERHEAD_BYTES: usize = 256;

#[derive(Debug)]
struct Ring {
    changes: VecDeque<Arc<Change>>,
    bytes: usize,
    /// Changes up to this revision may be missing.
    floor: u64,
}

impl Ring {
    fn new(floor: u64) -> Self {
        Self { changes: VecDeque::new(), bytes: 0, floor }
    }

    fn push(&mut self, change: Arc<Change>, limits: RingLimits) {
        self.bytes += cost(&change);
        self.changes.push_back(change);
        while self.changes.len() > limits.events_max || self.bytes > limits.bytes_max {
            let Some(oldest) = self.changes.pop_front() else {
                break;
            };
            self.bytes -= cost(&oldest);
            self.floor = oldest.revision;
        }
    }

    fn after(&self, position: u64, limit: usize) -> Option<Vec<Arc<Change>>> {
        if position < self.floor {
            return None;
        }
        let start = self.changes.partition_point(|change| change.revision <= position);
        Some(self.changes.iter().skip(start).take(limit).cloned().collect())
    }
}

fn cost(change: &Change) -> usize {
    CHANGE_OVERHEAD_BYTES + change.body.len() + change.key.namespace.len() + change.key.name.len()
}

/// Bounds of each kind's ring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RingLimits {
    pub(crate) events_max: usize,
    pub(crate) bytes_max: usize,
}

/// All rings: one for each kind, one over all kinds that shares the same changes.
#[derive(Debug)]
pub(crate) struct Rings {
    kinds: HashMap<String, Ring>,
    all: Ring,
    /// The revision at which this process began, or began again: nothing before is here.
    base: u64,
    /// The last change that came in; those before have all been here since `base`.
    last: u64,
    limits: RingLimits,
}

impl Rings {
    pub(crate) fn new(base: u64, limits: RingLimits) -> Self {
        Self { kinds: HashMap::new(), all: Ring::new(base), base, last: base, limits }
    }

    /// The last change that came in.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// Forgets everything, unless it has come as far by itself: changes up to `base` are in the table alone.
    pub(crate) fn begin_again(&mut self, base: u64) {
        if self.last < base {
            *self = Self::new(base, self.limits);
        }
    }

    /// Takes a change. One that is here already is left out: where several servers write, it may come in two ways.
    pub(crate) fn push(&mut self, change: Change) {
        if change.revision <= self.last {
            return;
        }
        // After a gap a watcher must look into the table.
        self.begin_again(change.revision - 1);
        self.last = change.revision;
        let change = Arc::new(change);
        if let Some(ring) = self.kinds.get_mut(change.key.kind.as_ref()) {
            ring.push(Arc::clone(&change), self.limits);
        } else {
            let mut ring = Ring::new(self.base);
            ring.push(Arc::clone(&change), self.limits);
            self.kinds.insert(change.key.kind.to_string(), ring);
        }
        self.all.push(change, self.limits);
    }

    /// Changes after `position`, or `None` if some of them have left the ring.
    pub(crate) fn after(&self, kind: Option<&str>, position: u64, limit: usize) -> Option<Vec<Arc<Change>>> {
        match kind {
            None => self.all.after(position, limit),
            Some(kind) => match self.kinds.get(kind) {
                Some(ring) => ring.after(position, limit),
                None => (position >= self.base).then(Vec::new),
            },
        }
    }

    /// The change with this revision, if it is still here.
    pub(crate) fn at(&self, revision: u64) -> Option<Arc<Change>> {
        let changes = &self.all.changes;
        changes
            .binary_search_by_key(&revision, |change| change.revision)
            .ok()
            .and_then(|index| changes.get(index).cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ChangeKind, ResourceKey};

    const LIMITS: RingLimits = RingLimits { events_max: 3, bytes_max: 1 << 20 };

    fn change(revision: u64, kind: &'static str) -> Change {
        Change {
            revision,
            previous_revision: 0,
            key: ResourceKey::new(kind, "ns", "x"),
            uid: [0; 16],
            number: 1,
            kind: ChangeKind::Added,
            body: bytes::Bytes::new(),
        }
    }

    fn revisions(found: Option<Vec<Arc<Change>>>) -> Option<Vec<u64>> {
        Some(found?.iter().map(|change| change.revision).collect())
    }

    #[test]
    fn serves_what_it_has_and_says_what_it_has_not() {
        let mut rings = Rings::new(10, LIMITS);
        for (revision, kind) in [(11, "A"), (12, "B"), (13, "A"), (14, "A"), (15, "A")] {
            rings.push(change(revision, kind));
        }
        assert_eq!(revisions(rings.after(Some("A"), 13, 10)), Some(vec![14, 15]));
        assert_eq!(revisions(rings.after(Some("A"), 11, 10)), Some(vec![13, 14, 15]));
        assert_eq!(revisions(rings.after(Some("A"), 10, 10)), None, "11 has left");
        assert_eq!(revisions(rings.after(Some("B"), 10, 10)), Some(vec![12]));
        assert_eq!(revisions(rings.after(Some("C"), 10, 10)), Some(vec![]));
        assert_eq!(revisions(rings.after(Some("C"), 9, 10)), None);
        assert_eq!(revisions(rings.after(None, 12, 2)), Some(vec![13, 14]));
        assert_eq!(rings.at(14).map(|change| change.revision), Some(14));
        assert!(rings.at(11).is_none());
    }

    #[test]
    fn what_comes_twice_is_kept_once_and_a_gap_is_never_hidden() {
        let mut rings = Rings::new(10, LIMITS);
        for revision in [11, 12, 11, 12, 13] {
            rings.push(change(revision, "A"));
        }
        assert_eq!(revisions(rings.after(None, 10, 10)), Some(vec![11, 12, 13]));
        rings.begin_again(13);
        assert_eq!(revisions(rings.after(Some("A"), 12, 10)), Some(vec![13]), "it was there already");
        rings.push(change(15, "A"));
        assert_eq!(revisions(rings.after(Some("A"), 13, 10)), None, "14 is missing");
        assert_eq!(revisions(rings.after(Some("B"), 13, 10)), None, "and might be of any kind");
        assert_eq!(revisions(rings.after(Some("A"), 14, 10)), Some(vec![15]));
        rings.begin_again(20);
        assert_eq!((rings.last(), revisions(rings.after(None, 19, 10))), (20, None));
    }

    #[test]
    fn bytes_bound_too() {
        let mut rings = Rings::new(0, RingLimits { events_max: 100, bytes_max: 700 });
        for revision in 1..=5 {
            rings.push(change(revision, "A"));
        }
        assert_eq!(revisions(rings.after(Some("A"), 3, 10)), Some(vec![4, 5]));
        assert_eq!(revisions(rings.after(Some("A"), 2, 10)), None);
    }
}
