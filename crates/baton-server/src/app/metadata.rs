//! `metadata`: what a caller may put in it, and what the server alone writes.
//!
//! # Invariants
//! - Every check adds to a list of violations and goes on, so that a caller sees all of them at once.
//! - `uid`, `creationTimestamp`, `deletionTimestamp` and `generation` are the server's: what a caller sends there is dropped.

use std::time::{SystemTime, UNIX_EPOCH};

use baton_proto::{API_VERSION, Resource, Timestamp, v1::ObjectMeta};
use baton_types::{NAME_LENGTH_MAX, Uid, Violation, check_name, check_namespace};

/// Namespace of whoever names none.
pub(crate) const NAMESPACE_DEFAULT: &str = "default";
/// Longest part of a qualified name after its `/`, and longest label value, in bytes.
const LABEL_PART_LENGTH_MAX: usize = 63;
/// Keys and values of all annotations together, in bytes.
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;
/// Owners and finalizers of one object, each.
const LIST_LENGTH_MAX: usize = 64;
/// Random characters that complete a `generateName`.
const SUFFIX_LENGTH: usize = 5;
/// Without vowels, so that no words come out, and without characters that look alike.
const SUFFIX_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A uid that no other resource has.
pub(crate) fn new_uid() -> Uid {
    Uid::from_bytes(uuid::Uuid::now_v7().into_bytes())
}

/// A name that begins with `prefix` and that most likely nothing has.
pub(crate) fn generated_name(prefix: &str) -> String {
    let kept = NAME_LENGTH_MAX - SUFFIX_LENGTH;
    let mut name: String = prefix.chars().take(kept).collect();
    let random = uuid::Uuid::now_v7().into_bytes();
    name.extend(
        random[16 - SUFFIX_LENGTH..]
            .iter()
            .map(|byte| char::from(SUFFIX_ALPHABET[usize::from(*byte) % SUFFIX_ALPHABET.len()])),
    );
    name
}

/// Fills in the namespace, `apiVersion` and `kind` where they are left out, and notes those that are wrong.
pub(crate) fn complete<R: Resource>(object: &mut R, violations: &mut Vec<Violation>) {
    let (api_version, kind) = object.type_meta();
    if !api_version.is_empty() && api_version != API_VERSION {
        violations
            .push(Violation::new("apiVersion", format!("is '{}', allowed is '{API_VERSION}'", shortened(api_version))));
    }
    if !kind.is_empty() && kind != R::KIND {
        violations.push(Violation::new("kind", format!("is '{}', allowed here is '{}'", shortened(kind), R::KIND)));
    }
    object.set_type_meta();
    let metadata = object.metadata_mut();
    if metadata.namespace.is_empty() {
        NAMESPACE_DEFAULT.clone_into(&mut metadata.namespace);
    }
}

/// Makes the metadata of a new object: everything that is the server's is the server's, whatever was sent.
///
/// Returns whether the name was generated, and can be generated again if it is taken.
pub(crate) fn prepare_new(metadata: &mut ObjectMeta, uid: Uid, now_ms: i64, violations: &mut Vec<Violation>) -> bool {
    if !metadata.resource_version.is_empty() {
        violations
            .push(Violation::new("metadata.resourceVersion", "must not be set on an object that is to be created"));
    }
    let generated = metadata.name.is_empty() && !metadata.generate_name.is_empty();
    if generated {
        metadata.name = generated_name(&metadata.generate_name);
    }
    metadata.resource_version.clear();
    metadata.uid = uid.to_string();
    metadata.generation = 1;
    metadata.creation_timestamp = Some(Timestamp::from_millis(now_ms).whole_seconds());
    metadata.deletion_timestamp = None;
    generated
}

/// Takes over from the stored object what a replacement cannot change.
pub(crate) fn keep_system_fields(metadata: &mut ObjectMeta, stored: &ObjectMeta) {
    metadata.uid.clone_from(&stored.uid);
    metadata.resource_version.clear();
    metadata.generation = stored.generation;
    metadata.creation_timestamp = stored.creation_timestamp;
    metadata.deletion_timestamp = stored.deletion_timestamp;
    metadata.generate_name.clone_from(&stored.generate_name);
}

/// Notes the finalizers that a replacement adds to an object whose deletion was asked for.
pub(crate) fn check_no_new_finalizers(metadata: &ObjectMeta, stored: &ObjectMeta, violations: &mut Vec<Violation>) {
    if stored.deletion_timestamp.is_none() {
        return;
    }
    for (index, finalizer) in metadata.finalizers.iter().enumerate() {
        if !stored.finalizers.contains(finalizer) {
            violations.push(Violation::new(
                format!("metadata.finalizers[{index}]"),
                format!("'{}' cannot be added: deletion of the object was asked for already", shortened(finalizer)),
            ));
        }
    }
}

