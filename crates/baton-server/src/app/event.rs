//! Events: from outside and from executions into the bus, and who is told of them.

use baton_activities::Subscription;
use baton_proto::v1;
use baton_store::Lane;
use baton_types::{ApiError, Violation, check_namespace};
use serde_json::Value;

use super::{App, free_data, or_default};
use crate::events::{BATCH_EVENTS_MAX, CloudEvent};

impl App {
    /// Keeps events for whoever listens; returns once they are durable. Those that are there already change nothing.
    ///
    /// # Errors
    /// InvalidArgument with every violation of every event: none is kept then. What the store refuses: some may be kept then,
    /// and to send all of them again does no harm.
    pub async fn publish_events(
        &self,
        request: &v1::PublishEventsRequest,
    ) -> Result<v1::PublishEventsResponse, ApiError> {
        let mut violations = Vec::new();
        let read = |(index, event): (usize, &v1::Json)| {
            let mut event = event.clone();
            free_data::read(&mut event, &format!("events[{index}]"), &mut violations)
        };
        let events: Vec<Value> = request.events.iter().take(BATCH_EVENTS_MAX + 1).enumerate().map(read).collect();
        if !violations.is_empty() {
            return Err(ApiError::violations(violations));
        }
        self.publish(Lane::External, &request.namespace, events, "events").await
    }

    /// As [`App::publish_events`], for events that were read already. `field` is the name of their list in messages.
    pub(crate) async fn publish(
        &self,
        lane: Lane,
        namespace: &str,
        events: Vec<Value>,
        field: &str,
    ) -> Result<v1::PublishEventsResponse, ApiError> {
        let namespace = or_default(namespace);
        let mut violations = Vec::new();
        if let Err(message) = check_namespace(namespace) {
            violations.push(Violation::new("namespace", message));
        }
        if events.is_empty() || events.len() > BATCH_EVENTS_MAX {
            let found = if events.is_empty() { "no events" } else { "more" };
            violations.push(Violation::new(field, format!("has {found}, allowed are 1 to {BATCH_EVENTS_MAX} events")));
        }
        let mut checked = Vec::with_capacity(events.len().min(BATCH_EVENTS_MAX));
        let alone = events.len() == 1 && field.is_empty();
        for (index, event) in events.into_iter().take(BATCH_EVENTS_MAX).enumerate() {
            let place = if alone { String::new() } else { format!("{field}[{index}]") };
            match CloudEvent::check(event, &place) {
                Ok(event) => checked.push(event),
                Err(found) => violations.extend(found),
            }
        }
        if !violations.is_empty() {
            return Err(ApiError::violations(violations));
        }
        let published = self.events()?.publish(lane, namespace, &checked).await?;
        let count = |count| i32::try_from(count).unwrap_or(i32::MAX);
        Ok(v1::PublishEventsResponse { accepted: count(published.accepted), duplicates: count(published.duplicates) })
    }

    /// Has the holder of a token told of events; returns once that is durable.
    ///
    /// # Errors
    /// InvalidArgument for a token that nobody here can answer, or a subscription that is none; what the store refuses.
    pub(crate) async fn subscribe(&self, namespace: &str, subscription: &Subscription) -> Result<(), ApiError> {
        self.engine()?.check_token(subscription.callback_token.as_bytes())?;
        self.events()?.subscribe(or_default(namespace), subscription).await
    }
}
