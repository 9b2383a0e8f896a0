//! Events and subscriptions as they lie in the store: internal kinds, which no API serves.
//!
//! # Invariants
//! - A body begins with the number of its format; one of another format is not read, and said to be so.
//! - A token is sealed for its own row.

use std::{collections::BTreeMap, sync::Arc};

use baton_activities::Subscription;
use baton_engine::Sealer;
use baton_store::{ResourceKey, StoredResource};
use baton_types::{Digest, Uid, fingerprint};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::event::{CloudEvent, attributes};

/// Kind of the rows of events. With a slash, which no kind of the API has.
pub(crate) const EVENT: &str = "internal/Event";
/// Kind of the rows of subscriptions.
pub(crate) const SUBSCRIPTION: &str = "internal/EventSubscription";

const FORMAT: u32 = 1;

/// What is kept in memory of the attributes of one event beside its type, in bytes, and what one costs beside its text. Ordinary
/// events have some hundred bytes of them; of others whoever listens is told more than they asked for, and judges for themselves.
const ATTRIBUTES_BYTES_MAX: usize = 1024;
const ATTRIBUTE_COST: usize = 64;

#[derive(Serialize, Deserialize)]
struct EventBody<E> {
    format: u32,
    accepted_ms: i64,
    /// Whether an execution published it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    emitted: bool,
    event: E,
}

#[derive(Serialize, Deserialize)]
struct SubscriptionBody {
    format: u32,
    token: String,
    filters: Vec<BTreeMap<String, String>>,
    after: Option<u64>,
    since_ms: Option<i64>,
    expires_ms: i64,
}

/// An event that is kept.
#[derive(Clone, Debug)]
pub(super) struct KeptEvent {
    pub(super) key: ResourceKey,
    pub(super) uid: baton_store::Uid,
    pub(super) number: baton_store::Number,
    pub(super) revision: u64,
    pub(super) accepted_ms: i64,
    /// Whether an execution published it.
    pub(super) emitted: bool,
    /// Bytes of its JSON.
    pub(super) bytes: usize,
    /// Its `type`.
    pub(super) kind: Option<Box<str>>,
    /// Its other attributes as texts, as far as there is room for them.
    pub(super) attributes: BTreeMap<Box<str>, Box<str>>,
    /// Whether all of them are here.
    pub(super) is_whole: bool,
}

impl KeptEvent {
    /// Whether an attribute may have a value: it has, or it is not here.
    pub(super) fn may_have(&self, name: &str, value: &str) -> bool {
        let known = if name == "type" { self.kind.as_ref() } else { self.attributes.get(name) };
        known.map_or(!self.is_whole, |known| **known == *value)
    }
}

/// A subscription that is kept.
#[derive(Clone, Debug)]
pub(super) struct KeptSubscription {
    pub(super) key: ResourceKey,
    pub(super) uid: baton_store::Uid,
    pub(super) number: baton_store::Number,
    pub(super) revision: u64,
    pub(super) token: Arc<[u8]>,
    pub(super) filters: Vec<BTreeMap<String, String>>,
    /// The cursor of the last event that is known.
    pub(super) after: Option<u64>,
    pub(super) since_ms: Option<i64>,
    pub(super) expires_ms: i64,
    /// The execution that listens.
    pub(super) execution: Option<Uid>,
}

/// A row as list and watch give it.
pub(super) struct Row<'a> {
    pub(super) key: &'a ResourceKey,
    pub(super) uid: baton_store::Uid,
    pub(super) number: baton_store::Number,
    pub(super) revision: u64,
    pub(super) body: &'a [u8],
}

impl<'a> Row<'a> {
    pub(super) fn of(stored: &'a StoredResource) -> Self {
        Self { key: &stored.key, uid: stored.uid, number: stored.number, revision: stored.revision, body: &stored.body }
    }

    pub(super) fn of_change(change: &'a baton_store::Change) -> Self {
        Self { key: &change.key, uid: change.uid, number: change.number, revision: change.revision, body: &change.body }
    }
}

