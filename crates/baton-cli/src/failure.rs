//! Why a command did not do what was asked, and the exit code that says so.
//!
//! Codes: 1 refused (the request, or the execution itself, did not succeed), 2 usage, 3 ours or the environment.

use std::{error::Error, fmt, io};

use baton_types::Violation;
use serde_json::Value;

use crate::yaml::{Origin, Place};

/// Who has to do something about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blame {
    /// The request was refused, or an execution did not end well.
    Refused,
    /// The command line is wrong.
    Usage,
    /// The server, the network, the disk, or a bug.
    Environment,
    /// Nobody: whoever read the output has closed it.
    ReaderGone,
}

/// The one error type of the commands.
#[derive(Debug)]
pub(crate) struct Failure(Box<Content>);

/// A violation, and where it stands if it is about a file.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub(crate) violation: Violation,
    pub(crate) origin: Option<Origin>,
    pub(crate) place: Option<Place>,
}

/// Violations that are shown with their line of the file; of more, the message alone.
const SHOWN_MAX: usize = 50;

#[derive(Debug)]
struct Content {
    blame: Blame,
    /// What was being done, outermost first, then why not. Empty: already told.
    chain: Vec<String>,
    violations: Vec<Finding>,
    hints: Vec<String>,
    /// The stable word of the server's answer, such as `CALLBACK_TOKEN_EXPIRED`.
    reason: Option<String>,
    code: Option<tonic::Code>,
}

impl Failure {
    fn new(blame: Blame, message: impl Into<String>) -> Self {
        Self(Box::new(Content {
            blame,
            chain: vec![message.into()],
            violations: Vec::new(),
            hints: Vec::new(),
            reason: None,
            code: None,
        }))
    }

