//! Access tokens of OAuth 2 (RFC 6749, 7523, 8693) and OpenID Connect: getting them, and keeping them until shortly
//! before they expire.
//!
//! A token is kept under the digest of everything that its request is made of, credentials included: who does not
//! know the credentials does not get the token. One request at a time is made for one token; others wait for it.
//! A refresh token that came with a token is used for the next one first.
//!
//! # Deliberately absent
//! Keeping tokens on disk: after a restart they are got anew. Checking signatures: a token comes from its authority
//! itself; `issuers` are compared with what the token says.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use baton_execution::{Fault, fault_type};
use reqwest::{
    Method, Url,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    policy::{Client, OAuth2},
    unusable,
};
use crate::{
    outgoing::{Deadline, Outgoing, Request, Response, shown},
    redact::Secrets,
};

/// Tokens that are kept at most.
const TOKENS_MAX: usize = 1_000;
/// How long a token is kept of which its authority does not say how long it is good.
const GOOD_FOR_DEFAULT: Duration = Duration::from_mins(5);
/// How long a token is kept at most.
const GOOD_FOR_MAX: Duration = Duration::from_hours(24);
/// How long before its end a token is no longer used; a tenth of its time if that is less.
const MARGIN: Duration = Duration::from_secs(30);
/// How long an assertion is good that is made of the client's secret.
const ASSERTION_SECONDS: i64 = 60;
/// Where an authority describes itself (OpenID Connect Discovery 1.0, and RFC 8414).
const WELL_KNOWN: &str = "/.well-known/openid-configuration";
const WELL_KNOWN_OAUTH: &str = "/.well-known/oauth-authorization-server";
/// What is shown of the words of an authority.
const SAID_CHARS_MAX: usize = 200;

/// The tokens of all policies.
#[derive(Default)]
pub(super) struct Tokens(Mutex<HashMap<[u8; 32], Arc<Slot>>>);

/// The token of one policy. Whoever holds the lock gets it.
type Slot = tokio::sync::Mutex<Option<Kept>>;

struct Kept {
    token: String,
    good_until: Instant,
    refresh_token: Option<String>,
}

/// A token, and whether it was there already.
pub(super) struct Issued {
    pub(super) token: String,
    pub(super) cached: bool,
}

/// What an authority answers (RFC 6749, section 5.1).
#[derive(Deserialize)]
struct Answer {
    access_token: String,
    token_type: Option<String>,
    /// Seconds; some authorities write it as a text.
    expires_in: Option<Value>,
    refresh_token: Option<String>,
    id_token: Option<String>,
}

