//! `for`: a block once for every item of an array, each iteration going on with the output of the one before.

use baton_execution::{Fault, fault_type};
use serde_json::Value;

use crate::{
    data::{Data, kind_of},
    document::{Builder, Fields, VARIABLES, shown},
    expression::Expression,
    interpreter::{FrameId, Run, State},
    task::{BlockId, Event, Kind, Place, Step},
    template::Template,
};

#[derive(Debug)]
struct ForEach {
    items: Template,
    each: String,
    at: String,
    condition: Option<Expression>,
    block: BlockId,
}

pub(crate) fn read(builder: &mut Builder, fields: &mut Fields<'_>, place: &Place) -> Option<Box<dyn Kind>> {
    let mut head = fields.need_object("for", builder)?;
    let each = variable(builder, &mut head, "each", "item");
    let at = variable(builder, &mut head, "at", "index");
    if each == at {
        builder.violate(&head.at("at"), format!("'each' and 'at' are both '{}'; they must differ", shown(&at)));
    }
    let items = head.need("in", builder);
    let items = items.and_then(|value| match value {
        Value::String(text) => builder.expression(text, &head.at("in")).map(Template::Expression),
        Value::Array(_) => Some(builder.template(value, &head.at("in"))),
        other => {
            builder.violate(&head.at("in"), format!("must be an expression or an array, found {}", kind_of(other)));
            None
        }
    });
    head.close(builder);
    builder.scope.extend([each.clone(), at.clone()]);
    let condition = fields.expression("while", builder);
    let block = fields
        .need("do", builder)
        .map(|tasks| builder.block(tasks, &fields.at("do"), &format!("{}/do", place.pointer), false));
    builder.scope.truncate(builder.scope.len() - 2);
    Some(Box::new(ForEach { items: items?, each, at, condition, block: block? }))
}

/// Reads the name of a variable that a task gives to the tasks in it.
pub(crate) fn variable(builder: &mut Builder, fields: &mut Fields<'_>, field: &'static str, default: &str) -> String {
    let Some(name) = fields.text(field, builder) else { return default.to_owned() };
    let plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !plain {
        builder.violate(
            &fields.at(field),
            format!(
                "'{}' is not a name of a variable; allowed are letters, digits and '_', not beginning with a digit",
                shown(name)
            ),
        );
        return default.to_owned();
    }
    if VARIABLES.contains(&name) {
        builder.violate(&fields.at(field), format!("'{name}' is a variable of the language; choose another name"));
        return default.to_owned();
    }
    name.to_owned()
}

impl ForEach {
    /// Begins the next iteration, if there is one; `data` is what it goes on with.
    fn next(&self, run: &mut Run, frame: FrameId, index: u32, data: Data) -> Result<Step, Fault> {
        let State::For { items } = run.state(frame) else { return Ok(Step::Done(data)) };
        let item = items.as_array().and_then(|items| items.get(index as usize)).cloned();
        let Some(item) = item else { return Ok(Step::Done(data)) };
        run.set_variable(frame, &self.each, Data::new(item));
        run.set_variable(frame, &self.at, Data::new(index.into()));
        if let Some(condition) = &self.condition
            && !run.test(frame, condition, &data)?
        {
            return Ok(Step::Done(data));
        }
        run.start_block(frame, self.block, index, &format!("/for/{index}/do"), data);
        Ok(Step::Wait)
    }
}

impl Kind for ForEach {
    fn label(&self) -> &'static str {
        "for"
    }

    fn start(&self, run: &mut Run, frame: FrameId) -> Result<Step, Fault> {
        let input = run.input(frame);
        let items = run.fill(frame, &self.items, &input)?;
        if !items.is_array() {
            return Err(Fault::new(
                fault_type::EXPRESSION,
                400,
                format!("'for.in' must give an array, found {}", kind_of(&items)),
            ));
        }
        run.set_state(frame, State::For { items: Data::new(items) });
        self.next(run, frame, 0, input)
    }

    fn resume(&self, run: &mut Run, frame: FrameId, event: Event) -> Result<Step, Fault> {
        match event {
            Event::BlockEnded { branch, output } => self.next(run, frame, branch + 1, output),
            other => other.into_fault(),
        }
    }
}
