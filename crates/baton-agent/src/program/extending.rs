//! Soft marks: a person is asked to add to a limit before it is reached, or the run says that it is near.
//!
//! The question stands at `/limits/extend`, and its attempts are counted: one at a time, asked before a call of the model,
//! which is not begun until there is an answer. It is about the execution's own limits. What was granted from above
//! cannot be added to from below.

use baton_execution::{
    Allowance, Amounts, Choice, Command, Decision, OperationId, Outcome, Question, QuestionKind, arguments_digest,
    decimal_of_micros, fault_type, micros_of_decimal,
};
use serde_json::{Map, Value, json};

use super::{
    AgentProgram, Step,
    state::{Extending, Stage},
};
use crate::{
    fields::{kind_of, shown},
    limits::{LIMIT_MAX, OnSoftMark, SOFT_MARK_WHOLE, not_money},
    policy::{APPROVAL_TIMEOUT_MS_DEFAULT, OnExpiry},
};

/// A limit that is used up to its soft mark.
struct Mark {
    name: &'static str,
    limit: u64,
    used: u64,
    /// What has to be added at least, so that the mark is no longer passed.
    missing: u64,
}

impl Mark {
    fn said(&self) -> String {
        format!("{} of {} {}", figure(self.name, self.used), figure(self.name, self.limit), self.name)
    }
}

/// An amount of a limit as people write it.
fn figure(name: &str, amount: u64) -> String {
    if name == "cost" { decimal_of_micros(amount) } else { amount.to_string() }
}

