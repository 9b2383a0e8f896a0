//! Programs from the content that executions are pinned to: compiled once for each digest, shared by all executions of it.
//!
//! # Invariants
//! - The key is the digest of the content, so an entry is never stale; it is only dropped to make room.
//! - Bounded by entries and by bytes of content: many different inline definitions cannot fill the memory.
//!
//! # Failure
//! Content that was admitted once but is not accepted by this build is a fault that ends the execution, never a panic.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use baton_agent::AgentDefinition;
use baton_execution::{Fault, Program, ProgramKind, Programs, fault_type};
use baton_types::{Digest, Violation};
use baton_workflow::Definition;
use serde_json::Value;

use crate::fence::Fenced;

/// Definitions kept compiled.
const ENTRIES_MAX: usize = 1024;
/// Bytes of content of the definitions kept compiled; the compiled form is several times as large.
const CONTENT_BYTES_MAX: usize = 32 << 20;

/// A checked and compiled definition.
#[derive(Clone, Debug)]
pub(crate) enum Compiled {
    Workflow(Arc<Definition>),
    Agent(Arc<AgentDefinition>),
}

/// A template that a definition refers to by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) kind: ProgramKind,
    pub(crate) name: String,
    /// Path within the definition.
    pub(crate) field: String,
}

impl Compiled {
    /// Checks a definition in its JSON form; paths of violations are within it.
    pub(crate) fn check(kind: ProgramKind, definition: &Value) -> Result<Self, Vec<Violation>> {
        match kind {
            ProgramKind::Workflow => baton_workflow::check(definition).map(|it| Self::Workflow(Arc::new(it))),
            ProgramKind::Agent => baton_agent::check(definition).map(|it| Self::Agent(Arc::new(it))),
        }
    }

    /// Templates that it refers to, in order of their places.
    pub(crate) fn references(&self) -> Vec<Reference> {
        let made = |kind, name: &str, field: &str| Reference { kind, name: name.to_owned(), field: field.to_owned() };
        match self {
            Self::Workflow(it) => {
                let agents = it.agents().iter().map(|to| made(ProgramKind::Agent, &to.name, &to.field));
                agents.chain(it.workflows().iter().map(|to| made(ProgramKind::Workflow, &to.name, &to.field))).collect()
            }
            Self::Agent(it) => {
                let agents = it.agents().into_iter().map(|to| made(ProgramKind::Agent, &to.name, &to.field));
                agents
                    .chain(it.workflows().into_iter().map(|to| made(ProgramKind::Workflow, &to.name, &to.field)))
                    .collect()
            }
        }
    }

    /// URIs of what it uses of its resources.
    pub(crate) fn resources(&self) -> &[String] {
        match self {
            Self::Workflow(it) => it.resources(),
            Self::Agent(_) => &[],
        }
    }

    /// Servers of tools that it names and does not define itself: path within the definition, and name.
    pub(crate) fn servers(&self) -> Vec<(String, String)> {
        match self {
            Self::Workflow(_) => Vec::new(),
            Self::Agent(it) => it
                .servers()
                .filter(|(.., is_defined)| !is_defined)
                .map(|(name, field, _)| (field, name.to_owned()))
                .collect(),
        }
    }

    /// The secrets that it may use: the field within the definition that names each, and its name.
    pub(crate) fn secrets(&self) -> Vec<(&str, &str)> {
        match self {
            Self::Workflow(it) => it.secrets().iter().map(|name| ("use.secrets", name.as_str())).collect(),
            Self::Agent(it) => it.secrets().iter().map(|to| (to.field.as_str(), to.name.as_str())).collect(),
        }
    }

    /// Names of the skills that it has.
    pub(crate) fn skills(&self) -> Vec<String> {
        match self {
            Self::Workflow(_) => Vec::new(),
            Self::Agent(it) => it.skills().map(str::to_owned).collect(),
        }
    }

    /// What is odd in it and stops nothing, as sentences; `field` is where it stands in the object.
    pub(crate) fn warnings(&self, field: &str) -> Vec<String> {
        match self {
            Self::Workflow(it) => {
                it.warnings().iter().map(|warning| warning.clone().under(field).to_string()).collect()
            }
            Self::Agent(_) => Vec::new(),
        }
    }

    /// Limit of time that executions have unless they bring their own, in milliseconds.
    pub(crate) fn timeout_ms(&self) -> Option<u64> {
        match self {
            // A workflow's own timeout is part of its document and kept by the Program itself.
            Self::Workflow(_) => None,
            Self::Agent(it) => it.timeout_ms(),
        }
    }

