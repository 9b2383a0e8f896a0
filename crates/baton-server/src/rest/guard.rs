//! Keeps web pages away from a server that trusts whoever reaches it.
//!
//! The server listens on the loopback interface and asks nobody who they are. A page in a browser of the same machine
//! reaches that interface as well, so a request that a foreign page makes must be told from one that its user makes:
//! - `Host` must name this machine by address or as `localhost`, or a page could rename its own host to 127.0.0.1
//!   (DNS rebinding) and become of the same origin;
//! - `Origin`, where a browser sends it, must be the host that is asked.
//!
//! Programs other than browsers send no `Origin` and are not touched.

use std::net::IpAddr;

use axum::{
    extract::Request,
    http::{HeaderMap, Uri, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use baton_types::{ApiError, ErrorKind};

use super::refusal::{Refusal, printable};

/// Passes on what does not come from a foreign page.
pub(super) async fn refuse_foreign_pages(request: Request, next: Next) -> Response {
    match check(request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

/// Refuses what comes from a foreign page.
pub(super) fn check(uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
    let text = |name| {
        headers.get(name).map(|it: &axum::http::HeaderValue| String::from_utf8_lossy(it.as_bytes()).into_owned())
    };
    // HTTP/2 has the host in the request's own line, HTTP/1.1 in a header, HTTP/1.0 perhaps nowhere.
    let Some(host) = uri.authority().map(ToString::to_string).or_else(|| text(header::HOST)) else { return Ok(()) };
    let Some(authority) = host.parse::<Authority>().ok().filter(|it| is_this_machine(it.host())) else {
        let message = format!("the host '{}' is not this machine by address or as 'localhost'", printable(&host));
        let error = ApiError::new(ErrorKind::PermissionDenied, "HOST_FOREIGN", message);
        return Err(Refusal::from(error).hint("ask for http://127.0.0.1 and the port instead"));
    };
    match text(header::ORIGIN) {
        None => Ok(()),
        Some(origin)
            if origin
                .strip_prefix("http://")
                .and_then(|it| it.parse::<Authority>().ok())
                .is_some_and(|it| it == authority) =>
        {
            Ok(())
        }
        Some(origin) => {
            let message = format!("a page of '{}' may not call this server", printable(&origin));
            Err(ApiError::new(ErrorKind::PermissionDenied, "ORIGIN_FOREIGN", message).into())
        }
    }
}

fn is_this_machine(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(host);
    bare.parse::<IpAddr>().is_ok()
        || bare.eq_ignore_ascii_case("localhost")
        || bare.to_ascii_lowercase().ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_pages_from_programs() {
        for (host, origin, good) in [
            ("127.0.0.1:8377", None, true),
            ("[::1]:8377", None, true),
            ("localhost:8377", Some("http://localhost:8377"), true),
            ("baton.localhost", None, true),
            ("localhost:8377", Some("http://localhost:9999"), false),
            ("localhost:8377", Some("null"), false),
            ("127.0.0.1:8377", Some("https://page.example"), false),
            ("page.example:8377", None, false),
            ("page.example:8377", Some("http://page.example:8377"), false),
            ("a b", None, false),
        ] {
            let mut headers = HeaderMap::from_iter([(header::HOST, host.parse().unwrap())]);
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            assert_eq!(check(&Uri::from_static("/version"), &headers).is_ok(), good, "{host} {origin:?}");
        }
        check(&Uri::from_static("/version"), &HeaderMap::new()).unwrap();
        check(&Uri::from_static("http://page.example/version"), &HeaderMap::new()).unwrap_err();
    }
}