pub(super) fn event_key(namespace: &str, event: &CloudEvent) -> ResourceKey {
    // Neither part can hold a control character, so no two pairs look alike.
    let identity = event.identity().join("\0");
    ResourceKey::new(EVENT, namespace, hex::encode(Digest::of(identity.as_bytes()).as_bytes()))
}

pub(super) fn event_body(event: &CloudEvent, accepted_ms: i64, emitted: bool) -> Bytes {
    let text = serde_json::value::RawValue::from_string(event.text()).ok();
    encode(&EventBody { format: FORMAT, accepted_ms, emitted, event: text })
}

pub(super) fn subscription_key(namespace: &str, token: &[u8]) -> ResourceKey {
    ResourceKey::new(SUBSCRIPTION, namespace, hex::encode(Digest::of(token).as_bytes()))
}

pub(super) fn subscription_body(sealer: &Sealer, namespace: &str, subscription: &Subscription) -> Bytes {
    let token = subscription.callback_token.as_bytes();
    let key = subscription_key(namespace, token);
    encode(&SubscriptionBody {
        format: FORMAT,
        token: hex::encode(sealer.seal(token, &place(&key))),
        filters: subscription.filters.clone(),
        after: subscription.after.as_deref().and_then(|after| after.parse().ok()),
        since_ms: subscription.since_ms,
        expires_ms: subscription.expires_ms,
    })
}

/// What a sealed token is bound to.
fn place(key: &ResourceKey) -> Vec<u8> {
    format!("event subscription\0{}\0{}", key.namespace, key.name).into_bytes()
}

fn encode<T: Serialize>(body: &T) -> Bytes {
    serde_json::to_vec(body).expect("a body of texts and numbers is always JSON").into()
}

/// What is kept of an event, and the event.
///
/// # Errors
/// A sentence for the log.
pub(super) fn read_event(row: &Row<'_>) -> Result<(KeptEvent, Map<String, Value>), String> {
    let body: EventBody<Map<String, Value>> = decode(row.body, |body: &EventBody<_>| body.format)?;
    let (mut kind, mut kept, mut left) = (None, BTreeMap::new(), ATTRIBUTES_BYTES_MAX);
    let mut is_whole = true;
    for (name, value) in attributes(&body.event) {
        if name == "type" {
            kind = Some(value.into());
            continue;
        }
        match left.checked_sub(name.len() + value.len() + ATTRIBUTE_COST) {
            Some(rest) => {
                left = rest;
                kept.insert(Box::from(name), value.into());
            }
            None => is_whole = false,
        }
    }
    let kept = KeptEvent {
        key: row.key.clone(),
        uid: row.uid,
        number: row.number,
        revision: row.revision,
        accepted_ms: body.accepted_ms,
        emitted: body.emitted,
        bytes: row.body.len(),
        kind,
        attributes: kept,
        is_whole,
    };
    Ok((kept, body.event))
}

/// What is kept of a subscription.
///
/// # Errors
/// A sentence for the log.
pub(super) fn read_subscription(
    sealer: &Sealer,
    execution_of: impl FnOnce(&[u8]) -> Option<Uid>,
    row: &Row<'_>,
) -> Result<KeptSubscription, String> {
    let body: SubscriptionBody = decode(row.body, |body: &SubscriptionBody| body.format)?;
    let token = hex::decode(&body.token).ok().and_then(|sealed| sealer.unseal(&sealed, &place(row.key)));
    let token = token.ok_or("its token was sealed with another key")?;
    tracing::trace!(token = fingerprint(&token), "a subscription was read");
    Ok(KeptSubscription {
        key: row.key.clone(),
        uid: row.uid,
        number: row.number,
        revision: row.revision,
        execution: execution_of(&token),
        token: token.into(),
        filters: body.filters,
        after: body.after,
        since_ms: body.since_ms,
        expires_ms: body.expires_ms,
    })
}

fn decode<T: serde::de::DeserializeOwned>(body: &[u8], format: impl Fn(&T) -> u32) -> Result<T, String> {
    let body: T = serde_json::from_slice(body).map_err(|error| format!("it cannot be read: {error}"))?;
    match format(&body) {
        FORMAT => Ok(body),
        other => Err(format!("it has the format {other}, this version reads {FORMAT}")),
    }
}
