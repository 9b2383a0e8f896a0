//! `do`: tasks one after the other.

use baton_execution::Fault;

use crate::{
    document::{Builder, Fields},
    interpreter::{FrameId, Run},
    task::{BlockId, Kind, Place, Step},
};

#[derive(Debug)]
struct DoBlock {
    block: BlockId,
}

pub(crate) fn read(builder: &mut Builder, fields: &mut Fields<'_>, place: &Place) -> Option<Box<dyn Kind>> {
    let tasks = fields.need("do", builder)?;
    let block = builder.block(tasks, &fields.at("do"), &format!("{}/do", place.pointer), false);
    Some(Box::new(DoBlock { block }))
}

impl Kind for DoBlock {
    fn label(&self) -> &'static str {
        "do"
    }

    fn start(&self, run: &mut Run, frame: FrameId) -> Result<Step, Fault> {
        let input = run.input(frame);
        run.start_block(frame, self.block, 0, "/do", input);
        Ok(Step::Wait)
    }
}
