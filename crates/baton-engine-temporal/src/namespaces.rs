//! Which namespaces of Temporal may be answered, by the identity that tokens have.
//!
//! The configuration names them; a token has an id. The ids are learnt by asking Temporal, in the background, and looked at
//! again every minute, so that a namespace that was deleted and made again is known by its new id.
//!
//! # Invariants
//! - A token is answered only if its namespace's id is that of a namespace that is named: not knowing is never a yes.
//! - What was learnt once is not forgotten because Temporal is away.
//!
//! # Failure
//! A namespace that cannot be asked about (Temporal down, no permission) is undecided: what depends on it is tried again. One
//! that does not exist is so too until it was looked for again after the question.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use temporalio_client::tonic::Code;
use temporalio_common::protos::temporal::api::workflowservice::v1::DescribeNamespaceRequest;
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
    time::timeout,
};

use crate::{connect::Connection, rpc::Rpc};

/// Pause between two looks when all is known.
const LOOK_AGAIN: Duration = Duration::from_mins(1);
/// Shortest and longest pause between two looks while something is not known.
const LOOK_AGAIN_SOON: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// Temporal's own limit of a payload, where a server does not say which it has.
const PAYLOAD_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// A namespace that may be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Namespace {
    /// Its name.
    pub(crate) name: String,
    /// The largest payload that it takes.
    pub(crate) payload_bytes_max: u64,
}

/// Whether a namespace may be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Yes.
    Allowed(Namespace),
    /// No, whatever happens.
    Forbidden,
    /// Not known at present, and why.
    Undecided(String),
}

#[derive(Clone, Debug)]
enum Found {
    Id { id: String, payload_bytes_max: u64 },
    Missing,
    NotKnown(String),
}

#[derive(Clone, Debug)]
struct Known {
    /// How often all were looked for.
    looks: u64,
    by_name: BTreeMap<String, Found>,
}

impl Known {
    fn verdict(&self, id: &str) -> Verdict {
        let mut undecided = None;
        for (name, found) in &self.by_name {
            match found {
                Found::Id { id: known, payload_bytes_max } if known == id => {
                    let payload_bytes_max = *payload_bytes_max;
                    return Verdict::Allowed(Namespace { name: name.clone(), payload_bytes_max });
                }
                Found::Id { .. } => {}
                Found::Missing => undecided = Some(format!("there is no Temporal namespace '{name}'")),
                Found::NotKnown(why) => undecided = Some(why.clone()),
            }
        }
        undecided.map_or(Verdict::Forbidden, Verdict::Undecided)
    }

    /// The verdict of one who has just looked: what does not exist has no tokens.
    fn verdict_after_look(&self, id: &str) -> Verdict {
        match self.verdict(id) {
            Verdict::Undecided(why) if self.by_name.values().any(|found| matches!(found, Found::NotKnown(_))) => {
                Verdict::Undecided(why)
            }
            Verdict::Undecided(_) => Verdict::Forbidden,
            decided => decided,
        }
    }

    fn all_known(&self) -> bool {
        self.by_name.values().all(|found| matches!(found, Found::Id { .. }))
    }
}

