//! Digest access authentication (RFC 7616): the answer to a challenge.
//!
//! The algorithms are MD5, SHA-256 and SHA-512-256, the best of those that the server offers, each also as `-sess`.

use baton_execution::{Fault, fault_type};
use http_auth::{
    ChallengeParser, DigestClient, PasswordParams,
    digest::{Algorithm, Qop},
};
use reqwest::header::{HeaderValue, WWW_AUTHENTICATE};

use super::policy::Password;
use crate::outgoing::{Request, Response, shown};

/// Headers with challenges that are looked at.
const CHALLENGES_MAX: usize = 16;

/// The header that answers the challenge of a response.
pub(super) fn answer(password: &Password, response: &Response, request: &Request) -> Result<HeaderValue, Fault> {
    let headers = response.headers.get_all(WWW_AUTHENTICATE).iter().take(CHALLENGES_MAX);
    let texts: Vec<&str> = headers.filter_map(|header| header.to_str().ok()).collect();
    let mut best: Option<DigestClient> = None;
    for challenge in texts.iter().flat_map(|text| ChallengeParser::new(text)).filter_map(Result::ok) {
        let digest = challenge.scheme.eq_ignore_ascii_case("digest").then(|| DigestClient::try_from(&challenge));
        let Some(Ok(client)) = digest else { continue };
        if best.as_ref().is_none_or(|best| strength(client.algorithm()) > strength(best.algorithm())) {
            best = Some(client);
        }
    }
    let Some(mut client) = best else {
        let detail = format!(
            "{} asked for authentication, but not by a digest that is known: MD5, SHA-256 or SHA-512-256",
            shown(&response.url)
        );
        return Err(Fault::new(fault_type::AUTHENTICATION, 401, detail).non_retryable());
    };
    let body = if response.method == request.method { request.body.as_deref() } else { None };
    // With the body in the answer only if the server wants nothing less: many that offer it get it wrong.
    let body = if client.qop() & Qop::Auth { None } else { Some(body.unwrap_or_default()) };
    let uri = match response.url.query() {
        Some(query) => format!("{}?{query}", response.url.path()),
        None => response.url.path().to_owned(),
    };
    let answer = client.respond(&PasswordParams {
        username: &password.username,
        password: &password.password,
        uri: &uri,
        method: response.method.as_str(),
        body,
    });
    let mut value = answer.ok().and_then(|answer| HeaderValue::from_str(&answer).ok()).ok_or_else(|| {
        let detail = format!("the challenge of {} cannot be answered with these credentials", shown(&response.url));
        Fault::new(fault_type::AUTHENTICATION, 401, detail).non_retryable()
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn strength(algorithm: Algorithm) -> u8 {
    match algorithm {
        Algorithm::Sha512Trunc256 => 2,
        Algorithm::Sha256 => 1,
        _ => 0,
    }
}
