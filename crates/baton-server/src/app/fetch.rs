//! What a definition refers to and is kept elsewhere: functions and schemas, fetched once, at admission.
//!
//! # Invariants
//! - Nothing is fetched that was given. What was fetched is part of the content that is pinned, so nothing is fetched again.
//! - Fetching is an `http` activity: one egress policy, one way to authenticate, the limits of every outgoing call.
//! - Everything is bounded: files, their sizes one by one and together, and the time of all of them.
//!
//! # Failure
//! A violation at the place that refers to what cannot be had. It can be given in `spec.resources` instead.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use baton_execution::{Activities, ActivityTask, Emitter, OperationId, Origin};
use baton_types::{RESOURCE_BYTES_MAX, Uid, Violation};
use baton_workflow::{CATALOG_DEFAULT, External, ExternalKind, RESOURCES, catalog_uri};
use futures::{StreamExt as _, stream};
use serde_json::{Map, Value, json};

use crate::rest::parse_file;

/// What violations say of something that was not fetched.
pub(super) const CANNOT_BE_USED: &str = "cannot be used";

/// Time for one file, in milliseconds.
const FILE_MS_MAX: u64 = 10_000;
/// Time for all files of a definition.
const ALL_MAX: Duration = Duration::from_secs(30);
/// Files that are fetched at the same time.
const AT_ONCE: usize = 8;

/// A content with the size of its file in bytes, or why there is none.
type Fetched = Result<(Value, usize), String>;

/// Fetches files for admission.
pub(crate) struct Fetcher {
    activities: Arc<dyn Activities>,
    /// The endpoint of the default catalog, if the server has one.
    catalog: Option<String>,
}

impl Fetcher {
    pub(crate) fn new(activities: Arc<dyn Activities>, catalog: Option<String>) -> Self {
        Self { activities, catalog }
    }

    /// Completes a document with what it refers to. Paths of violations are within the document.
    pub(super) async fn complete(&self, namespace: &str, document: &mut Value) -> Result<(), Vec<Violation>> {
        let all = self.fetch_all(namespace, document);
        tokio::time::timeout(ALL_MAX, all).await.unwrap_or_else(|_| {
            let message = format!("fetching what it refers to took longer than {} seconds", ALL_MAX.as_secs());
            Err(vec![Violation::new("", message)])
        })
    }

    async fn fetch_all(&self, namespace: &str, document: &mut Value) -> Result<(), Vec<Violation>> {
        let mut bytes_left = RESOURCE_BYTES_MAX;
        loop {
            let missing = baton_workflow::externals(document);
            if missing.is_empty() {
                return Ok(());
            }
            let fetched: Vec<(External, Fetched)> = stream::iter(missing)
                .map(|external| async move {
                    let content = self.fetch(namespace, &external).await;
                    (external, content)
                })
                .buffered(AT_ONCE)
                .collect()
                .await;
            let mut violations = Vec::new();
            for (External { uri, kind, field, .. }, content) in fetched {
                let cannot =
                    |why: &str| Violation::new(&field, format!("{} '{uri}' {CANNOT_BE_USED}: {why}", kind.title()));
                match content.map(|(content, bytes)| (content, bytes_left.checked_sub(bytes))) {
                    Ok((content, Some(left))) => {
                        bytes_left = left;
                        insert(document, uri, content);
                    }
                    Ok((_, None)) => {
                        let why = format!("all that is fetched is larger than {RESOURCE_BYTES_MAX} bytes");
                        violations.push(cannot(&why));
                    }
                    Err(why) => violations.push(cannot(&why)),
                }
            }
            if !violations.is_empty() {
                return Err(violations);
            }
        }
    }

    async fn fetch(&self, namespace: &str, external: &External) -> Fetched {
        if external.kind == ExternalKind::File {
            let why = "no file of the server is read; baton apply and baton run give it along, if it is below the workflow's folder";
            return Err(why.to_owned());
        }
        let uri = match external.uri.strip_prefix(CATALOG_DEFAULT) {
            None => external.uri.clone(),
            Some(file) => {
                let endpoint = self.catalog.as_deref().ok_or("this server has no default catalog")?;
                catalog_uri(endpoint, file.trim_start_matches('/'))
            }
        };
        let id = OperationId::new("/", 1);
        let task = ActivityTask {
            execution: Uid::from_bytes([0; 16]),
            namespace: namespace.to_owned(),
            name: String::new(),
            idempotency_key: format!("admission/{id}"),
            id,
            activity: "http".to_owned(),
            input: json!({
                "method": "GET",
                "endpoint": uri,
                "output": "raw",
                "redirect": true,
                "authentication": external.authentication,
            }),
            start_to_close_ms: FILE_MS_MAX,
            emitter: Emitter::default(),
            origin: Origin::default(),
        };
        let fetched = self.activities.run(task).await.map_err(|fault| fault.detail.unwrap_or(fault.kind))?;
        let text = fetched.as_str().and_then(|text| STANDARD.decode(text).ok());
        let text = text.ok_or("its content cannot be read")?;
        if text.len() > RESOURCE_BYTES_MAX {
            return Err(format!("it has {} bytes, allowed are up to {RESOURCE_BYTES_MAX}", text.len()));
        }
        parse_file(&text).map(|content| (content, text.len()))
    }
}

/// Puts a content where the document's check looks for it.
fn insert(document: &mut Value, uri: String, content: Value) {
    let Some(fields) = document.as_object_mut() else { return };
    let resources = fields.entry(RESOURCES).or_insert_with(|| Value::Object(Map::new()));
    if let Some(resources) = resources.as_object_mut() {
        resources.insert(uri, content);
    }
}

/// A document with its resources, in the one form that equal ones share: the resources last, by URI, and none if there are none.
pub(super) fn join(mut document: Value, resources: BTreeMap<String, Value>) -> Value {
    if let (Some(fields), false) = (document.as_object_mut(), resources.is_empty()) {
        fields.insert(RESOURCES.to_owned(), resources.into_iter().collect());
    }
    document
}

/// Takes the resources out of a document.
pub(super) fn split(document: &mut Value) -> BTreeMap<String, Value> {
    let taken = document.as_object_mut().and_then(|fields| fields.shift_remove(RESOURCES));
    match taken {
        Some(Value::Object(resources)) => resources.into_iter().collect(),
        Some(_) | None => BTreeMap::new(),
    }
}
