//! `foreach` of a task that consumes events or messages: what to do with each of them.

use baton_execution::Fault;

use crate::{
    data::Data,
    document::{Builder, Fields},
    interpreter::{FrameId, Run},
    task::{BlockId, DataFlow, for_each},
};

#[derive(Debug)]
pub(crate) struct Each {
    item: String,
    at: String,
    block: Option<BlockId>,
    output: DataFlow,
    export: DataFlow,
}

impl Each {
    /// Reads `foreach`, if it is there; `pointer` leads to the object that has it.
    pub(crate) fn read(builder: &mut Builder, parent: &mut Fields<'_>, pointer: &str) -> Option<Self> {
        let mut fields = parent.object("foreach", builder)?;
        let item = for_each::variable(builder, &mut fields, "item", "item");
        let at = for_each::variable(builder, &mut fields, "at", "index");
        if item == at {
            builder.violate(&fields.at("at"), format!("'item' and 'at' are both '{at}'; they must differ"));
        }
        builder.scope.extend([item.clone(), at.clone()]);
        let block = fields
            .get("do")
            .map(|tasks| builder.block(tasks, &fields.at("do"), &format!("{pointer}/foreach/do"), false));
        let output = builder.data_flow(&mut fields, "output", "as");
        let export = builder.data_flow(&mut fields, "export", "as");
        builder.scope.truncate(builder.scope.len() - 2);
        fields.close(builder);
        Some(Self { item, at, block, output, export })
    }

    /// Begins to work on the `index`-th item. Without tasks there is nothing to wait for: then it says `false`.
    pub(crate) fn begin(&self, run: &mut Run, frame: FrameId, index: u32, item: &Data) -> bool {
        run.set_variable(frame, &self.item, item.clone());
        run.set_variable(frame, &self.at, Data::new(index.into()));
        let Some(block) = self.block else { return false };
        let input = run.input(frame);
        run.start_block(frame, block, index, &format!("/foreach/{index}/do"), input);
        true
    }

    /// What an item puts out: of its tasks, or without tasks the item itself.
    pub(crate) fn end(&self, run: &mut Run, frame: FrameId, raw: Data) -> Result<Data, Fault> {
        run.put_out(frame, raw, &self.output, &self.export)
    }
}
