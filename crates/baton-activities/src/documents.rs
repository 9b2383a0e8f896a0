//! Documents that describe what is called (proto files, OpenAPI and AsyncAPI documents): fetched, bounded, kept for a moment.
//!
//! # Invariants
//! - What was fetched with credentials is not kept: it is not for everybody. Nor is what a workflow brings along.
//! - What is read of one is limited in size and depth, whatever aliases it has.
//! - Fetching passes the egress policy like every other request. No file of this machine is read.
//!
//! # Failure
//! A document that cannot be had faults as the request for it did.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use baton_execution::{ActivityTask, Fault, fault_type};
use baton_types::Digest;
use reqwest::{
    Method, Url,
    header::{ACCEPT, HeaderMap, HeaderValue},
};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    auth::Authenticator,
    limited::{self, Unreadable},
    outgoing::{Deadline, Request, status_fault},
    redact::Secrets,
};

/// How long a document is used without asking for it again.
const KEPT_FOR: Duration = Duration::from_mins(1);
/// Bytes of the texts of all documents of one kind that are kept; with more the oldest go. In memory they take several times as
/// much.
const KEPT_BYTES_MAX: usize = 32 * 1024 * 1024;

/// A document and how to be let in to it, as tasks describe it.
#[derive(Deserialize)]
pub(crate) struct Resource {
    /// Absolute URL; of a document that is given along it only says which one it is.
    pub(crate) uri: String,
    /// As `authentication` of the activity `http`.
    #[serde(default)]
    pub(crate) authentication: Value,
    /// The document, if it is given along.
    #[serde(default)]
    pub(crate) content: Option<String>,
    /// Of the document that is meant, such as `sha256:…`; another one is refused.
    #[serde(default)]
    pub(crate) digest: Option<String>,
}

/// A document's text, and where it is from after redirects.
pub(crate) struct Text {
    pub(crate) bytes: Vec<u8>,
    pub(crate) url: Url,
}

impl Resource {
    /// The URL, if it is one that can be fetched or need not be.
    pub(crate) fn url(&self, what: &str) -> Result<Url, Fault> {
        let url = Url::parse(&self.uri).map_err(|error| {
            Fault::new(fault_type::CONFIGURATION, 400, format!("the URI of {what} is not an absolute URL: {error}"))
                .non_retryable()
        })?;
        if matches!(url.scheme(), "http" | "https") || self.content.is_some() {
            return Ok(url);
        }
        let detail = format!(
            "{what} cannot be fetched by '{}': only 'http' and 'https' are allowed, as a workflow must not read files of the server",
            url.scheme()
        );
        Err(Fault::new(fault_type::CONFIGURATION, 400, detail).non_retryable())
    }

    /// The document: what was given along, else what is fetched.
    pub(crate) async fn text(
        &self,
        authenticator: &Authenticator,
        what: &str,
        task: &ActivityTask,
    ) -> Result<Text, Fault> {
        let url = self.url(what)?;
        match &self.content {
            Some(content) => Ok(Text { bytes: content.clone().into_bytes(), url }),
            None => self.checked(what, fetch(authenticator, &url, &self.authentication, task).await??),
        }
    }

    /// A document that was fetched, if it is the one that is meant.
    fn checked(&self, what: &str, text: Text) -> Result<Text, Fault> {
        let Some(meant) = &self.digest else { return Ok(text) };
        let found = Digest::of(&text.bytes).to_string();
        if *meant == found {
            return Ok(text);
        }
        let detail = format!("{what} has changed: its digest is {found}, the one that is meant has {meant}");
        Err(Fault::new(fault_type::CONFIGURATION, 400, detail).non_retryable())
    }

    /// Whether what was made of it may serve others who name the same URL.
    fn is_for_all(&self) -> bool {
        self.authentication.is_null() && self.content.is_none() && self.digest.is_none()
    }
}

/// Fetches a document. `Ok(Err(…))` is a server that says that it has none.
pub(crate) async fn fetch(
    authenticator: &Authenticator,
    url: &Url,
    authentication: &Value,
    task: &ActivityTask,
) -> Result<Result<Text, Fault>, Fault> {
    let mut secrets = Secrets::default();
    let mut credentials = authenticator.credentials(authentication, task, &mut secrets).await?;
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json, application/yaml;q=0.9, */*;q=0.8"));
    let deadline = Deadline::of(task);
    let request =
        Request { method: Method::GET, url: url.clone(), headers, body: None, follow_redirects: true, deadline };
    let sent = authenticator.send(request, &mut credentials, &mut secrets).await;
    let response = sent.map_err(|failure| failure.fault)?;
    if !response.status.is_success() {
        let fault = status_fault(&Method::GET, url, &response, &secrets);
        return if response.status.as_u16() == 404 { Ok(Err(fault)) } else { Err(fault) };
    }
    Ok(Ok(Text { bytes: response.body, url: response.url }))
}

/// Largest value that a document may stand for, in bytes: four times what a response may have.
const EXPANDED_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Reads a document in JSON or YAML. Megabytes of YAML take their time: for a thread that may be blocked.
///
/// # Errors
/// What is wrong with it; what it is of is to be put before.
pub(crate) fn parse(text: &[u8]) -> Result<Value, String> {
    limited::read_either(text, EXPANDED_BYTES_MAX).map_err(|why| match why {
        Unreadable::Wrong { says, .. } => format!("is neither JSON nor YAML: {says}"),
        Unreadable::Brackets { .. } => format!("{why}; JSON has no such limit"),
        Unreadable::NotText { .. } | Unreadable::TooLarge { .. } | Unreadable::TooDeep(_) => why.to_string(),
    })
}

/// What was made of documents, by URL.
pub(crate) struct Kept<T>(Mutex<HashMap<String, Made<T>>>);

struct Made<T> {
    since: Instant,
    /// Of the text.
    bytes: usize,
    what: T,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Kept<T> {
    /// What was made of the document a moment ago, if it is for everybody.
    pub(crate) fn get(&self, resource: &Resource) -> Option<T> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = kept.get(&resource.uri).filter(|kept| kept.since.elapsed() < KEPT_FOR);
        kept.filter(|_| resource.is_for_all()).map(|kept| kept.what.clone())
    }

    /// Keeps what was made of a text of so many bytes, if it is for everybody.
    pub(crate) fn put(&self, resource: &Resource, bytes: usize, made: &T) {
        if !resource.is_for_all() {
            return;
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.insert(resource.uri.clone(), Made { since: Instant::now(), bytes, what: made.clone() });
        kept.retain(|_, kept| kept.since.elapsed() < KEPT_FOR);
        while kept.values().map(|kept| kept.bytes).sum::<usize>() > KEPT_BYTES_MAX
            && let Some(oldest) = kept.iter().min_by_key(|(_, kept)| kept.since).map(|(uri, _)| uri.clone())
        {
            kept.remove(&oldest);
        }
    }
}
