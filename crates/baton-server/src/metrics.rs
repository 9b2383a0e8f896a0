//! Metrics: names, labels and help texts in one place, and the page that Prometheus reads.
//!
//! # Invariants
//! - The unit is in the name; labels have few values: never an id, a name or a namespace.
//!
//! # Failure
//! A process has one recorder. If something else installed one first, the page is empty and the server runs on.

use std::sync::OnceLock;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Counter: executions created. Label `kind`.
pub const EXECUTIONS_CREATED: &str = "baton_executions_created_total";
/// Counter: executions ended. Labels `kind`, `phase`.
pub const EXECUTIONS_ENDED: &str = "baton_executions_ended_total";
/// Counter: answers to return addresses that were settled. Label `state`: Delivered, Rejected or Abandoned.
pub const CALLBACKS_SETTLED: &str = "baton_callbacks_settled_total";
/// Counter: answers by token that came in. Labels `outcome` (completed, failed, cancelled) and `result` (accepted, or the reason of the refusal).
pub const CALLBACK_ANSWERS: &str = "baton_callback_answers_total";
/// Counter: callback tokens refused at creation or attachment. Label `reason`.
pub const CALLBACK_TOKENS_REFUSED: &str = "baton_callback_tokens_refused_total";
/// Counter: requests. Labels `protocol` (rest, grpc) and `code`.
pub const REQUESTS: &str = "baton_requests_total";
/// Histogram: time until the head of the answer to a request, in seconds. Label `protocol`.
pub const REQUEST_SECONDS: &str = "baton_request_seconds";
/// Counter: objects removed by the server itself. Label `cause`: expired, owner_gone.
pub const OBJECTS_COLLECTED: &str = "baton_objects_collected_total";
/// Counter: what the reconciler found in need of repair. Label `finding`.
pub const RECONCILER_FINDINGS: &str = "baton_reconciler_findings_total";
/// Counter: events that came in. Label `result`: accepted, duplicate.
pub const EVENTS_PUBLISHED: &str = "baton_events_published_total";
/// Counter: answers to those who listen. Label `result`: accepted, or the reason of the refusal.
pub const EVENTS_TOLD: &str = "baton_events_told_total";
/// Gauge: events that are kept for those who listen.
pub const EVENTS_KEPT: &str = "baton_events_kept";
/// Gauge: those who listen.
pub const EVENT_SUBSCRIPTIONS: &str = "baton_event_subscriptions";
/// Counter: notifications of A2A. Label `result`: accepted, rejected, failed (sent again later), abandoned, lost.
pub const A2A_PUSHES: &str = "baton_a2a_pushes_total";
/// Counter: events that were sent to a sink. Labels `what` (lifecycle, emitted) and `result`: accepted, rejected, failed (sent
/// again later).
pub const EVENTS_SENT: &str = "baton_events_sent_total";
/// Gauge: how long ago what a sink was to get next happened, in seconds; 0 if it has everything. Label `what`.
pub const EVENTS_LAG: &str = "baton_events_lag_seconds";
/// Gauge: workflows with a schedule.
pub const SCHEDULES: &str = "baton_schedules";
/// Counter: executions that schedules started or did not. Label `result`: started, existing (after a crash), overlapping,
/// missed, refused, too_much (more events than one execution can be started with).
pub const SCHEDULE_STARTS: &str = "baton_schedule_starts_total";
/// Gauge: executions held in memory.
pub const EXECUTIONS_RESIDENT: &str = "baton_executions_resident";

/// Gauge: 1 while this server leads, 0 while it stands by.
pub const LEADING: &str = "baton_leading";

/// Upper bounds of histograms of seconds: from a fraction of a sync to a slow disk.
const SECONDS_BUCKETS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// Upper bounds of histograms of transactions in a group.
const OPERATIONS_BUCKETS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

static PAGE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Makes the process count. Every server of a process counts into the same metrics.
pub(crate) fn install() {
    PAGE.get_or_init(|| {
        let seconds = Matcher::Suffix("_seconds".to_owned());
        let operations = Matcher::Suffix("_operations".to_owned());
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(seconds, SECONDS_BUCKETS)
            .and_then(|builder| builder.set_buckets_for_metric(operations, OPERATIONS_BUCKETS))
            .map(PrometheusBuilder::build_recorder);
        let recorder = match recorder {
            Ok(recorder) => recorder,
            Err(error) => {
                tracing::error!(%error, "metrics cannot be set up");
                return None;
            }
        };
        let handle = recorder.handle();
        if let Err(error) = metrics::set_global_recorder(recorder) {
            tracing::warn!(%error, "metrics are recorded elsewhere; the page of metrics is empty");
            return None;
        }
        describe();
        Some(handle)
    });
}

/// The page, in the text form of Prometheus.
pub(crate) fn render() -> String {
    PAGE.get().and_then(Option::as_ref).map(PrometheusHandle::render).unwrap_or_default()
}

/// Bounded memory for histograms: to be called about once a minute.
pub(crate) fn upkeep() {
    if let Some(handle) = PAGE.get().and_then(Option::as_ref) {
        handle.run_upkeep();
    }
}

