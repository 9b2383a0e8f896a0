//! `call: a2a`: one request to an agent that speaks the Agent2Agent protocol, by the activity `a2a`.
//!
//! The activity's input is `{"method", "parameters"}` and one of `"agentCard"` and `"server"`, each `{"endpoint",
//! "authentication"}`, everything evaluated; what it returns is the task's raw output.
//!
//! Every method may be repeated after a crash: a message keeps its id, by which agents know it, and the other methods
//! read, or do again what is done.

use baton_execution::{Effect, Fault};
use serde_json::{Value, json};

use crate::{
    document::{Builder, Fields, shown},
    interpreter::{Call, FrameId, Run},
    task::{Event, Kind, Place, Step, call_mcp::read_parameters, endpoint::Endpoint, values::object},
    template::Template,
};

const METHODS: [&str; 11] = [
    "message/send",
    "message/stream",
    "tasks/get",
    "tasks/list",
    "tasks/cancel",
    "tasks/resubscribe",
    "tasks/pushNotificationConfig/set",
    "tasks/pushNotificationConfig/get",
    "tasks/pushNotificationConfig/list",
    "tasks/pushNotificationConfig/delete",
    "agent/getAuthenticatedExtendedCard",
];

#[derive(Debug)]
struct CallA2a {
    method: &'static str,
    parameters: Option<Template>,
    /// `agentCard` or `server`.
    via: &'static str,
    endpoint: Endpoint,
}

pub(crate) fn read(builder: &mut Builder, fields: &mut Fields<'_>, _place: &Place) -> Option<Box<dyn Kind>> {
    let mut with = fields.need_object("with", builder)?;
    with.need("method", builder);
    let method = with.word("method", &METHODS, builder);
    let parameters = read_parameters(builder, &mut with);
    if !with.has("parameters") && matches!(method, Some("message/send" | "message/stream")) {
        builder.violate(&with.at("parameters"), "is required by the method: it holds the 'message'");
    }
    let server = with.get("server").and_then(|value| Endpoint::read(builder, value, &with.at("server")));
    let (via, endpoint) = match (with.has("agentCard"), with.has("server")) {
        // As the specification has it, `server` says nothing where there is a card.
        (true, _) => ("agentCard", Endpoint::read_resource(builder, &mut with, "agentCard")),
        (false, true) => ("server", server),
        (false, false) => {
            with.get("agentCard");
            builder.violate(&with.path, "must have one of 'agentCard' and 'server'");
            ("server", None)
        }
    };
    with.close(builder);
    Some(Box::new(CallA2a { method: method?, parameters, via, endpoint: endpoint? }))
}

impl CallA2a {
    fn call(&self, run: &Run, frame: FrameId) -> Result<Call, Fault> {
        let dot = run.input(frame);
        let parameters = match &self.parameters {
            Some(parameters) => object("'parameters'", run.fill(frame, parameters, &dot)?)?,
            None => Value::Null,
        };
        let uri = self.endpoint.uri(run, frame, &dot)?;
        let on = format!("{} {}", self.method, shown(uri.split('?').next().unwrap_or_default()));
        let place = json!({"endpoint": uri, "authentication": self.endpoint.authentication(run, frame, &dot)?});
        let input = json!({"method": self.method, "parameters": parameters, self.via: place});
        Ok(Call { activity: "a2a", input, on, effect: Effect::Repeatable, timeout_ms: None })
    }
}

impl Kind for CallA2a {
    fn label(&self) -> &'static str {
        "call a2a"
    }

    fn keeps_time(&self) -> bool {
        true
    }

    fn start(&self, run: &mut Run, frame: FrameId) -> Result<Step, Fault> {
        let call = self.call(run, frame)?;
        run.call(frame, call)
    }

    fn resume(&self, run: &mut Run, frame: FrameId, event: Event) -> Result<Step, Fault> {
        run.activity_event(frame, event)
    }
}