    /// Exit code 1.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::new(Blame::Refused, message)
    }

    /// Exit code 2.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Blame::Usage, message)
    }

    /// Exit code 3.
    pub(crate) fn environment(message: impl Into<String>) -> Self {
        Self::new(Blame::Environment, message)
    }

    /// Exit code 1 with nothing more to say: the command has told it already.
    pub(crate) fn told() -> Self {
        let mut failure = Self::new(Blame::Refused, "");
        failure.0.chain.clear();
        failure
    }

    /// Exit code 1 with all violations.
    pub(crate) fn violations(violations: Vec<Violation>) -> Self {
        Self::findings(violations.into_iter().map(Finding::from).collect())
    }

    /// Exit code 1 with all violations, and where they stand.
    pub(crate) fn findings(mut findings: Vec<Finding>) -> Self {
        Finding::sort(&mut findings);
        let mut failure = Self::new(Blame::Refused, headline(findings.len()));
        failure.0.violations = findings;
        failure
    }

    /// Says which document its violations are about, where that is not known yet.
    #[must_use]
    pub(crate) fn within(mut self, origin: &Origin) -> Self {
        for finding in self.0.violations.iter_mut().filter(|finding| finding.origin.is_none()) {
            *finding = Finding::within(std::mem::replace(&mut finding.violation, Violation::new("", "")), origin);
        }
        Finding::sort(&mut self.0.violations);
        self
    }

    /// What is wrong, one by one, if it is that.
    pub(crate) fn into_findings(self) -> Result<Vec<Finding>, Self> {
        if self.0.violations.is_empty() { Err(self) } else { Ok(self.0.violations) }
    }

    /// Adds an error and its causes.
    #[must_use]
    pub(crate) fn because(mut self, error: &(dyn Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            let text = error.to_string();
            // Some libraries print their source inside their own text; once is enough.
            if !self.0.chain.last().is_some_and(|last| last.ends_with(&text)) {
                self.0.chain.push(text);
            }
            next = error.source();
        }
        self
    }

    /// Says what was being done.
    #[must_use]
    pub(crate) fn while_doing(mut self, what: impl Into<String>) -> Self {
        self.0.chain.insert(0, what.into());
        self
    }

    /// Adds a hint: the next command to try.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hints.push(hint.into());
        self
    }

    /// Whose turn it is.
    pub(crate) fn blame(&self) -> Blame {
        self.0.blame
    }

    /// Code of the gRPC answer, if it was one.
    pub(crate) fn code(&self) -> Option<tonic::Code> {
        self.0.code
    }

    /// Code for the shell.
    pub(crate) fn exit_code(&self) -> u8 {
        match self.0.blame {
            Blame::ReaderGone => 0,
            Blame::Refused => 1,
            Blame::Usage => 2,
            Blame::Environment => 3,
        }
    }

    /// The server's answer was a refusal, as a `Status` object of REST.
    pub(crate) fn of_status_object(http: u16, status: &Value) -> Self {
        let text = |field: &str| status[field].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let blame = if (400..500).contains(&http) && http != 429 { Blame::Refused } else { Blame::Environment };
        let causes = status["details"]["causes"].as_array().into_iter().flatten();
        let word = |cause: &Value, field: &str| cause[field].as_str().unwrap_or_default().to_owned();
        let violations = causes.map(|cause| Violation::new(word(cause, "field"), word(cause, "message"))).collect();
        let message = text("message").unwrap_or_else(|| format!("the server answered {http}"));
        let mut failure = Self::answered(blame, message, violations);
        failure.0.reason = text("batonReason").filter(|reason| is_reason(reason));
        match text("hint") {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }

    /// A refusal of the server: its message, or its violations in place of it.
    fn answered(blame: Blame, message: String, violations: Vec<Violation>) -> Self {
        if violations.is_empty() {
            return Self::new(blame, message);
        }
        let mut failure = Self::new(blame, format!("the server refused it, {}", headline(violations.len())));
        failure.0.violations = violations.into_iter().map(Finding::from).collect();
        failure
    }

    /// What is wrong, on one line, to be said as a part of something else.
    pub(crate) fn plain(&self) -> String {
        match self.0.violations.first() {
            Some(first) => first.to_string(),
            None => self.0.chain.join(": "),
        }
    }

    /// Lines for stderr: `error: …`, violations with their place, `hint: …`, `reason: …`.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.shown(false)
    }

    /// The same; what is shown of files has colours if they are wanted.
    pub(crate) fn shown(&self, with_colour: bool) -> Vec<String> {
        let mut lines = Vec::new();
        if self.0.blame == Blame::ReaderGone || self.0.chain.is_empty() {
            return lines;
        }
        let (last, doing) = self.0.chain.split_last().expect("the chain is not empty: looked at above");
        let (placed, plain): (Vec<_>, Vec<_>) = self.0.violations.iter().partition(|finding| finding.place.is_some());
        for finding in placed.iter().take(SHOWN_MAX) {
            // Where there is but one, what was being done stands before it; the headline would say it else.
            let doing = if self.0.violations.len() == 1 { doing } else { &[] };
            let parts: Vec<String> = doing.iter().cloned().chain([finding.violation.to_string()]).collect();
            lines.extend(finding.show(&parts.join(": "), with_colour));
        }
        let plain: Vec<_> = placed.into_iter().skip(SHOWN_MAX).chain(plain).collect();
        if self.0.violations.is_empty() {
            lines.push(format!("error: {}", self.0.chain.join(": ")));
        } else if let ([only], true) = (plain.as_slice(), self.0.violations.len() == 1) {
            let parts: Vec<String> = doing.iter().cloned().chain([only.to_string()]).collect();
            lines.push(format!("error: {}", parts.join(": ")));
        } else if self.0.violations.len() > 1 {
            let parts: Vec<&str> = doing.iter().chain([last]).map(String::as_str).collect();
            lines.push(format!("error: {}", parts.join(": ")));
            lines.extend(plain.iter().map(|finding| format!("  {finding}")));
        }
        lines.extend(self.0.hints.iter().map(|hint| format!("hint: {hint}")));
        lines.extend(self.0.reason.iter().map(|reason| format!("reason: {reason} (docs/errors/{reason}.md)")));
        lines
    }
}

impl Finding {
    /// A violation in a document, whose field is that of the resource.
    pub(crate) fn within(mut violation: Violation, origin: &Origin) -> Self {
        let path = origin.path(&violation.field);
        let place = path.and_then(|path| {
            violation.field = path;
            origin.place(&violation)
        });
        Self { violation, origin: Some(origin.clone()), place }
    }

    /// In the order in which they stand, file by file.
    pub(crate) fn sort(findings: &mut [Self]) {
        let name = |finding: &Self| finding.origin.as_ref().map(|origin| origin.source().name().to_owned());
        findings.sort_by_cached_key(|finding| (name(finding), finding.place.as_ref().map(|place| place.span.start)));
    }

    fn show(&self, message: &str, with_colour: bool) -> Option<String> {
        let (origin, place) = (self.origin.as_ref()?, self.place.as_ref()?);
        Some(origin.source().show(message, place.span.clone(), with_colour))
    }
}

impl From<Violation> for Finding {
    fn from(violation: Violation) -> Self {
        Self { violation, origin: None, place: None }
    }
}

/// `agents.yaml:12:3: spec.model: must be given`, or with the number of the document: `agents.yaml#2: …`.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.origin, &self.place) {
            (Some(origin), Some(place)) => {
                write!(f, "{}:{}:{}: ", origin.source().name(), place.line, place.column)?;
            }
            (Some(origin), None) => write!(f, "{origin}: ")?,
            (None, _) => {}
        }
        self.violation.fmt(f)
    }
}