type Parameters = Vec<(&'static str, String)>;

impl Tokens {
    /// The token of a policy: the one that is kept, unless it is `refused` or too old, else a fresh one.
    pub(super) async fn get(
        &self,
        outgoing: &Outgoing,
        policy: &OAuth2,
        refused: Option<&str>,
        deadline: Deadline,
    ) -> Result<Issued, Fault> {
        let slot = self.slot(policy);
        let mut slot = tokio::time::timeout(deadline.left(), slot.lock()).await.map_err(|_| {
            let detail = format!("no token came within {} ms", deadline.total_ms);
            Fault::new(fault_type::TIMEOUT, 408, detail)
        })?;
        if let Some(kept) = slot.as_ref().filter(|kept| kept.good_until > Instant::now())
            && refused != Some(kept.token.as_str())
        {
            return Ok(Issued { token: kept.token.clone(), cached: true });
        }
        let refresh_token = slot.as_ref().and_then(|kept| kept.refresh_token.clone());
        let kept = request(outgoing, policy, refresh_token, deadline).await?;
        let token = kept.token.clone();
        *slot = Some(kept);
        Ok(Issued { token, cached: false })
    }

    fn slot(&self, policy: &OAuth2) -> Arc<Slot> {
        let text = serde_json::to_vec(policy).expect("texts and lists of texts are always JSON");
        let key: [u8; 32] = Sha256::digest(&text).into();
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= TOKENS_MAX && !slots.contains_key(&key) {
            let now = Instant::now();
            slots.retain(|_, slot| {
                // One that somebody waits for stays.
                slot.try_lock().map_or(true, |slot| slot.as_ref().is_some_and(|kept| kept.good_until > now))
            });
            if slots.len() >= TOKENS_MAX {
                slots.clear();
            }
        }
        Arc::clone(slots.entry(key).or_default())
    }
}

/// Gets a token: by the refresh token of the last one if there is one, else by the policy's grant.
async fn request(
    outgoing: &Outgoing,
    policy: &OAuth2,
    refresh_token: Option<String>,
    deadline: Deadline,
) -> Result<Kept, Fault> {
    let endpoint = endpoint(outgoing, policy, deadline).await?;
    if let Some(refresh_token) = refresh_token {
        let mut parameters = vec![("grant_type", "refresh_token".to_owned()), ("refresh_token", refresh_token)];
        scope(policy, &mut parameters);
        // It may have been revoked or used up: then the grant itself decides.
        if let Ok(kept) = ask(outgoing, policy, &endpoint, parameters, deadline).await {
            return Ok(kept);
        }
    }
    ask(outgoing, policy, &endpoint, grant(policy)?, deadline).await
}

/// The parameters of a grant.
fn grant(policy: &OAuth2) -> Result<Parameters, Fault> {
    let mut parameters = vec![("grant_type", policy.grant.clone())];
    let need = |name: &str, value: Option<&String>| {
        value.cloned().ok_or_else(|| unusable(format!("the grant '{}' needs '{name}'", policy.grant)))
    };
    let subject =
        || policy.subject.as_ref().ok_or_else(|| unusable(format!("the grant '{}' needs 'subject'", policy.grant)));
    match policy.grant.as_str() {
        "client_credentials" => {}
        "password" => {
            parameters.push(("username", need("username", policy.username.as_ref())?));
            parameters.push(("password", need("password", policy.password.as_ref())?));
        }
        "refresh_token" => parameters.push(("refresh_token", subject()?.token.clone())),
        "urn:ietf:params:oauth:grant-type:token-exchange" => {
            let subject = subject()?;
            parameters.push(("subject_token", subject.token.clone()));
            parameters.push(("subject_token_type", subject.kind.clone()));
            if let Some(actor) = &policy.actor {
                parameters.push(("actor_token", actor.token.clone()));
                parameters.push(("actor_token_type", actor.kind.clone()));
            }
        }
        other => {
            return Err(unusable(format!(
                "the grant '{other}' is not supported; supported are 'client_credentials', 'password', 'refresh_token' and token exchange"
            )));
        }
    }
    scope(policy, &mut parameters);
    parameters.extend(policy.audiences.iter().map(|audience| ("audience", audience.clone())));
    Ok(parameters)
}

fn scope(policy: &OAuth2, parameters: &mut Parameters) {
    if !policy.scopes.is_empty() {
        parameters.push(("scope", policy.scopes.join(" ")));
    }
}

/// Where tokens are got: as the authority says of itself, or the configured path behind the authority.
async fn endpoint(outgoing: &Outgoing, policy: &OAuth2, deadline: Deadline) -> Result<Url, Fault> {
    let authority = policy.authority.trim_end_matches('/');
    let url = |text: &str| {
        Url::parse(text)
            .map_err(|error| unusable(format!("the authority gives no absolute URL of a token endpoint: {error}")))
    };
    let describes = authority.ends_with(WELL_KNOWN) || authority.contains(WELL_KNOWN_OAUTH);
    if !policy.discovered && !describes {
        let path = policy.endpoints.token.as_deref().unwrap_or("/oauth2/token");
        if path.starts_with("https://") || path.starts_with("http://") {
            return url(path);
        }
        return url(&format!("{authority}/{}", path.trim_start_matches('/')));
    }
    let description = if describes { url(authority)? } else { url(&format!("{authority}{WELL_KNOWN}"))? };
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    let response = outgoing
        .send(Request {
            method: Method::GET,
            url: description.clone(),
            headers,
            body: None,
            follow_redirects: true,
            deadline,
        })
        .await
        .map_err(|failure| failure.fault)?;
    if !response.status.is_success() {
        return Err(crate::outgoing::status_fault(&Method::GET, &description, &response, &Secrets::default()));
    }
    let found: Option<Value> = serde_json::from_slice(&response.body).ok();
    let endpoint = found.as_ref().and_then(|found| found.get("token_endpoint")).and_then(Value::as_str);
    let endpoint = endpoint.ok_or_else(|| {
        unusable(format!("{} describes no authority: there is no 'token_endpoint' in it", shown(&description)))
    })?;
    url(endpoint)
}

/// Asks the token endpoint.
async fn ask(
    outgoing: &Outgoing,
    policy: &OAuth2,
    endpoint: &Url,
    mut parameters: Parameters,
    deadline: Deadline,
) -> Result<Kept, Fault> {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    if let Some(client) = &policy.client {
        authenticate(client, endpoint, &mut headers, &mut parameters)?;
    }
    let json = policy.request.encoding.as_deref() == Some("application/json");
    let (content_type, body) = if json {
        ("application/json", as_json(parameters).to_string())
    } else {
        ("application/x-www-form-urlencoded", as_form(&parameters))
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    let request = Request {
        method: Method::POST,
        url: endpoint.clone(),
        headers,
        body: Some(body.into_bytes()),
        // Credentials go to the authority and nowhere else.
        follow_redirects: false,
        deadline,
    };
    let response = outgoing.send(request).await.map_err(|failure| failure.fault)?;
    if !response.status.is_success() {
        return Err(refusal(&response));
    }
    let answer: Answer = serde_json::from_slice(&response.body).map_err(|_| {
        let detail = format!(
            "{} answered with something that is no token: a JSON object with 'access_token' is needed",
            shown(&response.url)
        );
        Fault::new(fault_type::AUTHENTICATION, 401, detail).non_retryable()
    })?;
    accept(policy, endpoint, answer)
}

/// Says who the client is (RFC 6749, section 2.3, and RFC 7523).
fn authenticate(
    client: &Client,
    endpoint: &Url,
    headers: &mut HeaderMap,
    parameters: &mut Parameters,
) -> Result<(), Fault> {
    let method = client.authentication.as_deref().unwrap_or("client_secret_post");
    let id = client.id.as_deref();
    let need_id = || id.ok_or_else(|| unusable(format!("the client authentication '{method}' needs 'client.id'")));
    match method {
        "none" => parameters.extend(id.map(|id| ("client_id", id.to_owned()))),
        "client_secret_post" => {
            parameters.push(("client_id", need_id()?.to_owned()));
            parameters.extend(client.secret.as_ref().map(|secret| ("client_secret", secret.clone())));
        }
        "client_secret_basic" => {
            let (id, secret) = (encoded(need_id()?), encoded(client.secret.as_deref().unwrap_or_default()));
            let mut value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(format!("{id}:{secret}"))))
                .expect("Base64 is visible ASCII");
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        "client_secret_jwt" | "private_key_jwt" => {
            let id = need_id()?;
            let assertion = match (&client.assertion, &client.secret) {
                (Some(assertion), _) => assertion.clone(),
                (None, Some(secret)) if method == "client_secret_jwt" => assertion(id, secret, endpoint),
                (None, _) => {
                    return Err(unusable(format!("the client authentication '{method}' needs 'client.assertion'")));
                }
            };
            parameters.push(("client_id", id.to_owned()));
            let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
            parameters.push(("client_assertion_type", kind.to_owned()));
            parameters.push(("client_assertion", assertion));
        }
        other => return Err(unusable(format!("the client authentication '{other}' is not known"))),
    }
    Ok(())
}

/// A JWT that the client's secret signs (HS256), for one request.
fn assertion(id: &str, secret: &str, endpoint: &Url) -> String {
    let now = jiff::Timestamp::now().as_second();
    let mut number = [0_u8; 16];
    // Without randomness the time has to do: the number only tells two assertions apart.
    if ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut number).is_err() {
        number[..8].copy_from_slice(&now.to_be_bytes());
    }
    let claims = json!({
        "iss": id, "sub": id, "aud": endpoint.as_str(), "jti": URL_SAFE_NO_PAD.encode(number),
        "iat": now, "exp": now + ASSERTION_SECONDS,
    });
    let header = json!({"alg": "HS256", "typ": "JWT"});
    let signed =
        format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
    let tag = ring::hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
}

