//! Owners whose deletion was asked for and that are still there: a finalizer holds them.
//!
//! Nobody says when the last finalizer is gone, so they are looked at until they are not there any more; their dependents
//! are collected then.
//!
//! # Failure
//! Owners above [`OWNERS_GONE_MAX`] are forgotten; the scan for orphans finds their dependents. A start finds again those
//! that an earlier life knew.

use std::{
    collections::BTreeSet,
    ops::Bound::{Excluded, Unbounded},
};

use baton_store::{Store, StoreError};
use baton_types::{ApiError, Uid};

use super::{STEP_ROWS, Upkeep, log};
use crate::app::OWNERS_GONE_MAX;

/// Owners looked at in one step.
const LOOKS_MAX: usize = 1000;

/// The owners, and how far the present turn through them is.
#[derive(Default)]
pub(super) struct Held {
    owners: BTreeSet<Uid>,
    after: Option<Uid>,
}

impl Held {
    pub(super) fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    pub(super) fn insert(&mut self, owner: Uid) {
        if self.owners.len() < OWNERS_GONE_MAX {
            self.owners.insert(owner);
        }
    }

    /// The next ones of the turn; after the last one a new turn begins.
    fn next(&mut self) -> Vec<Uid> {
        let from = self.after.map_or(Unbounded, Excluded);
        let owners: Vec<Uid> = self.owners.range((from, Unbounded)).take(LOOKS_MAX).copied().collect();
        self.after = owners.last().filter(|_| owners.len() == LOOKS_MAX).copied();
        owners
    }
}

impl Upkeep {
    /// Finds the owners that were held when the server was stopped.
    pub(super) async fn find_held(&mut self) {
        match self.app.read(held_in).await {
            Ok(owners) => owners.into_iter().for_each(|owner| self.held.insert(owner)),
            Err(failed) => log("look for held objects", &failed),
        }
    }

    /// Looks at some of the owners, and hands on those that are gone now.
    pub(super) async fn look_at_held(&mut self) {
        let owners = self.held.next();
        match self.gone_of(owners).await {
            Ok(gone) => {
                for owner in gone {
                    self.held.owners.remove(&owner);
                    self.app.owner_is_gone(owner);
                }
            }
            Err(failed) => log("look at held objects", &failed),
        }
    }

    async fn gone_of(&self, mut owners: Vec<Uid>) -> Result<Vec<Uid>, ApiError> {
        let look = move |store: &Store| {
            // One that cannot be read is there.
            owners.retain(|owner| matches!(store.get_by_uid(*owner.as_bytes()), Ok(None)));
            Ok(owners)
        };
        self.app.read(look).await
    }
}

fn held_in(store: &Store) -> Result<Vec<Uid>, StoreError> {
    let mut owners = Vec::new();
    let mut after = 0;
    loop {
        let numbers = store.deleting(after, STEP_ROWS)?;
        let Some(last) = numbers.last().copied().filter(|_| owners.len() < OWNERS_GONE_MAX) else {
            return Ok(owners);
        };
        after = last;
        for number in numbers {
            match store.get_by_number(number) {
                Ok(stored) => owners.extend(stored.map(|stored| Uid::from_bytes(stored.uid))),
                // Named by its dependents all the same, which the scan finds.
                Err(StoreError::Corrupt { .. }) => {}
                Err(failed) => return Err(failed),
            }
        }
    }
}
