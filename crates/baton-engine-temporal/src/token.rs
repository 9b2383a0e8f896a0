//! A Temporal task token, as far as we must understand it.
//!
//! To its holder a token is opaque, and it goes back to Temporal byte for byte. We read it for three things: to tell it from
//! garbage when it is handed to us, to know the namespace that may or may not be answered, and to ask what has become of the
//! caller. Source: `temporal.server.api.token.v1.Task` of the server (MIT); the field numbers are the contract. Later servers
//! add fields, so unknown ones are passed over.
//!
//! # Deliberately absent
//! No `Debug`: whoever knows the fields can make the token, which is not signed.

use prost::Message;

use crate::host::is_execution;

/// Longest token that is looked at. One is about 110 bytes; ids of workflows and activities may have 1,000 each.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// What Baton's own tokens begin with.
const BATON_PREFIX: &[u8] = b"baton1.";

/// `temporal.server.api.token.v1.Task`.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
struct Wire {
    #[prost(string, tag = "1")]
    namespace_id: String,
    #[prost(string, tag = "2")]
    workflow_id: String,
    #[prost(string, tag = "3")]
    run_id: String,
    #[prost(int64, tag = "4")]
    scheduled_event_id: i64,
    #[prost(int32, tag = "5")]
    attempt: i32,
    #[prost(string, tag = "6")]
    activity_id: String,
    #[prost(string, tag = "7")]
    workflow_type: String,
    #[prost(string, tag = "8")]
    activity_type: String,
    #[prost(bytes = "vec", tag = "14")]
    component: Vec<u8>,
}

/// What `component` holds: the activity that runs without a workflow.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
struct WireComponent {
    #[prost(string, tag = "2")]
    business_id: String,
    #[prost(string, tag = "3")]
    run_id: String,
}

/// A token that has the shape of Temporal's.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Task {
    /// Identity of the namespace.
    pub(crate) namespace_id: String,
    /// Which activity.
    pub(crate) activity: Activity,
    /// Which attempt of it, from 1.
    pub(crate) attempt: i32,
}

/// Where an activity runs.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) enum Activity {
    /// In a workflow.
    OfWorkflow {
        /// The workflow.
        workflow_id: String,
        /// Its run; may be empty, for the present one.
        run_id: String,
        /// The activity; may be empty with very old servers.
        activity_id: String,
        /// Number of the event that scheduled it; 0 if the token was made from ids.
        scheduled_event_id: i64,
    },
    /// By itself.
    Alone {
        /// The activity.
        activity_id: String,
        /// Its run; may be empty, for the present one.
        run_id: String,
    },
}

impl Task {
    /// Whether it is of an activity of Baton's own, of any Baton. Those tokens are never handed out: one is made by hand, to
    /// give an execution a result.
    pub(crate) fn is_of_execution(&self) -> bool {
        match &self.activity {
            Activity::OfWorkflow { workflow_id: id, .. } | Activity::Alone { activity_id: id, .. } => is_execution(id),
        }
    }

    /// Reads a token; `None` if it cannot be one of Temporal's.
    pub(crate) fn parse(token: &[u8]) -> Option<Self> {
        if token.is_empty() || token.len() > TOKEN_BYTES_MAX || token.starts_with(BATON_PREFIX) {
            return None;
        }
        let wire = Wire::decode(token).ok()?;
        let sound = is_uuid(&wire.namespace_id)
            && (wire.run_id.is_empty() || is_uuid(&wire.run_id))
            && wire.attempt >= 0
            && wire.scheduled_event_id >= 0;
        if !sound {
            return None;
        }
        let activity = if wire.workflow_id.is_empty() {
            let component = WireComponent::decode(wire.component.as_slice()).ok()?;
            if wire.activity_id.is_empty() || component.business_id != wire.activity_id {
                return None;
            }
            Activity::Alone { activity_id: wire.activity_id, run_id: component.run_id }
        } else {
            if wire.activity_id.is_empty() && wire.scheduled_event_id == 0 {
                return None;
            }
            Activity::OfWorkflow {
                workflow_id: wire.workflow_id,
                run_id: wire.run_id,
                activity_id: wire.activity_id,
                scheduled_event_id: wire.scheduled_event_id,
            }
        };
        Some(Self { namespace_id: wire.namespace_id, activity, attempt: wire.attempt })
    }
}

