//! `call` of a function: a task that is defined in `use.functions`, at a URL or in a catalog.
//!
//! The arguments become the input of the function's task, which runs below the call.

use baton_execution::Fault;

use crate::{
    data::{Data, kind_of},
    document::{Builder, Fields},
    interpreter::{FrameId, Run},
    task::{BlockId, Kind, Place, Step},
    template::Template,
};

#[derive(Debug)]
struct CallFunction {
    block: BlockId,
    with: Option<Template>,
}

pub(crate) fn read(builder: &mut Builder, fields: &mut Fields<'_>, _place: &Place) -> Option<Box<dyn Kind>> {
    let name = fields.need_text("call", builder)?;
    let block = builder.function(name, &fields.at("call"));
    if let Some(with) = fields.get("with").filter(|with| !with.is_object()) {
        builder.violate(&fields.at("with"), format!("must be an object, found {}", kind_of(with)));
    }
    let with = fields.template("with", builder);
    Some(Box::new(CallFunction { block: block?, with }))
}

impl Kind for CallFunction {
    fn label(&self) -> &'static str {
        "call function"
    }

    fn start(&self, run: &mut Run, frame: FrameId) -> Result<Step, Fault> {
        let input = run.input(frame);
        let arguments = match &self.with {
            Some(with) => Data::measured(run.fill(frame, with, &input)?)?,
            None => input,
        };
        run.start_block(frame, self.block, 0, "/call", arguments);
        Ok(Step::Wait)
    }
}