    /// `document.version` of a workflow.
    pub(crate) fn version(&self) -> Option<&str> {
        match self {
            Self::Workflow(it) => Some(it.version()),
            Self::Agent(_) => None,
        }
    }
}

struct Entry {
    compiled: Compiled,
    content_bytes: usize,
    last_used: AtomicU64,
}

#[derive(Default)]
struct Entries {
    by_digest: HashMap<(ProgramKind, Digest), Entry>,
    content_bytes: usize,
}

/// The Programs of this build, loaded as servers and workers load them: for whoever replays a recorded history.
pub fn programs() -> Arc<dyn Programs> {
    Arc::new(ProgramCache::default())
}

/// Compiled definitions by digest, the least recently used dropped first.
#[derive(Default)]
pub(crate) struct ProgramCache {
    entries: RwLock<Entries>,
    clock: AtomicU64,
}

impl ProgramCache {
    /// Keeps a definition that was just checked.
    pub(crate) fn insert(&self, kind: ProgramKind, digest: Digest, content_bytes: usize, compiled: Compiled) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        let last_used = AtomicU64::new(self.clock.fetch_add(1, Relaxed));
        if let Some(old) = entries.by_digest.insert((kind, digest), Entry { compiled, content_bytes, last_used }) {
            entries.content_bytes -= old.content_bytes;
        }
        entries.content_bytes += content_bytes;
        while entries.by_digest.len() > ENTRIES_MAX
            || (entries.content_bytes > CONTENT_BYTES_MAX && entries.by_digest.len() > 1)
        {
            entries.drop_oldest();
        }
    }

    /// The definition of a digest, compiled from its content if it is not kept.
    pub(crate) fn get(&self, kind: ProgramKind, digest: &Digest, content: &[u8]) -> Result<Compiled, Fault> {
        if let Some(compiled) = self.find(kind, digest) {
            return Ok(compiled);
        }
        let refused = |why: String| {
            Fault::new(
                fault_type::CONFIGURATION,
                400,
                format!("the pinned definition {digest} cannot be loaded: {why}"),
            )
            .non_retryable()
        };
        let definition: Value = serde_json::from_slice(content).map_err(|error| refused(error.to_string()))?;
        let compiled = Compiled::check(kind, &definition)
            .map_err(|violations| refused(violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))?;
        self.insert(kind, *digest, content.len(), compiled.clone());
        Ok(compiled)
    }

    fn find(&self, kind: ProgramKind, digest: &Digest) -> Option<Compiled> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.by_digest.get(&(kind, *digest))?;
        entry.last_used.store(self.clock.fetch_add(1, Relaxed), Relaxed);
        Some(entry.compiled.clone())
    }
}

impl Entries {
    fn drop_oldest(&mut self) {
        let oldest = self.by_digest.iter().min_by_key(|(_, entry)| entry.last_used.load(Relaxed)).map(|(key, _)| *key);
        if let Some(dropped) = oldest.and_then(|key| self.by_digest.remove(&key)) {
            self.content_bytes -= dropped.content_bytes;
        }
    }
}

impl Programs for ProgramCache {
    fn load(&self, kind: ProgramKind, digest: &Digest, definition: &[u8]) -> Result<Box<dyn Program>, Fault> {
        Ok(match self.get(kind, digest, definition)? {
            Compiled::Workflow(it) => Box::new(Fenced(baton_workflow::load(it))),
            Compiled::Agent(it) => Box::new(Fenced(baton_agent::load(it))),
        })
    }

    fn restore(
        &self,
        kind: ProgramKind,
        digest: &Digest,
        definition: &[u8],
        snapshot: &[u8],
    ) -> Result<Box<dyn Program>, Fault> {
        let refused = |why: &dyn std::fmt::Display| {
            Fault::new(fault_type::CONFIGURATION, 400, format!("the snapshot cannot be restored: {why}"))
        };
        Ok(match self.get(kind, digest, definition)? {
            Compiled::Workflow(it) => {
                Box::new(Fenced(baton_workflow::restore(it, snapshot).map_err(|error| refused(&error))?))
            }
            Compiled::Agent(it) => {
                Box::new(Fenced(baton_agent::restore(it, snapshot).map_err(|error| refused(&error))?))
            }
        })
    }
}
