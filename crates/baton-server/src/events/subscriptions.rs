//! The subscriptions that wait, found by the types of events that they are for.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use baton_types::Uid;

use super::rows::{KeptEvent, KeptSubscription};

/// Names a subscription: the digest of its token.
pub(super) type Name = Arc<str>;

#[derive(Default)]
pub(super) struct Subscriptions {
    by_name: HashMap<Name, Waiting>,
    /// By namespace and type; those that have a filter without a type stand under `None`.
    by_type: HashMap<(String, Option<String>), BTreeSet<Name>>,
    listening: HashMap<Uid, Listening>,
}

/// What one execution listens to.
#[derive(Default)]
struct Listening {
    names: BTreeSet<Name>,
    /// How many there were when it was last seen which of them still wait, or since then.
    looked_at: usize,
}

/// Subscriptions of one execution from which on it is seen which of them still wait. Below that they may stay until they expire.
const LOOKED_AT_MIN: usize = 8;

pub(super) struct Waiting {
    pub(super) kept: Arc<KeptSubscription>,
    /// Whether its answer is under way.
    pub(super) answering: bool,
}

impl Subscriptions {
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    pub(super) fn insert(&mut self, kept: KeptSubscription) -> Name {
        let name: Name = kept.key.name.as_str().into();
        if !self.by_name.contains_key(&name) {
            for place in places(&kept) {
                self.by_type.entry(place).or_default().insert(Arc::clone(&name));
            }
            if let Some(execution) = kept.execution {
                self.listening.entry(execution).or_default().names.insert(Arc::clone(&name));
            }
            self.by_name.insert(Arc::clone(&name), Waiting { kept: Arc::new(kept), answering: false });
        }
        name
    }

    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut Waiting> {
        self.by_name.get_mut(name)
    }

    pub(super) fn names(&self) -> Vec<Name> {
        self.by_name.keys().cloned().collect()
    }

    pub(super) fn remove(&mut self, name: &str) {
        let Some(waiting) = self.by_name.remove(name) else { return };
        for place in places(&waiting.kept) {
            if let Some(names) = self.by_type.get_mut(&place) {
                names.remove(name);
                if names.is_empty() {
                    self.by_type.remove(&place);
                }
            }
        }
        let Some(execution) = waiting.kept.execution else { return };
        if let Some(listening) = self.listening.get_mut(&execution) {
            listening.names.remove(name);
            listening.looked_at = listening.looked_at.min(listening.names.len());
            if listening.names.is_empty() {
                self.listening.remove(&execution);
            }
        }
    }

    /// What else the execution of a subscription listens to, if that has become twice as much as when it was last asked for: a
    /// loop may leave one behind each time.
    pub(super) fn grown(&mut self, name: &str) -> Vec<Arc<KeptSubscription>> {
        let Some(execution) = self.by_name.get(name).and_then(|waiting| waiting.kept.execution) else {
            return Vec::new();
        };
        let Some(listening) = self.listening.get_mut(&execution) else { return Vec::new() };
        if listening.names.len() < LOOKED_AT_MIN.max(2 * listening.looked_at) {
            return Vec::new();
        }
        listening.looked_at = listening.names.len();
        self.of(execution)
    }

    /// Those of an execution.
    pub(super) fn of(&self, execution: Uid) -> Vec<Arc<KeptSubscription>> {
        let names = self.listening.get(&execution).into_iter().flat_map(|listening| &listening.names);
        names.filter_map(|name| self.by_name.get(name)).map(|waiting| Arc::clone(&waiting.kept)).collect()
    }

    /// Adds those that may want an event to `touched`.
    pub(super) fn touched_by(&self, event: &KeptEvent, touched: &mut BTreeSet<Name>) {
        let kind = event.kind.as_ref().map(std::string::ToString::to_string);
        for kind in [kind, None] {
            if let Some(names) = self.by_type.get(&(event.key.namespace.clone(), kind)) {
                touched.extend(names.iter().cloned());
            }
        }
    }
}

fn places(kept: &KeptSubscription) -> BTreeSet<(String, Option<String>)> {
    kept.filters.iter().map(|filter| (kept.key.namespace.clone(), filter.get("type").cloned())).collect()
}
