//! What passes between the host, the workflow and its activities: JSON that a person can read in Temporal's UI.
//!
//! All of it is in Temporal's histories, which later builds replay: a field may be added with a default, none may change.

use baton_engine::{HostedRun, HostedStart, Report, Reported};
use baton_execution::{OperationId, ProgramKind};
use baton_proto::history_v1;
use baton_types::{Digest, Uid};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use temporalio_common::{data_converters::RawValue, protos::temporal::api::common::v1::Payload};

/// Temporal's type of every workflow that runs a Program.
pub(crate) const WORKFLOW_TYPE: &str = "baton.execution";
/// The signal that carries inputs: a list of history events.
pub(crate) const INPUT_SIGNAL: &str = "input";
/// The update that carries what `spec.suspend` says.
pub(crate) const SUSPEND_UPDATE: &str = "suspend";
/// The local activity that reports a step.
pub(crate) const REPORT_ACTIVITY: &str = "baton.report";
/// Type of the failure of an activity that was not begun and may be started again.
pub(crate) const NOT_BEGUN: &str = "baton.notBegun";

/// What a workflow is started with, and started with again when it continues as new.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WorkflowInput {
    pub(crate) uid: Uid,
    pub(crate) kind: ProgramKind,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// The content that it is pinned to.
    #[serde(with = "digest_text")]
    pub(crate) digest: Digest,
    /// Its first input.
    pub(crate) started: history_v1::HistoryEvent,
    /// Whether it is to be suspended.
    pub(crate) suspended: bool,
    /// The generation in which that was said.
    #[serde(default)]
    pub(crate) generation: i64,
    /// Whether the namespace has the search attributes.
    #[serde(default)]
    pub(crate) search_attributes: bool,
    /// The installation that it is of; none in histories of versions that knew of one only.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) installation: String,
    /// Activities that the run before would have had in flight at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) in_flight_max: Option<u32>,
    /// The state to go on from; none for the first run.
    #[serde(default, with = "digest_text::optional", skip_serializing_if = "Option::is_none")]
    pub(crate) state: Option<Digest>,
}

impl WorkflowInput {
    pub(crate) fn new(start: &HostedStart, search_attributes: bool) -> Self {
        Self {
            uid: start.uid,
            kind: start.kind,
            namespace: start.namespace.clone(),
            name: start.name.clone(),
            digest: start.digest,
            started: start.started.clone(),
            suspended: start.suspended,
            generation: 0,
            search_attributes,
            installation: start.installation.clone(),
            in_flight_max: None,
            state: None,
        }
    }
}

/// What `spec.suspend` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Suspend {
    pub(crate) suspended: bool,
    pub(crate) generation: i64,
}

/// An activity's input: which one it is. What it runs with comes from the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ActivityArgs {
    pub(crate) execution: Uid,
    pub(crate) position: String,
    pub(crate) attempt: u32,
    /// The installation that it is of.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) installation: String,
    /// Bytes of its result from which on that goes by reference; the usual ones if none are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) inline_bytes_max: Option<u32>,
}

impl ActivityArgs {
    pub(crate) fn id(&self) -> OperationId {
        OperationId::new(self.position.clone(), self.attempt)
    }
}

/// A report as the input of its local activity, which Temporal does not record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReportArgs {
    pub(crate) uid: Uid,
    pub(crate) workflow_id: String,
    pub(crate) run_id: String,
    pub(crate) events: Vec<history_v1::HistoryEvent>,
    /// Long data is JSON text.
    pub(crate) contents: Vec<(String, String)>,
    pub(crate) want_state: bool,
}

impl ReportArgs {
    /// The report, or what is wrong with it.
    pub(crate) fn into_report(self) -> Result<Report, String> {
        let contents = self.contents.into_iter().map(|(digest, text)| Ok((digest.parse()?, Bytes::from(text))));
        Ok(Report {
            uid: self.uid,
            run: HostedRun { workflow_id: self.workflow_id, run_id: self.run_id },
            events: self.events,
            contents: contents.collect::<Result<_, String>>()?,
            want_state: self.want_state,
        })
    }
}

/// The result of a local activity that reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReportResult {
    pub(crate) answer: ReportAnswer,
    /// Events from which on the workflow's run is ended and goes on in a new one: the worker's option, recorded here so that
    /// a replay by a worker with another one goes the same way.
    pub(crate) continue_as_new_events: u32,
    /// Bytes of results and signals from which on it is; none in histories of versions that did not count them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) continue_as_new_bytes: Option<u64>,
    /// Activities that may be in flight at once; none in histories of versions that had no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) in_flight_max: Option<u32>,
}

/// What became of a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "is")]
pub(crate) enum ReportAnswer {
    Taken {
        #[serde(default, with = "digest_text::optional", skip_serializing_if = "Option::is_none")]
        state: Option<Digest>,
    },
    Diverged {
        #[serde(with = "digest_text")]
        state: Digest,
    },
    Closed,
}

impl From<Reported> for ReportAnswer {
    fn from(reported: Reported) -> Self {
        match reported {
            Reported::Taken { state } => Self::Taken { state },
            Reported::Diverged { state } => Self::Diverged { state },
            Reported::Closed => Self::Closed,
        }
    }
}

/// The JSON in the first payload; nothing at all, or Temporal's own nothing, is `null`.
pub(crate) fn read<T: serde::de::DeserializeOwned>(payloads: &[Payload]) -> Result<T, serde_json::Error> {
    let data = payloads.first().map(|payload| payload.data.as_slice()).filter(|data| !data.is_empty());
    serde_json::from_slice(data.unwrap_or(b"null"))
}

/// How much of a history payloads take, about.
pub(crate) fn bytes_of(payloads: &[Payload]) -> u64 {
    payloads.iter().map(|payload| payload.data.len() as u64).sum()
}

/// A value as a payload of plain JSON.
pub(crate) fn payload(value: &impl Serialize) -> Payload {
    let data = serde_json::to_vec(value).expect("these types have text for keys and no failing parts");
    Payload { metadata: [("encoding".to_owned(), b"json/plain".to_vec())].into(), data, ..Payload::default() }
}

/// A value as the raw input of an activity.
pub(crate) fn raw(value: &impl Serialize) -> RawValue {
    RawValue::new(vec![payload(value)])
}

mod digest_text {
    use baton_types::Digest;
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(digest: &Digest, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(digest)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }

    pub(super) mod optional {
        use baton_types::Digest;
        use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

        #[expect(clippy::ref_option, reason = "serde's signature")]
        pub(in super::super) fn serialize<S: Serializer>(
            digest: &Option<Digest>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            match digest {
                Some(digest) => serializer.collect_str(digest),
                None => serializer.serialize_none(),
            }
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Digest>, D::Error> {
            let text = Option::<String>::deserialize(deserializer)?;
            text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
        }
    }
}