fn each(limits: Allowance, used: Amounts) -> [(&'static str, Option<u64>, u64); 5] {
    [
        ("modelCalls", limits.model_calls, used.model_calls),
        ("toolCalls", limits.tool_calls, used.tool_calls),
        ("tokens", limits.tokens, used.tokens),
        ("cost", limits.cost_micros, used.cost_micros),
        ("children", limits.children, used.children),
    ]
}

impl AgentProgram {
    /// Its own limits whose soft mark is passed, were so much added to them.
    fn marks(&self, added: Amounts) -> Vec<Mark> {
        let Some(parts) = self.state.limits.tree.soft_mark else { return Vec::new() };
        let account = &self.state.account;
        let used = account.used(self.own_usage()).amounts();
        let (parts, whole) = (u128::from(parts), u128::from(SOFT_MARK_WHOLE));
        each(account.own_limits().more(added), used)
            .into_iter()
            .filter_map(|(name, limit, used)| {
                let limit = limit?;
                // used >= parts/whole * limit
                let is_passed = u128::from(used) * whole >= parts * u128::from(limit);
                let enough = u64::try_from(u128::from(used) * whole / parts + 1).unwrap_or(u64::MAX);
                is_passed.then_some(Mark { name, limit, used, missing: enough.saturating_sub(limit) })
            })
            .collect()
    }

    /// Passed soft marks, for people.
    pub(super) fn marks_said(&self) -> Vec<String> {
        self.marks(Amounts::default()).iter().map(Mark::said).collect()
    }

    /// Whether a person is to be asked before the next call of the model.
    pub(super) fn is_to_extend(&self) -> bool {
        let above = self.state.account.left_above(self.own_usage());
        let is_out = [above.model_calls, above.tokens, above.cost_micros].contains(&Some(0));
        self.state.limits.tree.on_soft_mark != Some(OnSoftMark::Note)
            && !is_out
            && !self.marks(Amounts::default()).is_empty()
    }

    /// Asks a person to add to the limits whose soft mark is passed: as much again as there was, if that is enough.
    pub(super) fn ask_to_extend(&mut self, step: &mut Step) {
        let marks = self.marks(Amounts::default());
        let mut extend = Map::new();
        for mark in &marks {
            let proposed = mark.limit.max(mark.missing);
            let amount = match mark.name {
                "cost" => Value::from(decimal_of_micros(proposed)),
                _ => Value::from(proposed.min(u64::from(LIMIT_MAX))),
            };
            extend.insert(mark.name.to_owned(), amount);
        }
        let said: Vec<String> = marks.iter().map(Mark::said).collect();
        let on = format!("the run has used {}", said.join(", "));
        let timeout_ms =
            self.definition.policy().map_or(APPROVAL_TIMEOUT_MS_DEFAULT, |policy| policy.approval_timeout_ms);
        self.state.extensions_asked = self.state.extensions_asked.saturating_add(1);
        let (id, until_ms) = (OperationId::new("/limits/extend", self.state.extensions_asked), step.after(timeout_ms));
        let arguments = json!({ "extend": extend });
        step.push(Command::Ask(Question {
            id: id.clone(),
            kind: QuestionKind::Limit,
            tool: String::new(),
            server: String::new(),
            arguments: arguments.clone(),
            message: on.clone(),
            why: format!(
                "limits.softMark is {}",
                f64::from(self.state.limits.tree.soft_mark.unwrap_or_default()) / f64::from(SOFT_MARK_WHOLE)
            ),
            expires_ms: until_ms,
        }));
        step.push(Command::StartTimer { id: id.clone(), due_ms: until_ms });
        self.state.stage = Stage::Limit(Extending { id, arguments, on, since_ms: step.now_ms, until_ms });
    }

    /// Whether the run waits for this decision.
    pub(super) fn extends(&self, question: &OperationId) -> bool {
        matches!(&self.state.stage, Stage::Limit(asked) if asked.id == *question)
    }

    /// What is wrong with a decision on the open question.
    pub(super) fn wrong_with_extension(&self, decision: &Decision) -> Vec<String> {
        let Stage::Limit(asked) = &self.state.stage else { return Vec::new() };
        if decision.choice != Choice::Approve {
            return Vec::new();
        }
        match self.read_extension(decision.arguments.as_ref().unwrap_or(&asked.arguments)) {
            Ok(_) => Vec::new(),
            Err(wrong) => wrong,
        }
    }

    /// What is to be added; the errors are sentences.
    fn read_extension(&self, arguments: &Value) -> Result<Amounts, Vec<String>> {
        let given = arguments.as_object().filter(|fields| fields.len() == 1).and_then(|fields| fields.get("extend"));
        let Some(Value::Object(extend)) = given else {
            return Err(vec!["must be {\"extend\": {…}} with what is to be added to which limit".to_owned()]);
        };
        let (mut amounts, mut wrong) = (Amounts::default(), Vec::new());
        let limits = each(self.state.account.own_limits(), Amounts::default());
        for (name, value) in extend {
            let own: Vec<&str> = limits.iter().filter(|it| it.1.is_some()).map(|it| it.0).collect();
            if !own.contains(&name.as_str()) {
                wrong.push(format!("extend.{name}: is no limit of this execution; those are {}", own.join(", ")));
                continue;
            }
            match amount(name, value) {
                Ok(amount) => *slot(&mut amounts, name) = amount,
                Err(why) => wrong.push(format!("extend.{name}: {why}")),
            }
        }
        if wrong.is_empty() {
            let missing = self.marks(amounts).into_iter().map(|mark| {
                let added = figure(mark.name, mark.missing.saturating_add(*slot(&mut amounts, mark.name)));
                format!(
                    "extend.{}: {} would still be near the limit; at least {added} must be added",
                    mark.name,
                    mark.said()
                )
            });
            wrong.extend(missing);
        }
        if wrong.is_empty() { Ok(amounts) } else { Err(wrong) }
    }

    /// A person has decided.
    pub(super) fn extension_decided(&mut self, outcome: &Outcome, step: &mut Step) {
        let Stage::Limit(asked) = &self.state.stage else { return };
        step.push(Command::CancelTimer { id: asked.id.clone() });
        let digest = arguments_digest(&asked.arguments);
        let proposed = asked.arguments.clone();
        self.state.stage = Stage::New;
        match Decision::of(outcome) {
            Ok(decision) if decision.choice == Choice::Approve && decision.arguments_digest == digest => {
                match self.read_extension(decision.arguments.as_ref().unwrap_or(&proposed)) {
                    Ok(amounts) => {
                        self.state.account.add(amounts);
                        self.begin_turn(step);
                    }
                    Err(wrong) => self.not_extended(&wrong.join("; "), step),
                }
            }
            Ok(decision) if decision.reason.is_empty() => {
                self.not_extended("a person was asked to extend it, and did not", step);
            }
            Ok(decision) => {
                self.not_extended(&format!("a person was asked to extend it, and did not: {}", decision.reason), step);
            }
            Err(why) => self.not_extended(&why, step),
        }
    }

    /// Nobody has decided in time.
    pub(super) fn extension_overdue(&mut self, step: &mut Step) {
        let Stage::Limit(asked) = &self.state.stage else { return };
        let id = asked.id.clone();
        step.push(Command::CloseWait { id: id.clone() });
        self.state.stage = Stage::New;
        match self.definition.policy().map(|policy| policy.on_expiry).unwrap_or_default() {
            OnExpiry::Deny => self.not_extended("nobody decided in time to extend it", step),
            OnExpiry::Fail => {
                let why = "nobody decided in time to extend the limits of the run";
                self.fail(baton_execution::Fault::new(fault_type::TIMEOUT, 408, why).at(&id.position), step);
            }
        }
    }

    fn not_extended(&mut self, why: &str, step: &mut Step) {
        let fault = match self.marks(Amounts::default()).first() {
            Some(mark) => {
                baton_execution::Shortage { limit: mark.name, allowed: mark.limit, taken: mark.used }.fault(why)
            }
            None => super::turn::limit("softMark", 0, why),
        };
        self.fail(fault, step);
    }
}

fn slot<'a>(amounts: &'a mut Amounts, name: &str) -> &'a mut u64 {
    match name {
        "modelCalls" => &mut amounts.model_calls,
        "toolCalls" => &mut amounts.tool_calls,
        "tokens" => &mut amounts.tokens,
        "cost" => &mut amounts.cost_micros,
        _ => &mut amounts.children,
    }
}

fn amount(name: &str, value: &Value) -> Result<u64, String> {
    let amount = match (name, value) {
        ("cost", Value::String(text)) => micros_of_decimal(text).ok_or_else(|| not_money(text))?,
        ("cost", other) => return Err(not_money(&shown(other))),
        (_, Value::Number(number)) => number
            .as_u64()
            .filter(|amount| *amount <= u64::from(LIMIT_MAX))
            .ok_or_else(|| format!("must be a whole number from 1 to {LIMIT_MAX}, found {number}"))?,
        (_, other) => return Err(format!("must be a whole number from 1 to {LIMIT_MAX}, found {}", kind_of(other))),
    };
    if amount == 0 { Err("must be more than 0".to_owned()) } else { Ok(amount) }
}
