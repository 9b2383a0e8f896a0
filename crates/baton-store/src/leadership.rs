//! Which of several servers does what only one of them should.
//!
//! On PostgreSQL leadership is an advisory lock of the session that follows the others' commits. It is held for as long as
//! that session lives and was heard of a moment ago; a session that breaks loses it at once, and one that hangs loses it
//! here before the database gives it to another. A store in files has one server, which always leads.
//!
//! # Invariants
//! - In order, at most one server leads. A session that the database server ends is given up as soon as that is heard,
//!   which is after the lock is free; and when the database server itself vanishes, the old leader may believe in itself
//!   for up to [`LEASE`]. What must never happen twice needs a guard in its transaction.
//!
//! # Deliberately absent
//! No fencing token: every commit is checked under the head's lock, whoever sends it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long leadership lasts after the session was last heard of.
pub(crate) const LEASE: Duration = Duration::from_secs(5);

/// Tells whether this server leads; cheap to clone.
#[derive(Clone, Debug)]
pub struct Leadership(Arc<Held>);

#[derive(Debug)]
enum Held {
    Always,
    Until(Mutex<Option<Instant>>),
}

impl Leadership {
    pub(crate) fn always() -> Self {
        Self(Arc::new(Held::Always))
    }

    pub(crate) fn none() -> Self {
        Self(Arc::new(Held::Until(Mutex::new(None))))
    }

    /// Whether this server leads at this moment.
    pub fn is_leader(&self) -> bool {
        match self.0.as_ref() {
            Held::Always => true,
            Held::Until(until) => {
                until.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| Instant::now() < until)
            }
        }
    }

    /// The session had the lock at `heard`; `None` if it has not.
    pub(crate) fn set(&self, heard: Option<Instant>) {
        if let Held::Until(until) = self.0.as_ref() {
            let before = std::mem::replace(
                &mut *until.lock().unwrap_or_else(PoisonError::into_inner),
                heard.map(|heard| heard + LEASE),
            );
            match (before, heard) {
                (None, Some(_)) => tracing::info!("this server leads now"),
                (Some(_), None) => tracing::info!("this server leads no more"),
                (None, None) | (Some(_), Some(_)) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_that_is_not_renewed_ends() {
        let leadership = Leadership::none();
        assert!(!leadership.is_leader());
        leadership.set(Some(Instant::now()));
        assert!(leadership.is_leader());
        leadership.set(Instant::now().checked_sub(LEASE));
        assert!(!leadership.is_leader(), "nothing was heard for too long");
        leadership.set(Some(Instant::now()));
        leadership.set(None);
        assert!(!leadership.is_leader());
        assert!(Leadership::always().is_leader());
    }
}
