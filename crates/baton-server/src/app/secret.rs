//! The kind `Secret`: values that go in, are sealed, and come out only for the moment of their use.
//!
//! A stored secret is its public message, and beside it, in a field that the public message does not have, the sealed
//! values. Whatever reads the row as a `Secret` (reads, watches, lists) therefore cannot see them.
//!
//! # Invariants
//! - Each value is encrypted by the key of the installation and bound to namespace, name, uid and key: a value that is moved
//!   to another place does not open.
//! - No error, no warning and no log line holds a value; no answer tells whether a value that was tried is the one that is there.
//! - An update keeps the values of keys that it does not name.
//!
//! # Failure
//! A value that does not open with this key (the key file of another installation) is told by its place.

mod answers;

pub(super) use answers::SecretPresence;

use std::collections::{BTreeMap, BTreeSet};

use baton_activities::Secret as Hidden;
use baton_proto::{
    Resource,
    v1::{Secret, SecretKey, SecretSpec, SecretStatus},
};
use baton_store::{CommitError, Expect, ResourceKey, StoredResource};
use baton_types::{ApiError, ErrorKind, Violation};
use bytes::Bytes;
use prost::Message;
use ring::hmac;
use serde_json::Value;

use super::{App, Change, DeletedObject, ServedResource, WriteOptions, Written, error, metadata, strategy, template};

/// Keys of one secret.
const KEYS_MAX: usize = 128;
/// Length of a key, in bytes.
const KEY_LENGTH_MAX: usize = 253;
/// One value, in bytes: certificates and keys fit many times.
const VALUE_BYTES_MAX: usize = 64 * 1024;
/// All values of one secret, in bytes; with what sealing adds, a resource stays within its limit.
const VALUES_BYTES_MAX: usize = 512 * 1024;
/// Shorter values are not taken out of what activities give, as that would blot out ordinary words.
const REDACTED_LENGTH_MIN: usize = 4;
/// Where `kubectl apply` keeps the manifest as it was sent, values and all.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// What the key of fingerprints is derived for.
const FINGERPRINT_PURPOSE: &str = "baton secret fingerprint";
const FINGERPRINT_BYTES: usize = 6;

/// What a stored secret has beside its public message.
#[derive(Clone, PartialEq, prost::Message)]
struct Sealed {
    #[prost(btree_map = "string, bytes", tag = "1000")]
    values: BTreeMap<String, Vec<u8>>,
}

