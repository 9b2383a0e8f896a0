//! What was said in a session: what the next turn is given of it, and all of it for whoever asks.

use baton_agent::{CompactionPolicy, Earlier, Spoken, Summarise, TurnRecord};
use baton_execution::Fault;
use baton_types::{ApiError, Digest};

use super::books::Kept;
use crate::app::App;

/// Leaves older turns out of what the next one is shown, if that is due.
pub(super) async fn shorten(app: &App, kept: &mut Kept) -> Result<(), ApiError> {
    let spoken = kept.books.spoken();
    let due = kept.compaction().filter(|it| it.policy == CompactionPolicy::KeepLast);
    if let Some(compaction) = due.filter(|it| it.is_due(&spoken, kept.books.tokens)) {
        let (_, last) = divide(app, &spoken, compaction.keep_last).await?;
        kept.books.set_spoken(&last);
    }
    Ok(())
}

/// What the next turn begins with.
pub(super) async fn earlier(app: &App, kept: &Kept) -> Result<Earlier, ApiError> {
    let spoken = kept.books.spoken();
    let due = kept.compaction().filter(|it| it.policy == CompactionPolicy::Summarise);
    let summarise = match due.filter(|it| it.is_due(&spoken, kept.books.tokens)) {
        Some(compaction) => {
            let (older, last) = divide(app, &spoken, compaction.keep_last).await?;
            Some(Summarise { older, kept: last, model: compaction.model })
        }
        None => None,
    };
    Ok(Earlier {
        turn: kept.books.turns.saturating_add(1),
        previous: Some(kept.books.last.clone()).filter(|last| !last.is_empty()),
        spoken,
        summarise,
    })
}

/// Divides a conversation: what lies before its last turns, with the summary of what lies before that; and those turns.
async fn divide(app: &App, spoken: &Spoken, turns: u32) -> Result<(Spoken, Spoken), ApiError> {
    let mut recall = spoken.last_turns(turns).recall();
    while let Some(digest) = recall.wanted().map_err(|fault| broken(&fault))? {
        recall.take(&content(app, digest).await?).map_err(|fault| broken(&fault))?;
    }
    Ok(spoken.divide(&recall))
}

fn broken(fault: &Fault) -> ApiError {
    ApiError::internal(fault.to_string())
}

async fn content(app: &App, digest: Digest) -> Result<bytes::Bytes, ApiError> {
    let read = app.read(move |store| store.blob(digest.as_bytes())).await?;
    read.ok_or_else(|| ApiError::internal(format!("a turn of a session, {digest}, is not in the store")))
}

impl Kept {
    /// The records of the turns after a number, oldest first.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub(crate) async fn turns_after(&self, app: &App, after: u32) -> Result<Vec<Digest>, ApiError> {
        let mut digests = Vec::new();
        let mut next = Some(self.books.last.clone()).filter(|last| !last.is_empty());
        for _ in after..self.books.turns {
            let Some(text) = next.take() else { break };
            let digest: Digest = text.parse().map_err(ApiError::internal)?;
            digests.push(digest);
            next = turn(app, digest).await?.previous;
        }
        digests.reverse();
        Ok(digests)
    }
}

/// The record of a turn.
///
/// # Errors
/// It cannot be read.
pub(crate) async fn turn(app: &App, digest: Digest) -> Result<TurnRecord, ApiError> {
    TurnRecord::read(&content(app, digest).await?).map_err(|fault| broken(&fault))
}
