//! Several servers over one store: one leads, the others forward to it.
//!
//! The leader runs the engine and everything that acts by itself, so that an execution has one writer however many servers
//! there are. The others stand by: a [`Door`] forwards every request that reaches them, and each becomes the leader when the
//! store says so ([`contend`]). Over an embedded store there is one server, which leads from its start to its end.
//!
//! # Invariants
//! - A request is forwarded once at most: one that comes forwarded to a server that does not lead is refused.
//! - Where the leader is stands in the store, written by itself before it serves; see [`post::Notice`].
//! - A server that has led and does not any more ends. It never stands by again: its memory is of another time.
//! - Only whoever leads writes the fingerprint of the key; see [`keys`].
//!
//! # Deliberately absent
//! Reads that a standby answers from the store by itself: an answer could be older than one that the caller has seen.
//!
//! # Failure
//! A leader that is gone is replaced within a second or two; until then requests wait, at most for [`PATIENCE`]. A leader that
//! does not know yet that it leads no more may still try to write: what it expects to find in the store is not there any
//! more once the next one has gone on, so the store refuses it.

mod body;
mod contend;
mod door;
mod keys;
mod links;
mod post;

use std::{sync::Arc, time::Duration};

use baton_engine::chain;

pub(crate) use self::{
    contend::{Contender, contend},
    door::Door,
    keys::{FINGERPRINT, Opened as OpenedKey, open as open_key},
    post::Post,
};
use crate::server::StartError;

/// Longest that a request waits for somebody who leads.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Marks a forwarded request; its value is the version of HTTP that the caller spoke.
pub(crate) const FORWARDED: &str = "baton-forwarded";

/// Why a server cannot go on; its process must then end, and start again.
#[derive(Debug, thiserror::Error)]
pub enum ServerFailure {
    /// The store is dead.
    #[error("the store has failed: {0}")]
    Store(Arc<str>),
    /// Another server leads, or may.
    #[error("this server leads no more: {0}")]
    LeadershipLost(String),
    /// It was to lead and could not.
    #[error("this server cannot take over: {}", chain(.0))]
    TakeOver(StartError),
    /// The store was written with another key than this server has.
    #[error("this server cannot stand by: {}", chain(.0))]
    StandBy(StartError),
}

impl ServerFailure {
    /// What to do about it, as one line.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Store(_) => Some("start the server again: it recovers from what is on the disk"),
            Self::LeadershipLost(_) => {
                Some("start it again, as a supervisor does: it stands by then; nothing that was acknowledged is lost")
            }
            Self::TakeOver(cause) | Self::StandBy(cause) => cause.hint(),
        }
    }
}
