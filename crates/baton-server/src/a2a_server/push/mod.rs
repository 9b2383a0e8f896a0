//! Push notifications: a client names a URL for a task, and is told there of each state that the task comes to.
//!
//! A configuration is a second kind of return address: it says where to report, is set from outside, holds secrets, and is
//! answered durably. It is a row of its own beside the execution, because it tells of more than the end and can be deleted.
//! The row is the outbox: it holds what was last accepted by the receiver, and [`deliver::Pushing`] compares it with how the task
//! stands, after every change and after every start of the server.
//!
//! # Invariants
//! - At least once: the state that a task is in is sent until it is accepted, refused for good, or [`deliver::DEADLINE`] has
//!   passed. A state that a task has left meanwhile may be left out; the last one is not.
//! - URL, token and credentials lie in the store sealed, and are in no answer and no log line.
//! - Whom notifications may go to is decided by the one egress policy: when the configuration is set as far as the URL tells,
//!   and for the resolved address each time one is sent.
//!
//! # Failure
//! What could not be delivered stays visible: annotation [`deliver::ABANDONED`] of the execution, metric, log. To set the
//! configuration again begins anew.

mod deliver;
mod rows;

use baton_activities::EgressPolicy;
use baton_store::{CommitError, Expect, Lane, ListQuery, ResourceDelete, ResourcePut, StoredResource, Txn};
use baton_types::{ApiError, Digest, ErrorKind, Uid, Violation};
use serde_json::{Value, json};

pub(crate) use deliver::Pushing;
use rows::{PUSH, Row, Target};

use super::{
    error::{A2aError, Kind},
    task::Task,
    wire::{self, PushConfig},
};
use crate::app::{self, App};

/// Configurations of one task.
const CONFIGS_MAX: usize = 16;
/// Longest id of a configuration, URL, token and credentials, in bytes.
const ID_BYTES_MAX: usize = 64;
const URL_BYTES_MAX: usize = 2048;
const TOKEN_BYTES_MAX: usize = 1024;
const CREDENTIALS_BYTES_MAX: usize = 8192;
/// Times that a row is written when others write it too.
const RACES_MAX: usize = 8;

/// A configuration that was checked.
pub(super) struct Checked {
    id: String,
    target: Target,
}

/// Checks a configuration; `prefix` is where it stands in the parameters.
pub(super) fn check(config: &PushConfig, egress: &EgressPolicy, prefix: &str) -> Result<Checked, A2aError> {
    wire::no_tenant(&config.tenant)?;
    let mut violations = Vec::new();
    let mut note = |field: &str, message: String| violations.push(Violation::new(format!("{prefix}{field}"), message));
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if config.id.len() > ID_BYTES_MAX || !config.id.chars().all(plain) {
        note("id", format!("allowed are up to {ID_BYTES_MAX} letters, digits, '-' and '_'"));
    }
    match url(&config.url).map(|url| egress.check_url(&url)) {
        Ok(Ok(())) => {}
        Ok(Err(refused)) => note("url", refused.to_string()),
        Err(message) => note("url", message),
    }
    let header = |text: &str| text.chars().all(|c| (' '..='~').contains(&c));
    let authentication = config.authentication.clone().unwrap_or_default();
    let (scheme, credentials) = (authentication.scheme, authentication.credentials);
    for (field, text, limit) in [
        ("token", &config.token, TOKEN_BYTES_MAX),
        ("authentication.scheme", &scheme, ID_BYTES_MAX),
        ("authentication.credentials", &credentials, CREDENTIALS_BYTES_MAX),
    ] {
        if text.len() > limit || !header(text) {
            note(field, format!("allowed are up to {limit} printable characters of ASCII: it goes into a header"));
        }
    }
    if scheme.is_empty() != credentials.is_empty() {
        note("authentication", "must have both a scheme and credentials, or neither".to_owned());
    }
    if !violations.is_empty() {
        return Err(ApiError::violations(violations).into());
    }
    let id = match config.id.as_str() {
        "" => hex::encode(&Digest::of(config.url.as_bytes()).as_bytes()[..8]),
        id => id.to_owned(),
    };
    Ok(Checked { id, target: Target { url: config.url.clone(), token: config.token.clone(), scheme, credentials } })
}

