//! The updates of a task, as it moves on: the task, what the agent remarks, each new state, and the artifact before the last one.
//!
//! What is sent follows from the recorded history. A client that was cut off subscribes again and gets the task as it is then.

use std::{collections::VecDeque, sync::Arc};

use baton_proto::history_v1::{HistoryEvent, history_event::Attributes};
use baton_types::ApiError;
use futures::{StreamExt as _, stream::BoxStream};
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    A2aServer, Place,
    error::{A2aError, Kind},
    operations::find,
    task::{Standing, Task, message_of},
};
use crate::{
    app::App,
    interop::{follow, moves},
};

struct Updates {
    app: App,
    place: Place,
    task: Task,
    events: BoxStream<'static, Result<HistoryEvent, ApiError>>,
    /// What was last told.
    told: Standing,
    ready: VecDeque<Value>,
    over: bool,
    _permit: OwnedSemaphorePermit,
}

/// Follows a task from an event on. A slow client is waited for: nothing is kept for it but the place in the history.
pub(super) async fn updates(
    server: &A2aServer,
    place: &Place,
    task: Task,
    after: i32,
) -> Result<BoxStream<'static, Result<Value, A2aError>>, A2aError> {
    let permit = Arc::clone(&server.following).try_acquire_owned().map_err(|_| {
        A2aError::new(Kind::Unavailable, "too many streams are open now; get the task, or subscribe to it later")
    })?;
    let app = server.app.clone();
    let events = follow(&app, &task.execution, after).await?;
    let ready = VecDeque::from([json!({"task": task.whole(&app, 0, true).await?})]);
    let (told, over) = (task.standing(), task.execution.phase().is_terminal());
    let updates = Updates { app, place: place.clone(), task, events, told, ready, over, _permit: permit };
    Ok(futures::stream::unfold(updates, |mut updates| async move { updates.next().await.map(|item| (item, updates)) })
        .boxed())
}

impl Updates {
    async fn next(&mut self) -> Option<Result<Value, A2aError>> {
        loop {
            if let Some(update) = self.ready.pop_front() {
                return Some(Ok(update));
            }
            if self.over {
                return None;
            }
            if let Err(error) = self.step().await {
                self.over = true;
                return Some(Err(error));
            }
        }
    }

    async fn step(&mut self) -> Result<(), A2aError> {
        let event = self.events.next().await.transpose()?;
        let over = event.is_none();
        if over || event.as_ref().is_some_and(moves) {
            self.look().await?;
        }
        self.over |= over;
        let Some(event) = event.filter(|_| !self.over) else { return Ok(()) };
        let number = event.number;
        if let Some(message) = message_of(event.attributes.filter(|it| matches!(it, Attributes::Note(_))))
            && let Some(remark) = self.task.remark(&self.app, number, message).await?
        {
            let status = json!({
                "state": self.told.state, "message": remark, "timestamp": self.task.updated().to_string(),
            });
            self.update("statusUpdate", "status", &status);
        }
        Ok(())
    }

    /// Tells the state, if it is another one.
    async fn look(&mut self) -> Result<(), A2aError> {
        self.task = find(&self.app, &self.place, &self.task.id).await?;
        let standing = self.task.standing();
        if standing == self.told {
            return Ok(());
        }
        if let Some(artifact) = self.task.artifact(&self.app).await? {
            self.update("artifactUpdate", "artifact", &artifact);
        }
        let status = self.task.status(&self.app).await?;
        self.update("statusUpdate", "status", &status);
        self.told = standing;
        self.over = self.task.execution.phase().is_terminal();
        Ok(())
    }

    fn update(&mut self, kind: &str, field: &str, value: &Value) {
        let mut update = json!({"taskId": self.task.id, "contextId": self.task.context, field: value});
        if kind == "artifactUpdate" {
            update["lastChunk"] = true.into();
        }
        self.ready.push_back(json!({kind: update}));
    }
}
