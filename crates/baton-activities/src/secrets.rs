//! Secrets at the moment of their use: their values are put into an activity's input, and taken out of what comes back.
//!
//! # Invariants
//! - Whatever value was put into the input of an activity, and all of every secret that the activity itself asked the
//!   [`Home`] for, is looked for in its output and its fault: see [`Secrets`].
//! - A value is put in once: a value that looks like a placeholder is a value.
//! - What the installation keeps for others to read, such as an event, holds none: it may not even name one.
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
use baton_execution::{
    BrokenPlaceholder, Fault, disarm_secrets, fault_type, replace_secrets, secret_placeholder_start, secrets_named,
};
use baton_types::Digest;
use bytes::Bytes;
use serde_json::Value;

use crate::{Home, Secret, Subscription, redact::Secrets};

/// Bytes of texts that are searched for secrets right here; more of them elsewhere, so that nobody else has to wait.
const HERE_BYTES_MAX: usize = 64 * 1024;

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

    async fn content(&self, digest: Digest) -> Result<Option<Bytes>, Fault> {
        self.0.content(digest).await
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
        let is_long = match &result {
            Ok(output) => is_longer(output, &mut HERE_BYTES_MAX.clone()),
            Err(fault) => fault.data.as_ref().is_some_and(|data| is_longer(data, &mut HERE_BYTES_MAX.clone())),
        };
        let redact = move || result.map(|output| given.redact_value(output)).map_err(|fault| given.redact_fault(fault));
        if !is_long {
            return redact();
        }
        let redacted = tokio::task::spawn_blocking(redact).await;
        redacted.unwrap_or_else(|_| {
            let detail = "what the activity gave cannot be searched for secrets";
            Err(Fault::new(fault_type::RUNTIME, 500, detail).non_retryable())
        })
    }

    /// What the activity that runs here has been given so far.
    pub(crate) fn given() -> Secrets {
        GIVEN.try_with(|given| given.borrow().clone()).unwrap_or_default()
    }

    /// Refuses secrets in what the installation keeps for others to read.
    ///
    /// # Errors
    /// One is named.
    pub(crate) fn refuse(input: &Value) -> Result<(), Fault> {
        refuse_encoded(input)?;
        match secrets_named(input) {
            Ok(named) if named.is_empty() => Ok(()),
            Ok(named) => {
                let (name, key) = named.into_iter().next().unwrap_or_default();
                Err(refused(format!(
                    "an event holds the value of '{key}' of secret '{name}'; events are kept, and whoever listens reads them: leave it out, and let the listener use the secret itself"
                )))
            }
            Err(BrokenPlaceholder) => Err(broken(BrokenPlaceholder)),
        }
    }

    /// Work that goes on when the activity that runs here has ended; its fault holds no more of what the activity was given than
    /// the activity's own.
    pub(crate) fn outliving<T>(work: impl Future<Output = Result<T, Fault>>) -> impl Future<Output = Result<T, Fault>> {
        let given = GIVEN.try_with(|given| given.borrow().clone()).unwrap_or_default();
        let work = async { work.await.map_err(|fault| GIVEN.with(|given| given.borrow().redact_fault(fault))) };
        GIVEN.scope(RefCell::new(given), work)
    }

    /// The text without what the activity that runs here was given. For what is to be cut: of a value that is cut at its
    /// beginning, nobody can tell the rest.
    pub(crate) fn redact(text: &str) -> String {
        GIVEN.try_with(|given| given.borrow().redact(text)).unwrap_or_else(|_| text.to_owned())
    }

    /// Data as it will be recorded of the activity that runs here: without what it was given, and without anything that could be
    /// taken for a placeholder. For what is compared with something that was recorded.
    pub(crate) fn as_recorded(data: Value) -> Value {
        let mut data = GIVEN.try_with(|given| given.borrow().redact_value(data.clone())).unwrap_or(data);
        disarm_secrets(&mut data);
        data
    }

    /// Puts values in place of the placeholders in an activity's input.
    ///
    /// # Errors
    /// There is no such secret or key, it cannot be read now, or a placeholder is not whole any more.
    pub(crate) async fn resolve(&self, namespace: &str, input: &mut Value) -> Result<(), Fault> {
        refuse_encoded(input)?;
        let mut values: BTreeMap<(String, String), String> = BTreeMap::new();
        let mut read: BTreeMap<&str, BTreeMap<String, Secret>> = BTreeMap::new();
        for (name, key) in secrets_named(input).map_err(broken)? {
            if !read.contains_key(name) {
                let secret = self.0.secret(namespace, name).await?;
                read.insert(name, secret.ok_or_else(|| no_secret(namespace, name))?);
            }
            let keys = &read[name];
            let value = keys.get(key).ok_or_else(|| {
                let known: Vec<String> = keys.keys().map(|key| format!("'{key}'")).collect();
                let known =
                    if known.is_empty() { "it has none".to_owned() } else { format!("keys are {}", known.join(", ")) };
                refused(format!("secret '{name}' in namespace '{namespace}' has no key '{key}'; {known}"))
            })?;
            _ = GIVEN.try_with(|given| given.borrow_mut().add(value.expose()));
            values.insert((name.to_owned(), key.to_owned()), value.expose().to_owned());
        }
        if !values.is_empty() {
            replace_secrets(input, &|name, key| values.get(&(name.to_owned(), key.to_owned())).cloned());
        }
        Ok(())
    }
}

fn broken(_: BrokenPlaceholder) -> Fault {
    refused("an expression has cut or changed the text that stands for a secret; use '$secrets.<name>.<key>' whole, in a text or by itself".to_owned())
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

/// Whether the texts of a value have more bytes than are left.
fn is_longer(data: &Value, left: &mut usize) -> bool {
    let mut take = |bytes: usize| left.checked_sub(bytes).map(|rest| *left = rest).is_none();
    match data {
        Value::String(text) => take(text.len()),
        Value::Array(items) => items.iter().any(|item| is_longer(item, left)),
        Value::Object(fields) => {
            fields.iter().any(|(name, field)| is_longer(&name.as_str().into(), left) || is_longer(field, left))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => take(1),
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    struct Keyed;

    #[async_trait]
    impl Home for Keyed {
        async fn secret(&self, _: &str, _: &str) -> Result<Option<BTreeMap<String, Secret>>, Fault> {
            Ok(Some(BTreeMap::from([("key".to_owned(), Secret::new("hunter22"))])))
        }

        async fn publish(&self, _: &str, _: Value) -> Result<(), Fault> {
            Ok(())
        }

        async fn subscribe(&self, _: &str, _: Subscription) -> Result<(), Fault> {
            Ok(())
        }

        async fn content(&self, _: Digest) -> Result<Option<Bytes>, Fault> {
            Ok(None)
        }
    }

    #[tokio::test]
    async fn what_goes_on_after_the_activity_tells_no_more_than_the_activity() {
        let vault = Vault::new(Arc::new(Keyed));
        let (tell, told) = tokio::sync::oneshot::channel();
        let output = Vault::guard(async {
            vault.secret("default", "any").await?;
            let failing = async { Err::<(), _>(Fault::new(fault_type::RUNTIME, 500, "exec: \"hunter22\": not found")) };
            let going_on = Vault::outliving(failing);
            tokio::spawn(async { tell.send(going_on.await.unwrap_err()) });
            Ok(Value::from(Vault::redact("hunter22")))
        });
        assert_eq!(output.await.unwrap(), "***");
        assert_eq!(told.await.unwrap().detail.as_deref(), Some("exec: \"***\": not found"));
    }
}
