//! `switch`: the first case whose condition holds says where the flow goes on.

use baton_execution::Fault;
use serde_json::Value;

use crate::{
    data::kind_of,
    document::{Builder, Fields, shown},
    expression::Expression,
    interpreter::{FrameId, Run},
    task::{Kind, Place, Step, Then},
};

#[derive(Debug)]
struct Switch {
    cases: Vec<(Option<Expression>, Then)>,
}

pub(crate) fn read(builder: &mut Builder, fields: &mut Fields<'_>, place: &Place) -> Option<Box<dyn Kind>> {
    let value = fields.need("switch", builder)?;
    let path = fields.at("switch");
    let Value::Array(items) = value else {
        builder.violate(&path, format!("must be a list of cases, found {}", kind_of(value)));
        return None;
    };
    if items.is_empty() {
        builder.violate(&path, "must have at least one case");
    }
    let mut cases = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let Some((name, case)) = builder.single(item, &path, "case") else { continue };
        let Some(mut case) = Fields::open(case, format!("{path}.{}", shown(name)), builder) else { continue };
        let when = case.expression("when", builder);
        if when.is_none() && !case.has("when") && index + 1 < items.len() {
            builder.violate(&case.path, "has no 'when', so that the cases after it are never reached; put it last");
        }
        let then = case.need_text("then", builder).map(|text| place.then(builder, text, &case.at("then")));
        case.close(builder);
        cases.push((when, then.unwrap_or(Then::Continue)));
    }
    Some(Box::new(Switch { cases }))
}

impl Kind for Switch {
    fn label(&self) -> &'static str {
        "switch"
    }

    fn goes_on(&self) -> bool {
        self.cases.iter().all(|(when, _)| when.is_some())
    }

    fn start(&self, run: &mut Run, frame: FrameId) -> Result<Step, Fault> {
        let input = run.input(frame);
        for (when, then) in &self.cases {
            let holds = match when {
                Some(when) => run.test(frame, when, &input)?,
                None => true,
            };
            if holds {
                return Ok(Step::DoneThen(input, *then));
            }
        }
        Ok(Step::Done(input))
    }
}
