//! What has come from outside, and what may not be done any more once it has.
//!
//! Whoever writes what a tool gives (a web page, a ticket, a customer's mail) may write instructions into it. Content cannot be
//! told from instructions by looking at it, so what counts is what has happened: after the first result of a call, whoever wrote
//! that result may be speaking through the model, and a tool that carries data out of the installation is one it would use.
//!
//! # Invariants
//! - A verdict only ever becomes stricter.
//! - It is the order of the history that counts: the calls of one turn were chosen before any of them had a result.

use crate::policy::{PolicyAction, Verdict};

/// What becomes of calls of tools that are declared `egress`, after content from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterUntrusted {
    /// A person is asked, whatever else allows the call.
    Ask,
    /// The call is not made, and the model is told.
    Deny,
}

impl AfterUntrusted {
    pub(crate) const WORDS: [(&'static str, Self); 2] = [("ask", Self::Ask), ("deny", Self::Deny)];

    /// The verdict on a call that carries data out, after content from outside.
    pub(crate) fn tighten(self, verdict: Verdict) -> Verdict {
        let action = match (verdict.action, self) {
            (PolicyAction::Deny, _) | (PolicyAction::Ask, Self::Ask) => return verdict,
            (PolicyAction::Allow, Self::Ask) => PolicyAction::Ask,
            (PolicyAction::Allow | PolicyAction::Ask, Self::Deny) => PolicyAction::Deny,
        };
        let why = "policy.afterUntrusted: the model has read content from outside, and the tool is declared egress";
        Verdict { action, why: why.to_owned() }
    }
}
