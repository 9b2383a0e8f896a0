//! Event histories: a page, or everything as it is recorded.

use std::collections::VecDeque;

use baton_proto::{history_v1, v1};
use baton_types::{ApiError, Digest, ErrorKind, Uid, Violation};
use futures::Stream;
use history_v1::history_event::Attributes;
use serde::Deserialize;
use serde_json::Value;

use super::{App, ExecutionKind};

/// Events of a page if the request does not say.
const EVENTS_DEFAULT: usize = 200;
/// Events of a page at most, and of one read of a follower: a step may hold many, and each read decodes its step whole.
const EVENTS_MAX: usize = 1000;

struct Following {
    app: App,
    uid: Uid,
    after: i32,
    ready: VecDeque<history_v1::HistoryEvent>,
    over: bool,
}

impl App {
    /// Reads a page of an execution's history.
    ///
    /// # Errors
    /// NotFound; InvalidArgument for a negative `after` or a `limit` outside 0 to 1000.
    pub async fn history<R: ExecutionKind>(&self, request: &v1::HistoryRequest) -> Result<v1::HistoryPage, ApiError> {
        let limit = check(request)?;
        let uid = self.uid_of::<R>(&request.namespace, &request.name).await?;
        let (events, _) = self.read_history(uid, request.after, limit).await?;
        let more = events.len() == limit;
        let next_after = events.last().filter(|_| more).map_or(0, |event| event.number);
        Ok(v1::HistoryPage { events, next_after })
    }

    /// Follows an execution's history: what is there after `after`, then what comes, up to the event that ends it.
    ///
    /// # Errors
    /// As for [`App::history`]; an error within the stream ends it. A history that is deleted meanwhile just ends.
    pub async fn watch_history<R: ExecutionKind>(
        &self,
        request: &v1::HistoryRequest,
    ) -> Result<impl Stream<Item = Result<history_v1::HistoryEvent, ApiError>> + Send + 'static + use<R>, ApiError>
    {
        check(request)?;
        let uid = self.uid_of::<R>(&request.namespace, &request.name).await?;
        let following = Following { app: self.clone(), uid, after: request.after, ready: VecDeque::new(), over: false };
        Ok(futures::stream::unfold(following, |mut following| async move {
            following.next().await.map(|item| (item, following))
        }))
    }

    /// What `document` of the definition says that an execution was pinned to.
    ///
    /// # Errors
    /// NotFound if the execution is gone.
    pub(crate) async fn pinned_document(&self, uid: Uid) -> Result<Value, ApiError> {
        #[derive(Deserialize)]
        struct Head {
            document: Value,
        }
        let row = self.read(move |store| store.get_by_uid(*uid.as_bytes())).await?;
        let row = row.ok_or_else(|| ApiError::not_found("execution", &uid.to_string(), ""))?;
        let execution = baton_engine::decode_stored(&row.key.kind, &row.body, row.revision)?;
        let digest = execution.template().and_then(Option::as_ref).and_then(|it| it.digest.parse::<Digest>().ok());
        let digest = digest.ok_or_else(|| ApiError::internal(format!("{} is pinned to nothing", row.key)))?;
        let content = self.read(move |store| store.blob(digest.as_bytes())).await?.unwrap_or_default();
        let head: Head = serde_json::from_slice(&content)
            .map_err(|error| ApiError::internal(format!("the definition of {}: {error}", row.key)))?;
        Ok(head.document)
    }

    /// Events of a history after a number, at most `limit`, and whether the execution has ended.
    pub(crate) async fn read_history(
        &self,
        uid: Uid,
        after: i32,
        limit: usize,
    ) -> Result<(Vec<history_v1::HistoryEvent>, bool), ApiError> {
        let engine = self.engine()?.clone();
        let read = tokio::task::spawn_blocking(move || engine.history(uid, after, limit)).await;
        read.map_err(|stopped| ApiError::internal(format!("a read of a history was stopped: {stopped}")))?
    }
}

fn check(request: &v1::HistoryRequest) -> Result<usize, ApiError> {
    let mut violations = Vec::new();
    if request.after < 0 {
        violations.push(Violation::new("after", format!("is {}, allowed are 0 and more", request.after)));
    }
    let limit = usize::try_from(request.limit).unwrap_or(usize::MAX);
    if limit > EVENTS_MAX {
        violations.push(Violation::new("limit", format!("is {}, allowed are 0 to {EVENTS_MAX}", request.limit)));
    }
    if violations.is_empty() {
        Ok(if limit == 0 { EVENTS_DEFAULT } else { limit })
    } else {
        Err(ApiError::violations(violations))
    }
}

impl Following {
    async fn next(&mut self) -> Option<Result<history_v1::HistoryEvent, ApiError>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                self.after = event.number;
                self.over |= matches!(event.attributes, Some(Attributes::Ended(_)));
                return Some(Ok(event));
            }
            if self.over {
                return None;
            }
            if let Err(failed) = self.fill().await {
                self.over = true;
                // Deleted, or the server is stopping: there is nothing more to tell.
                let ended = matches!(failed.kind, ErrorKind::NotFound) || failed.reason == "SHUTTING_DOWN";
                return (!ended).then_some(Err(failed));
            }
        }
    }

    async fn fill(&mut self) -> Result<(), ApiError> {
        let (events, ended) = self.app.read_history(self.uid, self.after, EVENTS_MAX).await?;
        if events.is_empty() {
            if ended {
                self.over = true;
                return Ok(());
            }
            self.app.engine()?.wait_history(self.uid, self.after).await?;
        }
        self.ready.extend(events);
        Ok(())
    }
}