fn describe() {
    use baton_activities::metric_names as activities;
    use baton_store::metric_names as store;
    describe_counter!(activities::MODEL_CALLS, "Calls of models that were answered");
    describe_counter!(activities::MODEL_FAILURES, "Calls of models that failed, after all repetitions");
    describe_counter!(activities::MODEL_INPUT_TOKENS, "Tokens that models have read");
    describe_counter!(activities::MODEL_OUTPUT_TOKENS, "Tokens that models have written");
    describe_counter!(activities::MODEL_COST, "What calls of known price cost, in millionths of a US dollar");
    describe_counter!(activities::SPANS_SENT, "Spans that were sent to the collector of traces");
    describe_counter!(
        activities::SPANS_DROPPED,
        "Spans that were dropped: too many waited, or the collector refused them"
    );
    describe_counter!(EXECUTIONS_CREATED, "Executions created, by kind");
    describe_counter!(EXECUTIONS_ENDED, "Executions ended, by kind and phase");
    describe_counter!(CALLBACKS_SETTLED, "Answers to return addresses that were delivered, rejected or abandoned");
    describe_counter!(CALLBACK_ANSWERS, "Answers by token that came in");
    describe_counter!(CALLBACK_TOKENS_REFUSED, "Callback tokens that nobody here can answer");
    describe_counter!(REQUESTS, "Requests, by protocol and code of the answer");
    describe_histogram!(REQUEST_SECONDS, Unit::Seconds, "Time until the head of the answer to a request");
    describe_counter!(OBJECTS_COLLECTED, "Objects that the server removed by itself");
    describe_counter!(RECONCILER_FINDINGS, "What the reconciler found in need of repair");
    describe_counter!(EVENTS_PUBLISHED, "Events that came in, new and known ones");
    describe_counter!(EVENTS_TOLD, "Answers to those who listen to events");
    describe_gauge!(EVENTS_KEPT, "Events that are kept for those who listen");
    describe_gauge!(EVENT_SUBSCRIPTIONS, "Subscriptions to events that wait");
    describe_counter!(A2A_PUSHES, "Push notifications of A2A, by result");
    describe_counter!(EVENTS_SENT, "Events that were sent to a sink, by result");
    describe_gauge!(EVENTS_LAG, Unit::Seconds, "How long ago what a sink was to get next happened");
    describe_gauge!(SCHEDULES, "Workflows with a schedule");
    describe_counter!(SCHEDULE_STARTS, "Executions that schedules started, or left out, by result");
    describe_gauge!(EXECUTIONS_RESIDENT, "Executions held in memory");
    describe_gauge!(LEADING, "1 while this server leads, 0 while it stands by");
    describe_histogram!(store::GROUP_OPERATIONS, "Transactions in a group commit");
    describe_histogram!(
        store::GROUP_SECONDS,
        Unit::Seconds,
        "From taking a group to its sync: the latency of a commit"
    );
    describe_gauge!(store::QUEUE_OPERATIONS, "Transactions waiting for the committer");
    describe_gauge!(store::WAL_BYTES, Unit::Bytes, "Size of the write-ahead log");
    describe_gauge!(store::FREE_BYTES, Unit::Bytes, "Free space on the store's disk");
}

pub(crate) fn execution_created(kind: &'static str) {
    counter!(EXECUTIONS_CREATED, "kind" => kind).increment(1);
}

pub(crate) fn callback_answered(outcome: &'static str, refused: Option<&'static str>) {
    counter!(CALLBACK_ANSWERS, "outcome" => outcome, "result" => refused.unwrap_or("accepted")).increment(1);
}

pub(crate) fn callback_token_refused(reason: &'static str) {
    counter!(CALLBACK_TOKENS_REFUSED, "reason" => reason).increment(1);
}

pub(crate) fn object_collected(cause: &'static str) {
    counter!(OBJECTS_COLLECTED, "cause" => cause).increment(1);
}

pub(crate) fn reconciler_found(finding: &'static str, count: usize) {
    if count > 0 {
        counter!(RECONCILER_FINDINGS, "finding" => finding).increment(count as u64);
    }
}

pub(crate) fn events_published(accepted: usize, duplicates: usize) {
    for (result, count) in [("accepted", accepted), ("duplicate", duplicates)] {
        if count > 0 {
            counter!(EVENTS_PUBLISHED, "result" => result).increment(count as u64);
        }
    }
}

pub(crate) fn events_told(result: &'static str) {
    counter!(EVENTS_TOLD, "result" => result).increment(1);
}

pub(crate) fn events_kept(events: usize, subscriptions: usize) {
    gauge!(EVENTS_KEPT).set(u32::try_from(events).unwrap_or(u32::MAX));
    gauge!(EVENT_SUBSCRIPTIONS).set(u32::try_from(subscriptions).unwrap_or(u32::MAX));
}

pub(crate) fn push_sent(result: &'static str) {
    counter!(A2A_PUSHES, "result" => result).increment(1);
}

pub(crate) fn event_sent(what: &'static str, result: &'static str) {
    counter!(EVENTS_SENT, "what" => what, "result" => result).increment(1);
}

pub(crate) fn events_lag(what: &'static str, seconds: f64) {
    gauge!(EVENTS_LAG, "what" => what).set(seconds);
}

pub(crate) fn schedules(count: usize) {
    gauge!(SCHEDULES).set(u32::try_from(count).unwrap_or(u32::MAX));
}

pub(crate) fn schedule_started(result: &'static str, count: usize) {
    if count > 0 {
        counter!(SCHEDULE_STARTS, "result" => result).increment(count as u64);
    }
}

pub(crate) fn resident(count: usize) {
    gauge!(EXECUTIONS_RESIDENT).set(u32::try_from(count).unwrap_or(u32::MAX));
}

pub(crate) fn leading(leads: bool) {
    gauge!(LEADING).set(i32::from(leads));
}

/// One request, answered. `code` is the HTTP status or the number of the gRPC code.
pub(crate) fn request(protocol: &'static str, code: u16, seconds: f64) {
    counter!(REQUESTS, "protocol" => protocol, "code" => code.to_string()).increment(1);
    histogram!(REQUEST_SECONDS, "protocol" => protocol).record(seconds);
}
