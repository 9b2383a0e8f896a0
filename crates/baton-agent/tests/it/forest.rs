//! Trees of agents at random: whatever they do and in whichever order, they stay within the limits of the root.
//!
//! What is counted exactly (calls, executions) never exceeds a limit. Tokens and money do not as long as each call reports no
//! more than was reserved for it; otherwise by no more than one call of each execution reported.

use std::collections::BTreeMap;

use baton_agent::{Message, ModelResponse};
use baton_execution::{Allowance, Amounts, Command, Ending, Grant, Input, OperationId, Outcome, Usage, Used};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::{Run, calls, says, spec_with};

/// Price of a million tokens, in dollars: a token costs a millionth.
const PRICE: f64 = 1.0;
const NODES_MAX: usize = 60;

#[derive(Clone, Debug)]
struct Pick {
    node: usize,
    open: usize,
    /// Agents that the model calls; 0 ends the run.
    agents: usize,
    orders: usize,
    input: u64,
    output: u64,
    lost: bool,
    cancelled: bool,
}

struct Node {
    run: Run,
    parent: Option<(usize, OperationId)>,
    model: Option<OperationId>,
    tools: Vec<OperationId>,
    children: Vec<OperationId>,
    largest: u64,
    over: bool,
}

struct Forest {
    nodes: Vec<Node>,
    spec: Value,
    honest: bool,
}

impl Forest {
    fn begin(&mut self, parent: Option<(usize, OperationId)>, settings: Value, grant: Grant) {
        let run = Run::granted(&self.spec, settings, grant);
        let (model, tools, children) = (None, Vec::new(), Vec::new());
        self.nodes.push(Node { run, parent, model, tools, children, largest: 0, over: false });
        self.take(self.nodes.len() - 1);
    }

    /// Does what the last input of a node led to.
    fn take(&mut self, index: usize) {
        for command in self.nodes[index].run.commands.clone() {
            let node = &mut self.nodes[index];
            match command {
                Command::ScheduleActivity(activity) if activity.activity == "model" => node.model = Some(activity.id),
                Command::ScheduleActivity(activity) => node.tools.push(activity.id),
                Command::StartChild(child) => {
                    node.children.push(child.id.clone());
                    self.begin(Some((index, child.id)), Value::Null, child.grant.expect("children are given grants"));
                }
                Command::End(ending) => {
                    node.over = true;
                    self.answer(index, &ending);
                }
                _ => {}
            }
        }
    }

    fn answer(&mut self, index: usize, ending: &Ending) {
        let used = self.nodes[index].run.program().progress().tree.used;
        let Some((parent, id)) = self.nodes[index].parent.clone() else { return };
        let outcome = match ending {
            Ending::Completed { output } => Outcome::Completed(output.clone()),
            Ending::Failed { fault, .. } => Outcome::Failed(fault.clone()),
            Ending::Cancelled { reason, .. } => Outcome::Cancelled { reason: reason.clone() },
            Ending::TimedOut { .. } => Outcome::Cancelled { reason: "timed out".into() },
        };
        self.tell(parent, id, outcome, Some(used));
    }

    fn tell(&mut self, parent: usize, id: OperationId, outcome: Outcome, used: Option<Used>) {
        let node = &mut self.nodes[parent];
        node.children.retain(|open| *open != id);
        if !node.over {
            node.run.give(Input::CallbackAnswered { id, outcome, used });
            self.take(parent);
        }
    }

    fn step(&mut self, pick: &Pick) {
        let open: Vec<usize> = (0..self.nodes.len()).filter(|index| !self.nodes[*index].over).collect();
        let Some(index) = open.get(pick.node % open.len().max(1)).copied() else { return };
        let room = self.nodes.len() < NODES_MAX;
        let node = &mut self.nodes[index];
        if pick.cancelled {
            node.run.give(Input::CancelRequested { reason: "r".into() });
        } else if let Some(id) = node.model.take() {
            let response = respond(node, pick, self.honest, room);
            node.largest = node.largest.max(response.input_tokens + response.output_tokens);
            node.run.give(Input::ActivityCompleted { id, output: serde_json::to_value(response).unwrap() });
        } else if !node.tools.is_empty() {
            let id = node.tools.swap_remove(pick.open % node.tools.len());
            node.run.give(Input::ActivityCompleted { id, output: json!("a") });
        } else if pick.lost && !node.children.is_empty() {
            let id = node.children[pick.open % node.children.len()].clone();
            return self.tell(index, id, Outcome::Cancelled { reason: "lost".into() }, None);
        } else {
            return;
        }
        self.take(index);
    }

    fn used(&self) -> Usage {
        self.nodes.iter().map(|node| node.run.program().progress().usage).fold(Usage::default(), Usage::plus)
    }
}

