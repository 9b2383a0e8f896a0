//! How activities say who they are: one place for everything that calls with an `authentication`.
//!
//! Input of an activity: `{"<scheme>": {…}}` in the workflow language's field names, everything evaluated, or
//! `{"<scheme>": {"use": "<secret>"}}`; `null` for none. [`Authenticator::credentials`] makes it ready: secrets are
//! read from the installation, tokens got from their authority. Then [`Credentials::authorization`] is the header
//! for protocols of all kinds, and [`Authenticator::send`] sends HTTP requests, with what follows a status 401.
//!
//! # Invariants
//! - No fault holds a credential; everything secret goes into [`Secrets`] before it is used.
//! - Credentials go to the origin that the caller named: a challenge of another one, after a redirect, is not answered.
//! - A status 401 has at most one repeat: with an answer to the challenge (digest), or with a fresh token if the
//!   refused one came from the cache.
//!
//! # Failure
//! A secret that does not exist is a fault of type `authorization`, status 403, as the language says; what cannot be
//! used is one of type `configuration`; an authority that refuses is one of type `authentication`, status 401.

mod challenge;
mod policy;
mod tokens;

use std::{borrow::Cow, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use baton_execution::{AUTHORIZATION_PLACEHOLDER, ActivityTask, Fault, fault_type, has_text, replace_text};
use reqwest::{
    StatusCode,
    header::{AUTHORIZATION, HeaderValue},
};
use serde_json::Value;

use crate::{
    home::Home,
    outgoing::{Deadline, Failure, Opened, Outgoing, Request, Response},
    redact::Secrets,
};
use policy::{OAuth2, Password, Policy};
use tokens::{Issued, Tokens};

/// Makes credentials ready for use. One for all activities: it keeps the tokens.
pub(crate) struct Authenticator {
    outgoing: Arc<Outgoing>,
    home: Arc<dyn Home>,
    tokens: Tokens,
}

/// Credentials that are ready for use.
pub(crate) struct Credentials {
    kind: Kind,
    /// What must not come back in a result: values of secrets, and tokens. What the document says in the open is not in it.
    pub(crate) hidden: Secrets,
}

enum Kind {
    None,
    Basic(Password),
    Bearer(String),
    Digest(Password),
    OAuth2 { policy: Box<OAuth2>, issued: Issued },
}

impl Authenticator {
    pub(crate) fn new(outgoing: &Arc<Outgoing>, home: &Arc<dyn Home>) -> Self {
        Self { outgoing: Arc::clone(outgoing), home: Arc::clone(home), tokens: Tokens::default() }
    }

    /// Makes the `authentication` of an activity's input ready. Everything secret in it is added to `secrets`.
    pub(crate) async fn credentials(
        &self,
        authentication: &Value,
        task: &ActivityTask,
        secrets: &mut Secrets,
    ) -> Result<Credentials, Fault> {
        let mut hidden = Secrets::default();
        let Some(policy) =
            Policy::read(authentication, self.home.as_ref(), &task.namespace, secrets, &mut hidden).await?
        else {
            return Ok(Credentials { kind: Kind::None, hidden });
        };
        let kind = match policy {
            Policy::Basic(password) => Kind::Basic(password),
            Policy::Bearer(token) => Kind::Bearer(token),
            Policy::Digest(password) => Kind::Digest(password),
            Policy::OAuth2(policy) => {
                let issued = self.tokens.get(&self.outgoing, &policy, None, Deadline::of(task)).await;
                let issued = issued.map_err(|fault| secrets.redact_fault(fault))?;
                Kind::OAuth2 { policy, issued }
            }
        };
        let mut credentials = Credentials { kind, hidden };
        credentials.tell(secrets);
        Ok(credentials)
    }

    /// Sends an HTTP request with credentials, and once more where a status 401 can be answered.
    pub(crate) async fn send(
        &self,
        request: Request,
        credentials: &mut Credentials,
        secrets: &mut Secrets,
    ) -> Result<Response, Failure> {
        let (deadline, url) = (request.deadline, request.url.clone());
        let exchange = async { self.outgoing.read(self.open(request, credentials, secrets).await?).await };
        tokio::time::timeout(deadline.left(), exchange).await.unwrap_or_else(|_| Err(deadline.passed(&url)))
    }

    /// As [`Self::send`], but gives back the response once its head is there. The caller keeps the deadline.
    pub(crate) async fn open(
        &self,
        mut request: Request,
        credentials: &mut Credentials,
        secrets: &mut Secrets,
    ) -> Result<Opened, Failure> {
        let refused = |fault| Failure { fault, transient: false };
        if let Some(value) = credentials.authorization().map_err(refused)? {
            request.headers.insert(AUTHORIZATION, value);
        }
        if !matches!(credentials.kind, Kind::Digest(_) | Kind::OAuth2 { .. }) {
            return self.outgoing.open(request).await;
        }
        let again = request.clone();
        let opened = self.outgoing.open(request).await?;
        if opened.status() != StatusCode::UNAUTHORIZED || opened.url.origin() != again.url.origin() {
            return Ok(opened);
        }
        // A redirect may have led to another place of the same origin, and may have taken the body away.
        let (method, url) = (opened.method.clone(), opened.url.clone());
        let value = if let Kind::Digest(password) = &credentials.kind {
            let response = self.outgoing.read(opened).await?;
            let value = challenge::answer(password, &response, &again).map_err(refused)?;
            credentials.tell(secrets);
            value
        } else if self.renew(credentials, again.deadline, secrets).await.map_err(refused)?
            && let Some(value) = credentials.authorization().map_err(refused)?
        {
            value
        } else {
            return Ok(opened);
        };
        let body = if method == again.method { again.body } else { None };
        let mut again = Request { method, url, body, ..again };
        again.headers.insert(AUTHORIZATION, value);
        self.outgoing.open(again).await
    }

    /// After the credentials were refused: gets a fresh token if theirs came from the cache, and says whether.
    pub(crate) async fn renew(
        &self,
        credentials: &mut Credentials,
        deadline: Deadline,
        secrets: &mut Secrets,
    ) -> Result<bool, Fault> {
        let Kind::OAuth2 { policy, issued } = &mut credentials.kind else { return Ok(false) };
        if !issued.cached {
            return Ok(false);
        }
        *issued = self
            .tokens
            .get(&self.outgoing, policy, Some(&issued.token), deadline)
            .await
            .map_err(|fault| secrets.redact_fault(fault))?;
        credentials.tell(secrets);
        Ok(true)
    }
}

impl Credentials {
    /// The value of the header `Authorization`, marked as sensitive. `None` without credentials, and for `digest`, which
    /// answers a challenge of HTTP.
    ///
    /// # Errors
    /// The credentials hold characters that a header cannot hold.
    pub(crate) fn authorization(&self) -> Result<Option<HeaderValue>, Fault> {
        let Some((scheme, parameter)) = self.parameter() else { return Ok(None) };
        let mut value = HeaderValue::from_str(&format!("{scheme} {parameter}"))
            .map_err(|_| unusable("the credentials hold characters that a header cannot hold"))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// An activity's input, with the parameter of the header in place of what stands for it in expressions
    /// (`$authorization.parameter`).
    pub(crate) fn fill<'v>(&self, input: &'v Value) -> Cow<'v, Value> {
        let Some((_, parameter)) = self.parameter() else { return Cow::Borrowed(input) };
        if !has_text(input, AUTHORIZATION_PLACEHOLDER) {
            return Cow::Borrowed(input);
        }
        let mut input = input.clone();
        replace_text(&mut input, AUTHORIZATION_PLACEHOLDER, &parameter);
        Cow::Owned(input)
    }

    /// Scheme and parameter of the header `Authorization`.
    pub(crate) fn parameter(&self) -> Option<(&'static str, String)> {
        match &self.kind {
            Kind::None | Kind::Digest(_) => None,
            Kind::Basic(Password { username, password }) => {
                Some(("Basic", STANDARD.encode(format!("{username}:{password}"))))
            }
            Kind::Bearer(token) => Some(("Bearer", token.clone())),
            Kind::OAuth2 { issued, .. } => Some(("Bearer", issued.token.clone())),
        }
    }

    /// User name and password, for protocols that have these instead of a header.
    #[allow(dead_code, reason = "for the protocols that do")]
    pub(crate) fn password(&self) -> Option<(&str, &str)> {
        match &self.kind {
            Kind::Basic(Password { username, password }) | Kind::Digest(Password { username, password }) => {
                Some((username, password))
            }
            Kind::None | Kind::Bearer(_) | Kind::OAuth2 { .. } => None,
        }
    }

    /// Adds what the header holds to what must not be told.
    fn tell(&mut self, secrets: &mut Secrets) {
        let Some((_, parameter)) = self.parameter() else { return };
        secrets.add(&parameter);
        let hides = matches!(self.kind, Kind::OAuth2 { .. }) || !self.hidden.is_empty();
        if hides {
            self.hidden.add(&parameter);
        }
    }
}

/// The fault of an `authentication` that cannot be used. `why` must hold nothing of it.
fn unusable(why: impl Into<String>) -> Fault {
    Fault::new(fault_type::CONFIGURATION, 400, why).non_retryable()
}