fn url(text: &str) -> Result<url::Url, String> {
    if text.is_empty() || text.len() > URL_BYTES_MAX {
        return Err(format!("must have 1 to {URL_BYTES_MAX} bytes"));
    }
    text.parse().map_err(|error| format!("is not an absolute URL: {error}"))
}

/// A configuration as it is answered: without its secrets.
fn shown(task: &Task, id: &str, target: &Target) -> Value {
    let mut config = json!({"taskId": task.id, "id": id, "url": target.url});
    if !target.scheme.is_empty() {
        config["authentication"] = json!({"scheme": target.scheme});
    }
    config
}

/// Sets a configuration of a task, in place of one with the same id. The task's present state is sent at once.
pub(super) async fn put(app: &App, namespace: &str, task: &Task, checked: Checked) -> Result<Value, A2aError> {
    let Checked { id, target } = checked;
    let uid = task.id.parse::<Uid>().map_err(|_| A2aError::no_task(&task.id))?;
    let key = rows::key(namespace, uid, &id);
    let answer = shown(task, &id, &target);
    let body = Row::new(app.sealer(), &key, &id, &target).encode();
    for _ in 0..RACES_MAX {
        let rows = rows_of(app, namespace, uid).await?;
        let present = rows.iter().find(|row| row.key == key);
        if present.is_none() && rows.len() >= CONFIGS_MAX {
            let message = format!("the task has {CONFIGS_MAX} configurations, which are as many as it can have");
            return Err(A2aError::new(Kind::InvalidParams, message));
        }
        match write(app, &key, uid, present, body.clone()).await {
            Ok(()) => return Ok(answer),
            Err(CommitError::Conflict { .. } | CommitError::Exists { .. } | CommitError::NotFound { .. }) => {}
            Err(failed) => return Err(baton_engine::commit_failed(&failed).into()),
        }
    }
    Err(A2aError::new(Kind::Unavailable, "the configuration is changed by others at the same time"))
}

/// The configurations of a task.
pub(super) async fn list(app: &App, namespace: &str, task: &Task) -> Result<Vec<Value>, A2aError> {
    let uid = task.id.parse::<Uid>().map_err(|_| A2aError::no_task(&task.id))?;
    let rows = rows_of(app, namespace, uid).await?;
    Ok(rows.iter().filter_map(|stored| read(app, task, stored)).collect())
}

/// One configuration of a task.
pub(super) async fn get(app: &App, namespace: &str, task: &Task, id: &str) -> Result<Value, A2aError> {
    let (_, stored) = find(app, namespace, task, id).await?;
    stored.and_then(|stored| read(app, task, &stored)).ok_or_else(|| no_config(id))
}

/// Deletes a configuration; one that is not there is deleted already.
pub(super) async fn delete(app: &App, namespace: &str, task: &Task, id: &str) -> Result<(), A2aError> {
    for _ in 0..RACES_MAX {
        let (_, Some(stored)) = find(app, namespace, task, id).await? else { return Ok(()) };
        match remove(app, &stored).await {
            Ok(()) | Err(CommitError::NotFound { .. }) => return Ok(()),
            Err(CommitError::Conflict { .. }) => {}
            Err(failed) => return Err(baton_engine::commit_failed(&failed).into()),
        }
    }
    Err(A2aError::new(Kind::Unavailable, "the configuration is changed by others at the same time"))
}

fn no_config(id: &str) -> A2aError {
    A2aError::field("id", format!("no push notification configuration '{}' of this task", app::shortened(id)))
}

async fn find(app: &App, namespace: &str, task: &Task, id: &str) -> Result<(Uid, Option<StoredResource>), A2aError> {
    let uid = task.id.parse::<Uid>().map_err(|_| A2aError::no_task(&task.id))?;
    let key = rows::key(namespace, uid, id);
    Ok((uid, app.read(move |store| store.get(&key)).await?))
}

