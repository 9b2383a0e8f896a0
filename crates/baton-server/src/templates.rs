//! Templates as executions pin them, kept ready by name so that creating an execution reads nothing from the store.
//!
//! # Invariants
//! - A template that was written is seen by every create that begins after the write was answered: the writer drops the
//!   entry after its commit and before its answer, and a reader that began before then does not put an old one back.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use baton_execution::ProgramKind;
use baton_types::Digest;
use bytes::Bytes;

/// Templates kept; beyond it all are dropped, as they are quickly read again.
const TEMPLATES_MAX: usize = 4096;

/// What an execution pins.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    pub(crate) name: String,
    pub(crate) generation: i32,
    /// The content as JSON.
    pub(crate) content: Bytes,
    pub(crate) digest: Digest,
    /// Limit of time for executions that bring none, in milliseconds.
    pub(crate) timeout_ms: Option<u64>,
    /// `document.version` of a workflow.
    pub(crate) version: Option<String>,
    /// What it refers to, is part of what executions pin, and is not there: as sentences.
    pub(crate) missing: Vec<String>,
}

type ByName = HashMap<String, Arc<Template>>;

#[derive(Default)]
struct State {
    by_namespace: HashMap<(ProgramKind, String), ByName>,
    count: usize,
    /// Counts the times that something was dropped.
    epoch: u64,
}

/// Templates by kind, namespace and name.
#[derive(Default)]
pub(crate) struct TemplateCache {
    state: RwLock<State>,
}

impl TemplateCache {
    /// The template, if it is kept.
    pub(crate) fn get(&self, kind: ProgramKind, namespace: &str, name: &str) -> Option<Arc<Template>> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.by_namespace.get(&(kind, namespace.to_owned()))?.get(name).cloned()
    }

    /// To be taken before reading the store, and given to [`Self::insert`].
    pub(crate) fn epoch(&self) -> u64 {
        self.state.read().unwrap_or_else(PoisonError::into_inner).epoch
    }

    /// Keeps a template that was read, unless something was dropped since `epoch`.
    pub(crate) fn insert(&self, kind: ProgramKind, namespace: &str, template: Arc<Template>, epoch: u64) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if state.epoch != epoch {
            return;
        }
        if state.count >= TEMPLATES_MAX {
            state.by_namespace.clear();
            state.count = 0;
        }
        let by_name = state.by_namespace.entry((kind, namespace.to_owned())).or_default();
        let added = by_name.insert(template.name.clone(), template).is_none();
        state.count += usize::from(added);
    }

    /// Drops a template that was written.
    pub(crate) fn forget(&self, kind: ProgramKind, namespace: &str, name: &str) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.epoch += 1;
        let dropped = state
            .by_namespace
            .get_mut(&(kind, namespace.to_owned()))
            .and_then(|by_name| by_name.remove(name))
            .is_some();
        state.count -= usize::from(dropped);
    }

    /// Drops all templates of a kind and namespace: something was written that may be part of them.
    pub(crate) fn forget_all(&self, kind: ProgramKind, namespace: &str) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.epoch += 1;
        let dropped = state.by_namespace.remove(&(kind, namespace.to_owned())).map_or(0, |by_name| by_name.len());
        state.count -= dropped;
    }
}