impl ServedResource for Secret {
    const SELECTABLE_FIELDS: &'static [&'static str] = &["metadata.name", "metadata.namespace"];

    fn field(&self, field: &str) -> Option<String> {
        strategy::common_field(self, field)
    }

    fn decode_stored(body: &Bytes, revision: u64) -> Result<Self, ApiError> {
        let mut object = Self::decode(body.clone())
            .map_err(|error| ApiError::internal(format!("a secret at revision {revision}: {error}")))?;
        object.metadata_mut().resource_version = revision.to_string();
        Ok(object)
    }

    fn prepare_patch(patch: &mut Value) {
        let Some(spec) = patch.get_mut("spec").and_then(Value::as_object_mut) else { return };
        let Some(data) = spec.get_mut("data").and_then(Value::as_object_mut) else { return };
        let removed: Vec<Value> =
            data.iter().filter(|(_, value)| value.is_null()).map(|(key, _)| key.as_str().into()).collect();
        data.retain(|_, value| !value.is_null());
        if removed.is_empty() {
            return;
        }
        match spec.entry("remove").or_insert_with(|| Value::Array(Vec::new())) {
            Value::Array(keys) => keys.extend(removed),
            // Of another type: it is refused with its path.
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {}
        }
    }

    async fn admit_new(app: &App, mut object: Self, options: WriteOptions) -> Result<Written<Self>, ApiError> {
        let mut violations = Vec::new();
        metadata::complete(&mut object, &mut violations);
        let now = metadata::now_ms();
        let generated = metadata::prepare_new(object.metadata_mut(), metadata::new_uid(), now, &mut violations);
        metadata::check(object.metadata_mut(), &mut violations);
        let SecretSpec { data, remove } = object.spec.take().unwrap_or_default();
        check_data(&data, &mut violations);
        if !remove.is_empty() {
            violations.push(Violation::new("spec.remove", "is for updates; a new secret has nothing to remove"));
        }
        if !violations.is_empty() {
            return Err(ApiError::violations(violations));
        }
        let mut warnings = short_values(&data);
        drop_manifest(&mut object, &mut warnings);
        object.take_status_of(&Self::default());
        let keys: Vec<(String, String)> =
            data.iter().map(|(key, value)| (key.clone(), app.fingerprint(&object, key, value, options))).collect();
        write_status(&mut object, keys.into_iter(), now);
        for attempt in 1.. {
            template::check_size(&object)?;
            let key = row_of(&object);
            let taken = if options.dry_run {
                app.read(move |store| store.get(&key)).await?.is_some()
            } else {
                let sealed = data.iter().map(|(key, value)| (key.clone(), app.seal_value(&object, key, value)));
                let body = body_of(&object, &Sealed { values: sealed.collect() });
                let put = template::put_of(&object, key, app.store().next_number(), Expect::Absent)?;
                match template::commit_put(app, baton_store::ResourcePut { body, ..put }).await {
                    Ok(revision) => {
                        app.0.secrets.one_was_written();
                        object.metadata_mut().resource_version = revision.to_string();
                        false
                    }
                    Err(CommitError::Exists { .. }) => true,
                    Err(error) => return Err(error::commit_failed(&error)),
                }
            };
            if !taken {
                break;
            }
            let meta = object.metadata_mut();
            if !generated || attempt >= template::NAME_ATTEMPTS_MAX {
                return Err(error::already_exists::<Self>(&meta.namespace, &meta.name));
            }
            meta.name = metadata::generated_name(&meta.generate_name);
        }
        Ok(Written { object, created: true, warnings })
    }

    async fn replace(
        app: &App,
        stored: StoredResource,
        change: Change<Self>,
        options: WriteOptions,
    ) -> Result<Written<Self>, ApiError> {
        let old = Self::decode_stored(&stored.body, stored.revision)?;
        let old_sealed = sealed_of(&stored)?;
        let mut object = change(&old)?;
        let mut violations = Vec::new();
        let before = old.metadata().cloned().unwrap_or_default();
        metadata::keep_system_fields(object.metadata_mut(), &before);
        metadata::check_no_new_finalizers(object.metadata_mut(), &before, &mut violations);
        metadata::check(object.metadata_mut(), &mut violations);
        let SecretSpec { data, remove } = object.spec.take().unwrap_or_default();
        check_data(&data, &mut violations);
        for (index, key) in remove.iter().enumerate().filter(|(_, key)| data.contains_key(*key)) {
            let message = format!("'{}' is in spec.data as well; allowed is one of the two", metadata::shortened(key));
            violations.push(Violation::new(format!("spec.remove[{index}]"), message));
        }
        let mut fingerprints: BTreeMap<String, String> = keys_of(&old).collect();
        let mut sealed = old_sealed.clone();
        for key in &remove {
            fingerprints.remove(key);
            sealed.values.remove(key);
        }
        for (key, value) in &data {
            fingerprints.insert(key.clone(), app.fingerprint(&old, key, value, options));
            let kept = sealed.values.get(key).and_then(|sealed| app.open_value(&old, key, sealed));
            if kept.as_deref() != Some(value) {
                sealed.values.insert(key.clone(), app.seal_value(&old, key, value));
            }
        }
        check_all(&sealed, &mut violations);
        if !violations.is_empty() {
            return Err(ApiError::violations(violations));
        }
        let mut warnings = short_values(&data);
        drop_manifest(&mut object, &mut warnings);
        object.take_status_of(&old);
        // A trial does not tell whether a value is the one that is there.
        if sealed != old_sealed || (options.dry_run && !data.is_empty()) {
            object.metadata_mut().generation += 1;
        }
        write_status(&mut object, fingerprints.into_iter(), metadata::now_ms());
        template::check_size(&object)?;
        object.metadata_mut().resource_version.clone_from(&before.resource_version);
        if options.dry_run || (object == old && sealed == old_sealed) {
            return Ok(Written { object, created: false, warnings });
        }
        object.metadata_mut().resource_version.clear();
        let ends = before.deletion_timestamp.is_some() && object.metadata_mut().finalizers.is_empty();
        let revision = if ends {
            template::delete_row(app, &stored, &object).await
        } else {
            let expect = Expect::Revision(stored.revision);
            let put = template::put_of(&object, stored.key.clone(), stored.number, expect)?;
            let body = body_of(&object, &sealed);
            template::commit_put(app, baton_store::ResourcePut { body, ..put }).await
        };
        let revision = revision.map_err(|failed| template::write_failed::<Self>(&stored, &failed))?;
        object.metadata_mut().resource_version = revision.to_string();
        Ok(Written { object, created: false, warnings })
    }

    async fn remove(
        app: &App,
        stored: StoredResource,
        _expected: Option<u64>,
    ) -> Result<DeletedObject<Self>, ApiError> {
        let sealed = sealed_of(&stored)?;
        template::remove_row(app, &stored, |object: &Self| body_of(object, &sealed)).await
    }
}