fn as_form(parameters: &Parameters) -> String {
    parameters.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect::<Vec<_>>().join("&")
}

/// Several audiences are an array, one is a text.
fn as_json(parameters: Parameters) -> Value {
    let mut object = Map::new();
    for (name, value) in parameters {
        let value = Value::String(value);
        match object.get_mut(name) {
            None => _ = object.insert(name.to_owned(), value),
            Some(Value::Array(items)) => items.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    Value::Object(object)
}

/// `application/x-www-form-urlencoded`.
fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn refusal(response: &Response) -> Fault {
    let status = response.status;
    let said: Option<Value> = serde_json::from_slice(&response.body).ok();
    // Only the standard words (RFC 6749, section 5.2): anything else may be an echo of what was sent.
    let word = |name: &str| said.as_ref().and_then(|said| said.get(name)).and_then(Value::as_str);
    let said: String = [word("error"), word("error_description")].into_iter().flatten().collect::<Vec<_>>().join(": ");
    let said: String = said.chars().take(SAID_CHARS_MAX).collect();
    let said = if said.is_empty() { String::new() } else { format!(": {said}") };
    let detail = format!("the token endpoint {} answered {status}{said}", shown(&response.url));
    if status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429) {
        return Fault::new(fault_type::COMMUNICATION, status.as_u16(), detail);
    }
    Fault::new(fault_type::AUTHENTICATION, 401, detail).non_retryable()
}

fn accept(policy: &OAuth2, endpoint: &Url, answer: Answer) -> Result<Kept, Fault> {
    let refused = |why: String| {
        let detail = format!("the token of {} cannot be used: {why}", shown(endpoint));
        Err(Fault::new(fault_type::AUTHENTICATION, 401, detail).non_retryable())
    };
    let kind = answer.token_type.as_deref().unwrap_or("bearer");
    if !kind.eq_ignore_ascii_case("bearer") && !kind.eq_ignore_ascii_case("N_A") {
        return refused("its type is not 'Bearer'".to_owned());
    }
    if answer.access_token.is_empty() {
        return refused("it is empty".to_owned());
    }
    if !policy.issuers.is_empty() {
        let issuer = issuer(&answer.access_token).or_else(|| answer.id_token.as_deref().and_then(issuer));
        let Some(issuer) = issuer else {
            return refused("it does not say who issued it, and 'issuers' are given".to_owned());
        };
        let same = |known: &String| known.trim_end_matches('/') == issuer.trim_end_matches('/');
        if !policy.issuers.iter().any(same) {
            let issuer: String = issuer.chars().take(SAID_CHARS_MAX).collect();
            return refused(format!("it was issued by '{issuer}', which is none of 'issuers'"));
        }
    }
    let seconds = match &answer.expires_in {
        Some(Value::String(text)) => text.parse::<f64>().ok(),
        Some(number) => number.as_f64(),
        None => None,
    };
    let good_for = seconds
        .map_or(GOOD_FOR_DEFAULT, |seconds| Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(GOOD_FOR_MAX))
        .min(GOOD_FOR_MAX);
    let good_for = good_for.saturating_sub(MARGIN.min(good_for / 10));
    Ok(Kept { token: answer.access_token, good_until: Instant::now() + good_for, refresh_token: answer.refresh_token })
}

/// Who issued a token, if it is a JWT that says so.
fn issuer(token: &str) -> Option<String> {
    let mut parts = token.split('.');
    let claims = parts.nth(1)?;
    parts.next()?;
    let claims = URL_SAFE_NO_PAD.decode(claims).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    claims.get("iss")?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(number: usize) -> OAuth2 {
        let policy = json!({"authority": format!("https://{number}.example.com"), "grant": "client_credentials"});
        serde_json::from_value(policy).expect("it is a policy")
    }

    #[test]
    fn the_number_of_tokens_is_bounded() {
        let tokens = Tokens::default();
        let count = || tokens.0.lock().expect("nobody panicked").len();
        let kept =
            |good_for| Some(Kept { token: "t".to_owned(), good_until: Instant::now() + good_for, refresh_token: None });
        // Those that are too old go first.
        for number in 0..TOKENS_MAX {
            let good_for = if number % 2 == 0 { GOOD_FOR_MAX } else { Duration::ZERO };
            *tokens.slot(&policy(number)).try_lock().expect("nobody waits") = kept(good_for);
        }
        assert_eq!(count(), TOKENS_MAX);
        *tokens.slot(&policy(TOKENS_MAX)).try_lock().expect("nobody waits") = kept(GOOD_FOR_MAX);
        assert_eq!(count(), TOKENS_MAX / 2 + 1);
        assert!(tokens.slot(&policy(0)).try_lock().expect("nobody waits").is_some());
        for number in 0..TOKENS_MAX {
            *tokens.slot(&policy(2 * TOKENS_MAX + number)).try_lock().expect("nobody waits") = kept(GOOD_FOR_MAX);
        }
        assert!(count() <= TOKENS_MAX);
    }
}
