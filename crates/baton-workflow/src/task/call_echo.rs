//! `call: baton.dev/echo`: an activity that returns what it is given, for tests and measurements.

use baton_execution::Fault;
use serde_json::Value;

use crate::{
    document::{Builder, Fields},
    interpreter::{FrameId, Run},
    task::{Event, Kind, Place, Step},
    template::Template,
};

#[derive(Debug)]
struct CallEcho {
    with: Template,
}

#[expect(clippy::unnecessary_wraps, reason = "the signature is that of every kind")]
pub(crate) fn read(builder: &mut Builder, fields: &mut Fields<'_>, _place: &Place) -> Option<Box<dyn Kind>> {
    let with = fields.template("with", builder).unwrap_or(Template::Literal(Value::Null));
    Some(Box::new(CallEcho { with }))
}

impl Kind for CallEcho {
    fn label(&self) -> &'static str {
        "call baton.dev/echo"
    }

    fn keeps_time(&self) -> bool {
        true
    }

    fn start(&self, run: &mut Run, frame: FrameId) -> Result<Step, Fault> {
        let dot = run.input(frame);
        let input = run.fill(frame, &self.with, &dot)?;
        run.schedule(frame, "echo", input, "echo".to_owned())
    }

    fn resume(&self, run: &mut Run, frame: FrameId, event: Event) -> Result<Step, Fault> {
        run.activity_event(frame, event)
    }
}