fn respond(node: &Node, pick: &Pick, honest: bool, room: bool) -> ModelResponse {
    let turn = node.run.program().progress().usage.model_calls;
    let request = node.run.request(turn);
    let most = u64::from(request.model.max_output_tokens.unwrap_or(u32::MAX));
    let said: usize = request.messages.iter().map(|it: &Message| serde_json::to_string(it).unwrap().len()).sum();
    let (input, output) =
        if honest { (pick.input % (said as u64 / 3 + 1), pick.output % (most + 1)) } else { (pick.input, pick.output) };
    let mut wanted: Vec<(&str, Value)> = Vec::new();
    for index in 0..pick.agents * usize::from(room) {
        wanted.push(("ask_legal", json!({"message": format!("{turn} {index}")})));
    }
    for index in 0..pick.orders {
        wanted.push(("get_order", json!({"id": format!("{turn} {index}")})));
    }
    let response = if wanted.is_empty() { says("Done.") } else { calls(&wanted) };
    ModelResponse { input_tokens: input, output_tokens: output, cost_micros: Some(input + output), ..response }
}

fn pick() -> impl Strategy<Value = Pick> {
    (
        (0..NODES_MAX, 0..8_usize, 0..4_usize, 0..3_usize),
        (0..3000_u64, 0..3000_u64),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.03),
    )
        .prop_map(|((node, open, agents, orders), (input, output), lost, cancelled)| Pick {
            node,
            open,
            agents,
            orders,
            input,
            output,
            lost,
            cancelled,
        })
}

/// Limits of the root, as the spec has them.
fn limits() -> impl Strategy<Value = BTreeMap<&'static str, u32>> {
    let one = |name: &'static str, max: u32| prop::option::of((0..max).prop_map(move |limit| (name, limit)));
    (one("modelCalls", 30), one("toolCalls", 30), one("tokens", 60_000), one("children", 12), one("cost", 60_000))
        .prop_map(|(a, b, c, d, e)| [a, b, c, d, e].into_iter().flatten().collect())
}

fn run(limits: &BTreeMap<&'static str, u32>, picks: &[Pick], honest: bool) -> Forest {
    let price = json!({"inputPerMillion": PRICE, "outputPerMillion": PRICE});
    let spec = spec_with(json!({
        "model": {"name": "m", "maxOutputTokens": 1000, "price": price}, "policy": {"default": "allow"},
    }));
    let mut forest = Forest { nodes: Vec::new(), spec, honest };
    let mut settings = json!(limits);
    if let Some(micros) = limits.get("cost") {
        settings["cost"] = json!(format!("0.{micros:06}"));
    }
    forest.begin(None, settings, Grant::default());
    for pick in picks {
        forest.step(pick);
    }
    forest
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_tree_stays_within_the_limits_of_its_root(limits in limits(), picks in prop::collection::vec(pick(), 1..160), honest in any::<bool>()) {
        let forest = run(&limits, &picks, honest);
        let used = Amounts::from(forest.used());
        // Of each execution the last call alone can go beyond what was left.
        let beyond: u64 = if honest { 0 } else { forest.nodes.iter().map(|node| node.largest).sum() };
        let within = |name: &str, used: u64, beyond: u64| {
            limits.get(name).is_none_or(|limit| used <= u64::from(*limit) + beyond)
        };
        prop_assert!(within("modelCalls", used.model_calls, 0), "{used:?} {limits:?}");
        prop_assert!(within("toolCalls", used.tool_calls, 0), "{used:?} {limits:?}");
        prop_assert!(within("children", used.children, 0), "{used:?} {limits:?}");
        prop_assert!(within("tokens", used.tokens, beyond), "{used:?} {limits:?}");
        prop_assert!(within("cost", used.cost_micros, beyond), "{used:?} {limits:?}");
        prop_assert_eq!(u64::try_from(forest.nodes.len()).unwrap() - 1, used.children);
    }

    #[test]
    fn what_the_root_knows_is_what_happened(limits in limits(), picks in prop::collection::vec(pick(), 1..120)) {
        let mut forest = run(&limits, &picks, true);
        // Everything ends, from below.
        for index in (0..forest.nodes.len()).rev() {
            if !forest.nodes[index].over {
                forest.nodes[index].run.give(Input::CancelRequested { reason: "r".into() });
                forest.take(index);
            }
        }
        let known = forest.nodes[0].run.program().progress().tree.used;
        let used = Amounts::from(forest.used());
        let all = known.amounts();
        let limited = |name: &str| limits.contains_key(name);
        // What is known, and what may have been used beside it, is at least what was used, in all that is limited.
        prop_assert!(!limited("modelCalls") || all.model_calls >= used.model_calls, "{known:?} {used:?}");
        prop_assert!(!limited("tokens") || all.tokens >= used.tokens, "{known:?} {used:?}");
        prop_assert!(!limited("cost") || all.cost_micros >= used.cost_micros, "{known:?} {used:?}");
        prop_assert!(!limited("children") || all.children >= used.children, "{known:?} {used:?}");
        let left: Allowance = forest.nodes[0].run.left();
        prop_assert!(left.model_calls.is_none_or(|left| left <= u64::from(limits["modelCalls"])));
    }
}