/// Whether a text is a UUID as Temporal writes it: `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` in hexadecimal digits.
fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAMESPACE: &str = "01a20771-b46a-7e67-aa2f-e205e4134732";
    const RUN: &str = "01a20771-b59d-75a8-8e4f-36e57155468f";

    fn wire() -> Wire {
        Wire {
            namespace_id: NAMESPACE.to_owned(),
            workflow_id: "w1".to_owned(),
            run_id: RUN.to_owned(),
            scheduled_event_id: 5,
            attempt: 1,
            activity_id: "1".to_owned(),
            activity_type: "park".to_owned(),
            ..Wire::default()
        }
    }

    fn parsed(change: impl FnOnce(&mut Wire)) -> Option<Task> {
        let mut wire = wire();
        change(&mut wire);
        Task::parse(&wire.encode_to_vec())
    }

    #[test]
    fn a_token_of_an_activity_in_a_workflow_is_read() {
        // Recorded from a server of release 1.32, with the fields that we do not know (9, the server's clock).
        let recorded = [
            b"\x0a\x2401a20771-b46a-7e67-aa2f-e205e4134732\x12\x02w1".as_slice(),
            b"\x1a\x2401a20771-b59d-75a8-8e4f-36e57155468f\x20\x05\x28\x01\x32\x011\x42\x04park",
            b"\x4a\x08\x08\x01\x10\x95\x80\x40\x18\x01",
        ]
        .concat();
        let task = Task::parse(&recorded).unwrap();
        assert_eq!((task.namespace_id.as_str(), task.attempt), (NAMESPACE, 1));
        let Activity::OfWorkflow { workflow_id, run_id, activity_id, scheduled_event_id } = task.activity else {
            panic!("it is of a workflow");
        };
        assert_eq!((workflow_id.as_str(), run_id.as_str()), ("w1", RUN));
        assert_eq!((activity_id.as_str(), scheduled_event_id), ("1", 5));
    }

    #[test]
    fn a_token_of_an_activity_without_a_workflow_is_read() {
        let component = WireComponent { business_id: "solo".to_owned(), run_id: RUN.to_owned() };
        let task = parsed(|wire| {
            wire.workflow_id.clear();
            wire.run_id.clear();
            wire.activity_id = "solo".to_owned();
            wire.component = component.encode_to_vec();
        })
        .unwrap();
        let Activity::Alone { activity_id, run_id } = task.activity else { panic!("it is of no workflow") };
        assert_eq!((activity_id.as_str(), run_id.as_str()), ("solo", RUN));
    }

    #[test]
    fn what_lacks_a_part_that_every_token_has_is_none() {
        assert!(parsed(|_| ()).is_some());
        assert!(parsed(|wire| wire.run_id.clear()).is_some(), "tokens made from ids have no run");
        let broken: [fn(&mut Wire); 8] = [
            |wire| wire.namespace_id.clear(),
            |wire| wire.namespace_id = "default".to_owned(),
            |wire| wire.namespace_id.replace_range(8..9, "x"),
            |wire| wire.workflow_id.clear(),
            |wire| wire.run_id = "latest".to_owned(),
            |wire| wire.attempt = -1,
            |wire| wire.scheduled_event_id = -5,
            |wire| (wire.activity_id, wire.scheduled_event_id) = (String::new(), 0),
        ];
        for change in broken {
            assert!(parsed(change).is_none());
        }
    }

    #[test]
    fn a_token_of_an_execution_is_known_as_such() {
        let of = |id: &str| parsed(|wire| wire.workflow_id = id.to_owned()).unwrap().is_of_execution();
        assert!(of(&format!("baton/default/triage-1/{RUN}")));
        for other in ["w1", "baton/orders", "baton/default/triage-1/7", &format!("orders/{RUN}")] {
            assert!(!of(other), "{other}");
        }
    }

    #[test]
    fn baton_tokens_text_and_what_is_too_long_are_none() {
        for token in [b"".as_slice(), b"baton1.AAAA", b"a token", b"{\"workflow\": \"w1\"}"] {
            assert!(Task::parse(token).is_none());
        }
        assert!(parsed(|wire| wire.workflow_type = "x".repeat(TOKEN_BYTES_MAX)).is_none());
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Task::parse(&bytes);
        }

        #[test]
        fn a_changed_token_is_none_or_another_token(at in 0_usize..100, bit in 0_u8..8) {
            let whole = wire().encode_to_vec();
            let mut token = whole.clone();
            let at = at % token.len();
            token[at] ^= 1 << bit;
            if let Some(task) = Task::parse(&token) {
                prop_assert!(is_uuid(&task.namespace_id));
            }
        }
    }
}