/// Checks names, labels, annotations, owners and finalizers.
pub(crate) fn check(metadata: &ObjectMeta, violations: &mut Vec<Violation>) {
    let mut note = |field: String, checked: Result<(), String>| {
        if let Err(message) = checked {
            violations.push(Violation::new(field, message));
        }
    };
    if metadata.name.is_empty() {
        note("metadata.name".to_owned(), Err("must be set, or metadata.generateName in its place".to_owned()));
    } else {
        note("metadata.name".to_owned(), check_name(&metadata.name));
    }
    note("metadata.namespace".to_owned(), check_namespace(&metadata.namespace));
    for (key, value) in &metadata.labels {
        note(
            format!("metadata.labels.{}", shortened(key)),
            check_qualified_name(key).and_then(|()| check_label_value(value)),
        );
    }
    let mut annotations_bytes = 0;
    for (key, value) in &metadata.annotations {
        annotations_bytes += key.len() + value.len();
        note(format!("metadata.annotations.{}", shortened(key)), check_qualified_name(key));
    }
    if annotations_bytes > ANNOTATIONS_BYTES_MAX {
        note(
            "metadata.annotations".to_owned(),
            Err(format!("have {annotations_bytes} bytes together, allowed are up to {ANNOTATIONS_BYTES_MAX}")),
        );
    }
    for (index, finalizer) in metadata.finalizers.iter().enumerate() {
        note(format!("metadata.finalizers[{index}]"), check_qualified_name(finalizer));
    }
    check_owners(metadata, violations);
    for (field, length) in [
        ("metadata.finalizers", metadata.finalizers.len()),
        ("metadata.ownerReferences", metadata.owner_references.len()),
    ] {
        if length > LIST_LENGTH_MAX {
            violations.push(Violation::new(field, format!("has {length} items, allowed are up to {LIST_LENGTH_MAX}")));
        }
    }
}

fn check_owners(metadata: &ObjectMeta, violations: &mut Vec<Violation>) {
    let mut controllers = 0;
    for (index, owner) in metadata.owner_references.iter().enumerate() {
        let field = |name: &str| format!("metadata.ownerReferences[{index}].{name}");
        for (name, value) in [("apiVersion", &owner.api_version), ("kind", &owner.kind), ("name", &owner.name)] {
            if value.is_empty() {
                violations.push(Violation::new(field(name), "must be set"));
            }
        }
        match owner.uid.parse::<Uid>() {
            Err(error) => violations.push(Violation::new(field("uid"), error.to_string())),
            Ok(uid) if uid.to_string() == metadata.uid => {
                violations.push(Violation::new(field("uid"), "is the object itself: nothing owns itself"));
            }
            Ok(_) => {}
        }
        controllers += usize::from(owner.controller);
    }
    if controllers > 1 {
        violations.push(Violation::new(
            "metadata.ownerReferences",
            format!("has {controllers} owners with controller true, allowed is one"),
        ));
    }
}

/// The owner that the store finds dependents by: the controller, else the first.
pub(crate) fn owner_uid(metadata: &ObjectMeta) -> Option<Uid> {
    let owners = &metadata.owner_references;
    owners.iter().find(|owner| owner.controller).or_else(|| owners.first()).and_then(|owner| owner.uid.parse().ok())
}

/// Checks a key such as `team` or `example.com/team`.
pub(crate) fn check_qualified_name(name: &str) -> Result<(), String> {
    let (prefix, part) = name.split_once('/').map_or((None, name), |(prefix, part)| (Some(prefix), part));
    if let Some(prefix) = prefix {
        check_name(prefix).map_err(|message| format!("the part before '/' {message}"))?;
    }
    if part.is_empty() {
        return Err("must not be empty".to_owned());
    }
    check_label_value(part)
}

/// Checks a label's value, which may be empty.
pub(crate) fn check_label_value(value: &str) -> Result<(), String> {
    if value.len() > LABEL_PART_LENGTH_MAX {
        return Err(format!("has {} bytes, allowed are up to {LABEL_PART_LENGTH_MAX}", value.len()));
    }
    let edge = |c: char| c.is_ascii_alphanumeric();
    let good = value.is_empty()
        || (value.starts_with(edge)
            && value.ends_with(edge)
            && value.chars().all(|c| edge(c) || matches!(c, '-' | '_' | '.')));
    if good {
        return Ok(());
    }
    Err(format!(
        "'{}' has other characters than letters, digits, '-', '_' and '.', or does not begin and end with a letter or digit",
        shortened(value)
    ))
}

/// Text from outside, short enough for a message.
pub(crate) fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 64;
    let mut chars = text.chars();
    let mut shown: String = chars.by_ref().take(CHARS_MAX).collect();
    if chars.next().is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_are_valid_and_keep_their_prefix() {
        for prefix in ["a-", &"x".repeat(300)] {
            let name = generated_name(prefix);
            check_name(&name).unwrap();
            assert!(name.len() <= NAME_LENGTH_MAX);
            assert_eq!(name[..name.len() - SUFFIX_LENGTH], prefix[..name.len() - SUFFIX_LENGTH]);
        }
    }

    #[test]
    fn qualified_names_follow_kubernetes() {
        for good in ["app", "example.com/app", "A_b.c-9"] {
            check_qualified_name(good).unwrap();
        }
        for bad in ["", "/app", "a/b/c", "Example.com/app", "-a", "a-", "a b", &"x".repeat(64)] {
            check_qualified_name(bad).unwrap_err();
        }
    }
}
