//! `wait`: nothing, for some time.

use baton_execution::{Fault, WaitReason};
use baton_types::format_duration;

use crate::{
    document::{Builder, Fields},
    interpreter::{FrameId, Opening, Run},
    task::{Delay, Event, Kind, Place, Purpose, Step},
};

#[derive(Debug)]
struct Wait {
    delay: Delay,
}

pub(crate) fn read(builder: &mut Builder, fields: &mut Fields<'_>, _place: &Place) -> Option<Box<dyn Kind>> {
    fields.need("wait", builder);
    let delay = fields.duration("wait", builder)?;
    Some(Box::new(Wait { delay }))
}

impl Kind for Wait {
    fn label(&self) -> &'static str {
        "wait"
    }

    fn start(&self, run: &mut Run, frame: FrameId) -> Result<Step, Fault> {
        let input = run.input(frame);
        let millis = run.delay(frame, &self.delay, &input)?;
        let due = run.after(millis);
        run.start_timer(frame, Purpose::Own, due);
        let on = format_duration(std::time::Duration::from_millis(millis));
        run.open(frame, Opening { reason: WaitReason::Timer, on, until_ms: Some(due), activity: false, wait: false });
        Ok(Step::Wait)
    }

    fn resume(&self, run: &mut Run, frame: FrameId, event: Event) -> Result<Step, Fault> {
        match event {
            Event::TimerFired(Purpose::Own) => Ok(Step::Done(run.input(frame))),
            other => other.into_fault(),
        }
    }
}
