//! Objects past their `ttlSecondsAfterFinished`, page by page.
//!
//! # Invariants
//! - A page goes on after the last one, so an object that cannot be removed stands before no other.
//! - An execution whose end is still to be reported waits for that, within limits.
//! - At most [`REMOVALS_MAX`] removals are under way: a slow store is asked less often.
//!
//! # Failure
//! When the store refuses for want of room, the rest is left to the next round.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use baton_store::{ExpiringRow, Store, StoreError, StoredResource};
use futures::StreamExt as _;

use super::{Removed, STEP_ROWS, Upkeep, log};
use crate::app;

/// Objects removed at the same time: enough to fill a group of the committer, few beside what else it has to do.
const REMOVALS_MAX: usize = 32;

/// Where the removal of one round stands.
#[derive(Clone, Copy)]
pub(super) struct Expiry {
    before_ms: i64,
    after: Option<ExpiringRow>,
}

impl Expiry {
    /// Of what is past its time now.
    pub(super) fn begin() -> Self {
        Self { before_ms: app::now_ms(), after: None }
    }
}

struct Page {
    expired: Vec<StoredResource>,
    /// `None` if this page is the last one.
    after: Option<ExpiringRow>,
}

impl Upkeep {
    /// Removes one page; what is to be done after it, if anything.
    pub(super) async fn remove_expired(&self, expiry: Expiry) -> Option<Expiry> {
        let page = match self.app.read(move |store| page(store, expiry)).await {
            Ok(page) => page,
            Err(failed) => {
                log("look for expired objects", &failed);
                return None;
            }
        };
        let refused = AtomicBool::new(false);
        futures::stream::iter(&page.expired)
            .for_each_concurrent(REMOVALS_MAX, |stored| async {
                let held = self.app.reported().is_some_and(|reported| reported.holds(stored));
                if !held && !refused.load(Relaxed) && self.remove(stored, "expired").await == Removed::NotNow {
                    refused.store(true, Relaxed);
                }
            })
            .await;
        if refused.into_inner() {
            return None;
        }
        page.after.map(|after| Expiry { after: Some(after), ..expiry })
    }
}

fn page(store: &Store, expiry: Expiry) -> Result<Page, StoreError> {
    let rows = store.expiring(expiry.before_ms, expiry.after, STEP_ROWS)?;
    let after = rows.last().filter(|_| rows.len() == STEP_ROWS).copied();
    let mut expired = Vec::with_capacity(rows.len());
    for row in rows {
        match store.get_by_number(row.number) {
            Ok(stored) => expired.extend(stored.filter(|stored| !stored.deleting)),
            Err(StoreError::Corrupt { table, key }) => {
                tracing::warn!(table, key, "an expired object is damaged and stays");
            }
            Err(failed) => return Err(failed),
        }
    }
    Ok(Page { expired, after })
}