/// The namespaces that may be answered, kept up to date by a task in the background.
#[derive(Debug)]
pub(crate) struct Namespaces {
    connection: Connection,
    known: watch::Receiver<Known>,
    look: Arc<Notify>,
    task: AbortHandle,
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Namespaces {
    /// Begins to look for namespaces of these names.
    pub(crate) fn watch(connection: Connection, names: Vec<String>) -> Self {
        let nothing = |name: String| (name, Found::NotKnown("Temporal was not asked yet".to_owned()));
        let (sender, known) = watch::channel(Known { looks: 0, by_name: names.into_iter().map(nothing).collect() });
        let look = Arc::new(Notify::new());
        let task = tokio::spawn(keep_looking(connection.clone(), sender, look.clone())).abort_handle();
        Self { connection, known, look, task }
    }

    /// The names, as the configuration has them.
    pub(crate) fn names(&self) -> Vec<String> {
        self.known.borrow().by_name.keys().cloned().collect()
    }

    /// What is known now; asks nobody.
    pub(crate) fn verdict(&self, id: &str) -> Verdict {
        let verdict = self.known.borrow().verdict(id);
        if verdict == Verdict::Forbidden {
            // It may be new. The next one with such a token is told what holds.
            self.look.notify_one();
        }
        verdict
    }

    /// What is known, after a look if that is needed and possible.
    pub(crate) async fn decide(&self, id: &str, patience: Duration) -> Verdict {
        let (verdict, looks) = {
            let known = self.known.borrow();
            (known.verdict(id), known.looks)
        };
        let Verdict::Undecided(why) = verdict else { return verdict };
        if let Some(problem) = self.connection.problem() {
            return Verdict::Undecided(problem);
        }
        let mut known = self.known.clone();
        let looked = async {
            // The first look that ends may have been on its way before we came, and have passed the name already.
            for look in 1..=2 {
                self.look.notify_one();
                let seen =
                    |known: &Known| known.looks >= looks + look || matches!(known.verdict(id), Verdict::Allowed(_));
                known.wait_for(seen).await.ok()?;
            }
            Some(known.borrow().verdict_after_look(id))
        };
        timeout(patience, looked).await.ok().flatten().unwrap_or(Verdict::Undecided(why))
    }
}

async fn keep_looking(connection: Connection, known: watch::Sender<Known>, look: Arc<Notify>) {
    let rpc = Rpc::new(connection.clone());
    let mut pause = LOOK_AGAIN_SOON.0;
    loop {
        connection.wait_connected().await;
        let names: Vec<String> = known.borrow().by_name.keys().cloned().collect();
        let mut found = BTreeMap::new();
        for name in names {
            found.insert(name.clone(), ask(&rpc, &name).await);
        }
        known.send_modify(|known| {
            known.looks += 1;
            for (name, found) in found {
                tell(&name, known.by_name.get(&name), &found);
                let keep = matches!((known.by_name.get(&name), &found), (Some(Found::Id { .. }), Found::NotKnown(_)));
                if !keep {
                    known.by_name.insert(name, found);
                }
            }
        });
        let longest = if known.borrow().all_known() {
            pause = LOOK_AGAIN_SOON.0;
            LOOK_AGAIN
        } else {
            pause = (pause * 2).min(LOOK_AGAIN_SOON.1);
            pause
        };
        // However many ask, there is a pause between two looks.
        tokio::time::sleep(LOOK_AGAIN_SOON.0).await;
        let _asked_or_time_passed = timeout(longest, look.notified()).await;
    }
}

async fn ask(rpc: &Rpc, name: &str) -> Found {
    let request = DescribeNamespaceRequest { namespace: name.to_owned(), ..DescribeNamespaceRequest::default() };
    match rpc.describe_namespace(request).await {
        Ok(answer) => match answer.namespace_info {
            Some(info) if !info.id.is_empty() => {
                let limit = info.limits.map(|limits| limits.blob_size_limit_error).unwrap_or_default();
                let limit = u64::try_from(limit).ok().filter(|limit| *limit > 0);
                Found::Id { id: info.id, payload_bytes_max: limit.unwrap_or(PAYLOAD_BYTES_MAX) }
            }
            _ => Found::NotKnown(format!("Temporal does not tell the id of its namespace '{name}'")),
        },
        Err(refusal) if refusal.code == Code::NotFound => Found::Missing,
        Err(refusal) => Found::NotKnown(format!("ask Temporal about its namespace '{name}': {refusal}")),
    }
}

/// Says once what a person must do something about.
fn tell(name: &str, before: Option<&Found>, found: &Found) {
    match (before, found) {
        (Some(Found::Missing), Found::Missing) | (Some(Found::Id { .. }), Found::Id { .. } | Found::NotKnown(_)) => {}
        (_, Found::Missing) => {
            tracing::warn!(
                namespace = name,
                "there is no such Temporal namespace; its callers cannot be answered until it exists"
            );
        }
        (Some(Found::NotKnown(old)), Found::NotKnown(new)) if old == new => {}
        (_, Found::NotKnown(why)) => tracing::warn!(namespace = name, %why, "whose tokens these are is not known"),
        (_, Found::Id { .. }) => tracing::debug!(namespace = name, "tokens of this Temporal namespace are answered"),
    }
}