impl App {
    /// The values of a secret by their keys; `None` if there is none of that name. Documents may write the name with
    /// capitals, which no resource has.
    ///
    /// # Errors
    /// A value does not open with the key of this installation; what the store says.
    pub(crate) async fn secret_values(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<BTreeMap<String, Hidden>>, ApiError> {
        let key = ResourceKey::new(Secret::KIND, namespace, name.to_ascii_lowercase());
        let Some(stored) = self.read(move |store| store.get(&key)).await? else { return Ok(None) };
        let object = Secret::decode_stored(&stored.body, stored.revision)?;
        let mut values = BTreeMap::new();
        for (key, sealed) in sealed_of(&stored)?.values {
            let value = self.open_value(&object, &key, &sealed).ok_or_else(|| {
                let message = format!(
                    "the value of '{key}' of secret '{}' in namespace '{namespace}' does not open with the key of this server",
                    stored.key.name
                );
                ApiError::new(ErrorKind::FailedPrecondition, "SECRET_UNREADABLE", message)
                    .hint("set the value again, or start the server with the key file that it was written with")
            })?;
            values.insert(key, Hidden::new(value));
        }
        Ok(Some(values))
    }

    /// Whether there is a secret of a name.
    pub(crate) async fn has_secret(&self, namespace: &str, name: &str) -> Result<bool, ApiError> {
        let key = ResourceKey::new(Secret::KIND, namespace, name.to_ascii_lowercase());
        Ok(self.read(move |store| store.get(&key)).await?.is_some())
    }

    fn seal_value(&self, object: &Secret, key: &str, value: &str) -> Vec<u8> {
        self.sealer().seal(value.as_bytes(), &place(object, key))
    }

    fn open_value(&self, object: &Secret, key: &str, sealed: &[u8]) -> Option<String> {
        String::from_utf8(self.sealer().unseal(sealed, &place(object, key))?).ok()
    }

    /// Nobody can try values until one fits: not without the key of the installation; not by other secrets, as each has
    /// fingerprints of its own; and not by trials, which are given none.
    fn fingerprint(&self, object: &Secret, key: &str, value: &str, options: WriteOptions) -> String {
        if options.dry_run {
            return String::new();
        }
        let hmac_key = hmac::Key::new(hmac::HMAC_SHA256, &self.sealer().derive(FINGERPRINT_PURPOSE));
        let mut signed = hmac::Context::with_key(&hmac_key);
        // Neither of the first two can hold a `/`.
        let uid = object.metadata().map_or("", |meta| &meta.uid);
        for part in [uid, "/", key, "/", value] {
            signed.update(part.as_bytes());
        }
        hex::encode(&signed.sign().as_ref()[..FINGERPRINT_BYTES])
    }
}

/// What a sealed value is bound to; no part of it but the last can hold a `/`.
fn place(object: &Secret, key: &str) -> Vec<u8> {
    let (namespace, name, uid) =
        object.metadata().map_or(("", "", ""), |meta| (&meta.namespace, &meta.name, &meta.uid));
    format!("secret/{namespace}/{name}/{uid}/{key}").into_bytes()
}

fn row_of(object: &Secret) -> ResourceKey {
    let (namespace, name) =
        object.metadata().map(|meta| (meta.namespace.clone(), meta.name.clone())).unwrap_or_default();
    ResourceKey::new(Secret::KIND, namespace, name)
}

/// The stored form: the fields of both messages one after the other.
fn body_of(object: &Secret, sealed: &Sealed) -> Bytes {
    let mut body = object.encode_to_vec();
    body.extend(sealed.encode_to_vec());
    body.into()
}

fn sealed_of(stored: &StoredResource) -> Result<Sealed, ApiError> {
    Sealed::decode(stored.body.clone()).map_err(|error| ApiError::internal(format!("{}: {error}", stored.key)))
}

fn keys_of(object: &Secret) -> impl Iterator<Item = (String, String)> {
    let keys = object.status.as_ref().map(|status| status.keys.as_slice()).unwrap_or_default();
    keys.iter().map(|key| (key.name.clone(), key.fingerprint.clone()))
}

fn write_status(object: &mut Secret, keys: impl Iterator<Item = (String, String)>, now_ms: i64) {
    let keys = keys.map(|(name, fingerprint)| SecretKey { name, fingerprint }).collect();
    let status: &mut SecretStatus = object.status.get_or_insert_default();
    status.keys = keys;
    template::write_accepted(object, now_ms);
}

fn check_data(data: &BTreeMap<String, String>, violations: &mut Vec<Violation>) {
    for (key, value) in data {
        let field = || format!("spec.data.{}", metadata::shortened(key));
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if key.is_empty() || key.len() > KEY_LENGTH_MAX || !key.chars().all(plain) {
            let message = format!("is no key; allowed are 1 to {KEY_LENGTH_MAX} letters, digits, '-', '_' and '.'");
            violations.push(Violation::new(field(), message));
        }
        if value.len() > VALUE_BYTES_MAX {
            let message = format!("has {} bytes, allowed are up to {VALUE_BYTES_MAX}", value.len());
            violations.push(Violation::new(field(), message));
        }
    }
    check_sums(data.len(), data.values().map(String::len).sum(), violations);
}

/// The limits again for what an update adds up to.
fn check_all(sealed: &Sealed, violations: &mut Vec<Violation>) {
    if violations.is_empty() {
        check_sums(sealed.values.len(), sealed.values.values().map(Vec::len).sum(), violations);
    }
}

fn check_sums(keys: usize, bytes: usize, violations: &mut Vec<Violation>) {
    if keys > KEYS_MAX {
        violations.push(Violation::new("spec.data", format!("has {keys} keys, allowed are up to {KEYS_MAX}")));
    }
    if bytes > VALUES_BYTES_MAX {
        let message = format!("has values of {bytes} bytes together, allowed are up to {VALUES_BYTES_MAX}");
        violations.push(Violation::new("spec.data", message));
    }
}

fn short_values(data: &BTreeMap<String, String>) -> Vec<String> {
    let short: BTreeSet<&str> = data
        .iter()
        .filter(|(_, value)| value.trim().len() < REDACTED_LENGTH_MIN)
        .map(|(key, _)| key.as_str())
        .collect();
    let warn = |key: &str| {
        format!(
            "spec.data.{key}: is shorter than {REDACTED_LENGTH_MIN} bytes, and so is not hidden where a service repeats it"
        )
    };
    short.into_iter().map(warn).collect()
}

/// What a client keeps of the manifest would hold the values in plain text.
fn drop_manifest(object: &mut Secret, warnings: &mut Vec<String>) {
    if object.metadata_mut().annotations.remove(LAST_APPLIED).is_some() {
        warnings.push(format!("metadata.annotations: '{LAST_APPLIED}' is not kept, as it holds the values"));
    }
}

#[cfg(test)]
mod tests;
