//! Configurations as they lie in the store: an internal kind, which no API serves.
//!
//! # Invariants
//! - The name of a row is the uid of its execution, a dot and the id of the configuration: those of one task lie together.
//! - What the client gave is sealed for its own row.

use baton_engine::Sealer;
use baton_store::ResourceKey;
use baton_types::Uid;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Kind of the rows. With a slash, which no kind of the API has.
pub(super) const PUSH: &str = "internal/A2aPush";

const FORMAT: u32 = 1;

/// Where notifications go, with what they carry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Target {
    pub(super) url: String,
    /// `X-A2A-Notification-Token`, and the key of the signature.
    pub(super) token: String,
    pub(super) scheme: String,
    pub(super) credentials: String,
}

/// A configuration, and how far its notifications came. States are those of [`super::super::task::Standing::key`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Row {
    format: u32,
    pub(super) id: String,
    /// The target, sealed.
    sealed: String,
    /// The state that was last accepted.
    pub(super) sent: String,
    /// The state that was given up.
    pub(super) abandoned: String,
    /// The state that is being tried, since when, and how often so far.
    pub(super) trying: String,
    pub(super) since_ms: i64,
    pub(super) attempts: u32,
    /// What the last attempt met.
    pub(super) error: String,
    /// Nothing more will come: the task has ended, and that was accepted or given up.
    pub(super) done: bool,
}

impl Row {
    /// Of a new configuration.
    pub(super) fn new(sealer: &Sealer, key: &ResourceKey, id: &str, target: &Target) -> Self {
        let text = serde_json::to_vec(target).expect("texts are always JSON");
        let sealed = hex::encode(sealer.seal(&text, &place(key)));
        Self { format: FORMAT, id: id.to_owned(), sealed, ..Self::default() }
    }

    pub(super) fn encode(&self) -> Bytes {
        serde_json::to_vec(self).expect("texts and numbers are always JSON").into()
    }

    /// What a row says, and where its notifications go.
    ///
    /// # Errors
    /// A sentence for the log.
    pub(super) fn decode(sealer: &Sealer, key: &ResourceKey, body: &[u8]) -> Result<(Self, Target), String> {
        let row: Self = serde_json::from_slice(body).map_err(|error| format!("it cannot be read: {error}"))?;
        if row.format != FORMAT {
            return Err(format!("it has the format {}, this version reads {FORMAT}", row.format));
        }
        let text = hex::decode(&row.sealed).ok().and_then(|sealed| sealer.unseal(&sealed, &place(key)));
        let text = text.ok_or("it was sealed with another key")?;
        let target = serde_json::from_slice(&text).map_err(|_| "its target cannot be read")?;
        Ok((row, target))
    }
}

pub(super) fn key(namespace: &str, execution: Uid, id: &str) -> ResourceKey {
    ResourceKey::new(PUSH, namespace, format!("{execution}.{id}"))
}

/// The execution that a row belongs to.
pub(super) fn execution_of(key: &ResourceKey) -> Option<Uid> {
    key.name.split_once('.').and_then(|(uid, _)| uid.parse().ok())
}

/// What a sealed target is bound to.
fn place(key: &ResourceKey) -> Vec<u8> {
    format!("a2a push\0{}\0{}", key.namespace, key.name).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_sealed_for_its_row() {
        let sealer = Sealer::new(&[7; 32]);
        let target = Target { url: "https://example.com/hook".into(), token: "hunter2".into(), ..Target::default() };
        let key = key("n", Uid::from_bytes([3; 16]), "c");
        let body = Row::new(&sealer, &key, "c", &target).encode();
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert!(!text.contains("hunter2") && !text.contains("example.com"), "{text}");
        assert_eq!(Row::decode(&sealer, &key, &body).unwrap().1, target);
        let other = ResourceKey::new(PUSH, "n", "x.c");
        assert!(Row::decode(&sealer, &other, &body).is_err(), "bound to its row");
        assert_eq!(execution_of(&key), Some(Uid::from_bytes([3; 16])));
    }
}
