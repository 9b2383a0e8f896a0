//! Documents that describe what is called (proto files, AsyncAPI documents): fetched, bounded, and kept for a moment.
//!
//! # Invariants
//! - What was fetched with credentials is not kept: it is not for everybody.
//! - Fetching passes the egress policy like every other request.
//!
//! # Failure
//! A document that cannot be had faults as the request for it did.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use baton_execution::{ActivityTask, Fault, fault_type};
use reqwest::{Method, Url, header::HeaderMap};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    auth::Authenticator,
    outgoing::{Deadline, Request, shown, status_fault},
    redact::Secrets,
};

/// How long a document is used without asking for it again.
const KEPT_FOR: Duration = Duration::from_mins(1);
/// Documents that are kept; one more, and all are let go, which costs a request each.
const KEPT_MAX: usize = 64;
/// Largest document, in bytes: schemas of whole companies are smaller.
pub(crate) const DOCUMENT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A document and how to be let in to it, as tasks describe it.
#[derive(Deserialize)]
pub(crate) struct Resource {
    /// Absolute URL.
    pub(crate) uri: String,
    /// As `authentication` of the activity `http`.
    #[serde(default)]
    pub(crate) authentication: Value,
}

impl Resource {
    /// The URL, if it is one that can be fetched.
    pub(crate) fn url(&self, what: &str) -> Result<Url, Fault> {
        let url = Url::parse(&self.uri).map_err(|error| {
            Fault::new(fault_type::CONFIGURATION, 400, format!("the URI of {what} is not an absolute URL: {error}"))
                .non_retryable()
        })?;
        if matches!(url.scheme(), "http" | "https") {
            return Ok(url);
        }
        let detail = format!(
            "{what} cannot be fetched by '{}': only 'http' and 'https' are allowed, as a workflow must not read files of the server",
            url.scheme()
        );
        Err(Fault::new(fault_type::CONFIGURATION, 400, detail).non_retryable())
    }

    pub(crate) fn is_public(&self) -> bool {
        self.authentication.is_null()
    }
}

/// Fetches a document. `Ok(Err(…))` is a server that says that it has none.
pub(crate) async fn fetch(
    authenticator: &Authenticator,
    url: &Url,
    authentication: &Value,
    task: &ActivityTask,
) -> Result<Result<Vec<u8>, Fault>, Fault> {
    let mut secrets = Secrets::default();
    let mut credentials = authenticator.credentials(authentication, task, &mut secrets).await?;
    let request = Request {
        method: Method::GET,
        url: url.clone(),
        headers: HeaderMap::new(),
        body: None,
        follow_redirects: true,
        deadline: Deadline::of(task),
    };
    let sent = authenticator.send(request, &mut credentials, &mut secrets).await;
    let response = sent.map_err(|failure| failure.fault)?;
    if !response.status.is_success() {
        let fault = status_fault(&Method::GET, url, &response, &secrets);
        return if response.status.as_u16() == 404 { Ok(Err(fault)) } else { Err(fault) };
    }
    if response.body.len() > DOCUMENT_BYTES_MAX {
        let detail = format!("{} has {} bytes; allowed are 0 to {DOCUMENT_BYTES_MAX}", shown(url), response.body.len());
        return Err(Fault::new(fault_type::TOO_LARGE, 413, detail).non_retryable());
    }
    Ok(Ok(response.body))
}

/// What was made of documents, by URL.
pub(crate) struct Kept<T>(Mutex<HashMap<String, (Instant, T)>>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Kept<T> {
    pub(crate) fn get(&self, url: &str) -> Option<T> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(url).filter(|(since, _)| since.elapsed() < KEPT_FOR).map(|(_, made)| made.clone())
    }

    pub(crate) fn put(&self, url: &str, made: T) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(url.to_owned(), (Instant::now(), made));
    }
}
