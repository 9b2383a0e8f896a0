//! Secrets at the moment of their use: their values are put into an activity's input, and taken out of what comes back.
//!
//! # Invariants
//! - Whatever value was asked of the [`Home`] while an activity ran, for a placeholder or by the activity itself, is looked
//!   for in its output and its fault: see [`Secrets`].
//! - A value is put in once: a value that looks like a placeholder is a value.
//!
//! # Failure
//! A secret that does not exist is a fault of type `authorization`, status 403, however it is named, as the language says; a
//! key that it does not have is a fault of the configuration. The activity does not run.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use async_trait::async_trait;
use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};
use baton_execution::{BrokenPlaceholder, Fault, fault_type, replace_secrets, secret_placeholder_start, secrets_named};
use serde_json::Value;

use crate::{Home, Secret, Subscription, redact::Secrets};

tokio::task_local! {
    /// What the activity that runs here has been given.
    static GIVEN: RefCell<Secrets>;
}

/// The home of activities, which remembers the values that each of them was given.
pub(crate) struct Vault(Arc<dyn Home>);

#[async_trait]
impl Home for Vault {
    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<BTreeMap<String, Secret>>, Fault> {
        let secret = self.0.secret(namespace, name).await?;
        let note = |given: &RefCell<Secrets>| {
            let mut given = given.borrow_mut();
            secret.iter().flat_map(BTreeMap::values).for_each(|value| given.add(value.expose()));
        };
        // Outside of an activity there is nothing to take them out of.
        let _ = GIVEN.try_with(note);
        Ok(secret)
    }

    async fn publish(&self, namespace: &str, event: Value) -> Result<(), Fault> {
        self.0.publish(namespace, event).await
    }

    async fn subscribe(&self, namespace: &str, subscription: Subscription) -> Result<(), Fault> {
        self.0.subscribe(namespace, subscription).await
    }
}

impl Vault {
    pub(crate) fn new(home: Arc<dyn Home>) -> Arc<Self> {
        Arc::new(Self(home))
    }

    /// Runs something that may ask for secrets, and takes them out of what it gives.
    pub(crate) async fn guard(work: impl Future<Output = Result<Value, Fault>>) -> Result<Value, Fault> {
        let work = async {
            let result = work.await;
            (result, GIVEN.with(RefCell::take))
        };
        let (result, given) = GIVEN.scope(RefCell::default(), work).await;
        if given.is_empty() {
            return result;
        }
        result.map(|output| given.redact_value(output)).map_err(|fault| given.redact_fault(fault))
    }

    /// Puts values in place of the placeholders in an activity's input.
    ///
    /// # Errors
    /// There is no such secret or key, it cannot be read now, or a placeholder is not whole any more.
    pub(crate) async fn resolve(&self, namespace: &str, input: &mut Value) -> Result<(), Fault> {
        refuse_encoded(input)?;
        let broken = |BrokenPlaceholder| {
            refused("an expression has cut or changed the text that stands for a secret; use '$secrets.<name>.<key>' whole, in a text or by itself".to_owned())
        };
        let mut values: BTreeMap<(String, String), String> = BTreeMap::new();
        let mut read: BTreeMap<&str, BTreeMap<String, Secret>> = BTreeMap::new();
        for (name, key) in secrets_named(input).map_err(broken)? {
            if !read.contains_key(name) {
                let secret = self.secret(namespace, name).await?;
                read.insert(name, secret.ok_or_else(|| no_secret(namespace, name))?);
            }
            let keys = &read[name];
            let value = keys.get(key).ok_or_else(|| {
                let known: Vec<String> = keys.keys().map(|key| format!("'{key}'")).collect();
                let known =
                    if known.is_empty() { "it has none".to_owned() } else { format!("keys are {}", known.join(", ")) };
                refused(format!("secret '{name}' in namespace '{namespace}' has no key '{key}'; {known}"))
            })?;
            values.insert((name.to_owned(), key.to_owned()), value.expose().to_owned());
        }
        if !values.is_empty() {
            replace_secrets(input, &|name, key| values.get(&(name.to_owned(), key.to_owned())).cloned());
        }
        Ok(())
    }
}

/// A secret that a workflow names and that is not there.
pub(crate) fn no_secret(namespace: &str, name: &str) -> Fault {
    let detail = format!("no secret '{name}' in namespace '{namespace}'");
    Fault::new(fault_type::AUTHORIZATION, 403, detail).non_retryable()
}

/// How a placeholder begins in a URL, and in Base64 wherever in the encoded text it begins.
static ENCODED: LazyLock<Vec<String>> = LazyLock::new(|| {
    let start = secret_placeholder_start();
    let (first, rest) = start.split_at(start.len() - "secret~".len());
    let percent = first.bytes().fold(String::new(), |text, byte| format!("{text}%{byte:02X}"));
    let mut forms = vec![format!("{percent}{rest}"), format!("{}{rest}", percent.to_ascii_lowercase())];
    forms.extend((0..3).map(|before| {
        let whole = BASE64_STANDARD_NO_PAD.encode([&[0; 2][..before], start.as_bytes()].concat());
        whole[(before * 8_usize).div_ceil(6)..(before + start.len()) * 8 / 6].to_owned()
    }));
    forms
});

/// Refuses what would be sent as it is and mean nothing: a placeholder that was encoded before its value is known.
fn refuse_encoded(input: &Value) -> Result<(), Fault> {
    if holds(input, &ENCODED) {
        return Err(refused("an expression encodes a secret, whose value is not known there; give it as it is ('basic' authentication and the 'query' of a request encode by themselves)".to_owned()));
    }
    Ok(())
}

fn holds(data: &Value, forms: &[String]) -> bool {
    match data {
        Value::String(text) => forms.iter().any(|form| text.contains(form)),
        Value::Array(items) => items.iter().any(|item| holds(item, forms)),
        Value::Object(fields) => fields.values().any(|field| holds(field, forms)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn refused(detail: String) -> Fault {
    Fault::new(fault_type::CONFIGURATION, 400, detail).non_retryable()
}
