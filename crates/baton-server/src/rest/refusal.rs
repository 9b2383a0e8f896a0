//! A refusal as a Kubernetes `Status` object, with Baton's own `reason`, `hint` and violations beside the usual fields.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use baton_types::{ApiError, ErrorKind};
use serde_json::{Value, json};

use crate::errors;

/// Group of the resources, `details.group` of a Status.
pub(super) const GROUP: &str = "baton.dev";

/// Why a call is not answered as asked.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    error: Box<ApiError>,
    http: StatusCode,
    reason: &'static str,
    about: Option<About>,
}

/// What the call was about.
#[derive(Clone, Debug)]
struct About {
    kind: &'static str,
    plural: &'static str,
    name: String,
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        let wire = errors::wire(error.kind);
        Self { error: Box::new(error), http: wire.http, reason: wire.reason, about: None }
    }
}

impl Refusal {
    /// A request that is wrong as a whole.
    pub(super) fn bad_request(reason: &'static str, message: impl Into<String>) -> Self {
        ApiError::new(ErrorKind::InvalidArgument, reason, message).into()
    }

    /// A body of a type that is not read here; `supported` goes into the message.
    pub(super) fn unsupported_media_type(found: &str, supported: &[&str]) -> Self {
        let message = format!("the body's media type is '{}'; supported are {}", printable(found), list(supported));
        Self::http_only(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", "MEDIA_TYPE_UNSUPPORTED", message)
    }

    /// No form of the answer is one that the caller takes.
    pub(super) fn not_acceptable(found: &str) -> Self {
        let message = format!("the request accepts '{}' only; offered is 'application/json'", printable(found));
        Self::http_only(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", "MEDIA_TYPE_UNSUPPORTED", message)
    }

    /// The path is known and the method is not.
    pub(super) fn method_not_allowed(method: &str, path: &str) -> Self {
        let message =
            format!("{} is not offered for '{}'; the header Allow names what is", printable(method), printable(path));
        Self::http_only(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "METHOD_NOT_ALLOWED", message)
    }

    /// A refusal by a rule of HTTP that no [`ErrorKind`] stands for.
    fn http_only(http: StatusCode, reason: &'static str, baton_reason: &'static str, message: String) -> Self {
        let error = ApiError::new(ErrorKind::InvalidArgument, baton_reason, message);
        Self { error: Box::new(error), http, reason, about: None }
    }

    /// The same with what to do next.
    #[must_use]
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.error.hint = Some(hint.into());
        self
    }

    /// The same with what the call was about.
    #[must_use]
    pub(super) fn about(mut self, kind: &'static str, plural: &'static str, name: &str) -> Self {
        self.about = Some(About { kind, plural, name: name.to_owned() });
        self
    }

    /// The Status object.
    pub(super) fn status(&self) -> Value {
        let error = &self.error;
        let mut details = json!({"group": GROUP});
        if let Some(about) = &self.about {
            details["kind"] =
                if self.http == StatusCode::UNPROCESSABLE_ENTITY { about.kind.into() } else { about.plural.into() };
            if !about.name.is_empty() {
                details["name"] = about.name.as_str().into();
            }
        }
        if !error.violations.is_empty() {
            let cause = |it: &baton_types::Violation| json!({"reason": "FieldValueInvalid", "message": it.message, "field": it.field});
            details["causes"] = error.violations.iter().map(cause).collect();
        }
        if let Some(seconds) = errors::wire(error.kind).retry_after_seconds {
            details["retryAfterSeconds"] = seconds.into();
        }
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": error.message, "reason": self.reason, "details": details, "code": self.http.as_u16(),
            "batonReason": error.reason,
        });
        if let Some(hint) = &error.hint {
            status["hint"] = hint.as_str().into();
        }
        status
    }

    /// What it says, for whoever words it for another protocol.
    pub(super) fn into_error(self) -> ApiError {
        *self.error
    }

    /// Writes it to the log, for refusals that go out in a stream rather than as an answer.
    pub(super) fn log(&self) {
        errors::log(&self.error);
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        self.log();
        let mut response = Response::new(self.status().to_string().into());
        *response.status_mut() = self.http;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = errors::wire(self.error.kind).retry_after_seconds {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// `text` from a request, cut and without control characters, for showing it back.
pub(super) fn printable(text: &str) -> String {
    const SHOWN_MAX: usize = 120;
    let mut shown: String = text.chars().take(SHOWN_MAX).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(SHOWN_MAX).is_some() {
        shown.push('…');
    }
    shown
}

fn list(words: &[&str]) -> String {
    words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(", ")
}