fn read(app: &App, task: &Task, stored: &StoredResource) -> Option<Value> {
    match Row::decode(app.sealer(), &stored.key, &stored.body) {
        Ok((row, target)) => Some(shown(task, &row.id, &target)),
        Err(why) => {
            tracing::error!(key = %stored.key, "a push notification configuration cannot be read: {why}");
            None
        }
    }
}

/// The rows of one execution: they lie beside each other.
async fn rows_of(app: &App, namespace: &str, uid: Uid) -> Result<Vec<StoredResource>, ApiError> {
    let prefix = format!("{uid}.");
    let after = Some((namespace.to_owned(), prefix.clone()));
    let query = ListQuery { namespace: Some(namespace.to_owned()), after, ..ListQuery::new(PUSH, CONFIGS_MAX + 1) };
    let page = app.read(move |store| store.list(&query)).await?;
    Ok(page.items.into_iter().filter(|row| row.key.name.starts_with(&prefix)).collect())
}

async fn write(
    app: &App,
    key: &baton_store::ResourceKey,
    owner: Uid,
    present: Option<&StoredResource>,
    body: bytes::Bytes,
) -> Result<(), CommitError> {
    let (uid, number, expect) = match present {
        Some(row) => (row.uid, row.number, Expect::Revision(row.revision)),
        None => (*app::new_uid().as_bytes(), app.store().next_number(), Expect::Absent),
    };
    let put = ResourcePut {
        key: key.clone(),
        uid,
        number,
        expect,
        body,
        labels: None,
        state: baton_store::ExecState::None,
        owner: Some(*owner.as_bytes()),
        expires_at_ms: None,
        deleting: false,
    };
    app.store().commit_async(Lane::Internal, Txn { puts: vec![put], ..Txn::default() }).await.map(drop)
}

async fn remove(app: &App, row: &StoredResource) -> Result<(), CommitError> {
    let delete = ResourceDelete {
        key: row.key.clone(),
        uid: row.uid,
        number: row.number,
        revision: row.revision,
        body: bytes::Bytes::new(),
    };
    app.store().commit_async(Lane::Internal, Txn { deletes: vec![delete], ..Txn::default() }).await.map(drop)
}

/// Whether a refusal says that something is not there.
fn is_gone(refused: &ApiError) -> bool {
    refused.kind == ErrorKind::NotFound
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> PushConfig {
        PushConfig { url: url.to_owned(), ..PushConfig::default() }
    }

    #[test]
    fn notifications_go_where_the_policy_lets_them() {
        let closed = EgressPolicy { allow_private: false, ..EgressPolicy::default() };
        let check = |url: &str| check(&config(url), &closed, "").map(|_| ());
        check("https://example.com/hook?x=1").unwrap();
        for bad in [
            "",
            "hook",
            "ftp://example.com/",
            "http://127.0.0.1/",
            "http://[::1]/",
            "http://10.0.0.1/",
            "http://169.254.169.254/latest",
            "http://[::ffff:10.0.0.1]/",
            "https://user:hunter2@example.com/",
            &format!("https://example.com/{}", "x".repeat(3000)),
        ] {
            let error = check(bad).unwrap_err();
            assert_eq!(error.kind, Kind::InvalidParams);
            assert!(!error.rpc().to_string().contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn what_goes_into_a_header_fits_in_one() {
        let with = |token: &str, scheme: &str, credentials: &str| {
            let authentication =
                Some(wire::Authentication { scheme: scheme.to_owned(), credentials: credentials.to_owned() });
            check(
                &PushConfig { token: token.to_owned(), authentication, ..config("https://example.com/") },
                &EgressPolicy::default(),
                "",
            )
        };
        assert!(with("t", "Bearer", "abc").is_ok());
        for (token, scheme, credentials) in
            [("a\r\nb", "", ""), ("ü", "", ""), ("", "Bearer", ""), ("", "", "abc"), (&"x".repeat(2000), "", "")]
        {
            assert!(with(token, scheme, credentials).is_err(), "{token} {scheme} {credentials}");
        }
    }
}
