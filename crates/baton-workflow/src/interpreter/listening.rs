//! Tasks that wait for events: a wait and a subscription for every round.

use baton_execution::{Command, Effect, ScheduleActivity, WaitReason, callback_token_placeholder};
use serde_json::Value;

use crate::{
    interpreter::{
        DEFAULT_ACTIVITY_MS, DEFAULT_WAIT_MS,
        run::Run,
        state::{FrameId, Opening},
    },
    task::Purpose,
};

impl Run {
    /// Where the last event that this execution has consumed stands, if it has consumed one.
    pub(crate) fn events_cursor(&self) -> Option<&str> {
        self.execution.events_cursor.as_deref()
    }

    /// Notes that an event was consumed that stands at `cursor`.
    pub(crate) fn consumed(&mut self, cursor: &Value) {
        if let Value::String(cursor) = cursor {
            self.execution.events_cursor = Some(cursor.clone());
        }
    }

    /// Opens a wait and has the bus told of it: `subscription` and who to answer until when.
    ///
    /// Without a deadline the wait is over when nothing has come for [`DEFAULT_WAIT_MS`].
    pub(crate) fn subscribe(&mut self, number: FrameId, mut subscription: Value, on: String, deadline_ms: Option<i64>) {
        let id = self.frame(number).operation();
        let expires_ms = deadline_ms.unwrap_or_else(|| self.after(DEFAULT_WAIT_MS));
        self.emit(Command::AwaitCallback { id: id.clone(), heartbeat_timeout_ms: None, expires_ms });
        if deadline_ms.is_none() {
            self.start_timer(number, Purpose::Own, expires_ms);
        }
        subscription["callbackToken"] = callback_token_placeholder(&id).into();
        subscription["expiresMs"] = expires_ms.into();
        self.emit(Command::ScheduleActivity(ScheduleActivity {
            id,
            activity: "subscribe".to_owned(),
            input: subscription,
            start_to_close_ms: DEFAULT_ACTIVITY_MS,
            effect: Effect::Repeatable,
            approval: None,
        }));
        self.open(
            number,
            Opening { reason: WaitReason::Event, on, until_ms: Some(expires_ms), activity: true, wait: true },
        );
    }
}