/// Whether it is of the form of a reason; anything else is not put before a person as one.
fn is_reason(text: &str) -> bool {
    (2..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

fn headline(count: usize) -> String {
    format!("{count} things are wrong")
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().join("\n"))
    }
}

/// Writing to stdout failed.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::new(Blame::ReaderGone, "");
        }
        Self::environment("write the output").because(&error)
    }
}

/// The server's answer was a refusal, or there was none.
impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        use tonic::Code;
        let blame = match status.code() {
            Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Unauthenticated => Blame::Refused,
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss => Blame::Environment,
        };
        let violations = read_violations(&status);
        let said = status.message();
        let message =
            if said.is_empty() { format!("the server answered {:?}", status.code()) } else { said.to_owned() };
        let has_violations = !violations.is_empty();
        let mut failure = Self::answered(blame, message, violations);
        if let Some(source) = status.source().filter(|_| !has_violations) {
            failure = failure.because(source);
        }
        let reason = status.metadata().get("baton-reason").and_then(|reason| reason.to_str().ok());
        failure.0.reason = reason.filter(|reason| is_reason(reason)).map(str::to_owned);
        failure.0.code = Some(status.code());
        if let Some(hint) = status.metadata().get_bin("baton-hint-bin").and_then(|hint| hint.to_bytes().ok()) {
            failure = failure.hint(String::from_utf8_lossy(&hint).into_owned());
        } else if let Some(hint) = status.metadata().get("baton-hint").and_then(|hint| hint.to_str().ok()) {
            failure = failure.hint(hint);
        }
        failure
    }
}

fn read_violations(status: &tonic::Status) -> Vec<Violation> {
    #[derive(serde::Deserialize)]
    struct Wire {
        field: String,
        message: String,
    }
    let bytes = status.metadata().get_bin("baton-violations-bin").and_then(|value| value.to_bytes().ok());
    let wire: Vec<Wire> = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    wire.into_iter().map(|it| Violation::new(it.field, it.message)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_violation_is_one_line_and_several_are_listed() {
        let one = Failure::violations(vec![Violation::new("spec.input", "must be an object")])
            .while_doing("a.yaml")
            .hint("look");
        assert_eq!(one.lines(), ["error: a.yaml: spec.input: must be an object", "hint: look"]);
        let two = Failure::violations(vec![Violation::new("a", "x"), Violation::new("b", "y")]);
        assert_eq!(two.lines(), ["error: 2 things are wrong", "  a: x", "  b: y"]);
        assert_eq!(two.exit_code(), 1);
    }

    #[test]
    fn the_reason_of_the_server_comes_last_whichever_way_it_came() {
        let mut status = tonic::Status::new(tonic::Code::FailedPrecondition, "the token has expired");
        status.metadata_mut().insert("baton-reason", "CALLBACK_TOKEN_EXPIRED".parse().unwrap());
        status.metadata_mut().insert("baton-hint", "make another".parse().unwrap());
        let lines = [
            "error: the token has expired",
            "hint: make another",
            "reason: CALLBACK_TOKEN_EXPIRED (docs/errors/CALLBACK_TOKEN_EXPIRED.md)",
        ];
        assert_eq!(Failure::from(status).lines(), lines);
        let object = serde_json::json!({
            "kind": "Status", "message": "the token has expired", "hint": "make another", "details": {},
            "batonReason": "CALLBACK_TOKEN_EXPIRED",
        });
        assert_eq!(Failure::of_status_object(400, &object).lines(), lines);
        let causes =
            serde_json::json!({"details": {"causes": [{"field": "a", "message": "x"}]}, "batonReason": "no ../word"});
        assert_eq!(Failure::of_status_object(422, &causes).lines(), ["error: a: x"]);
        for (code, exit) in [(404, 1), (413, 1), (429, 3), (500, 3), (503, 3), (507, 3)] {
            assert_eq!(Failure::of_status_object(code, &Value::Null).exit_code(), exit, "{code}");
        }
    }

    #[test]
    fn a_closed_pipe_is_no_error() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((failure.exit_code(), failure.lines().len()), (0, 0));
    }

    #[test]
    fn codes_of_the_server_become_exit_codes() {
        for (code, exit) in [
            (tonic::Code::NotFound, 1),
            (tonic::Code::Aborted, 1),
            (tonic::Code::Unavailable, 3),
            (tonic::Code::Internal, 3),
        ] {
            assert_eq!(Failure::from(tonic::Status::new(code, "x")).exit_code(), exit, "{code:?}");
        }
    }
}
