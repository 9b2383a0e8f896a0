//! Limits over the tree: what is granted, what is settled, and how a run ends whose limits are reached.

use baton_agent::{FinishReason, ModelResponse};
use baton_execution::{
    Allowance, Amounts, Ancestor, Choice, Command, Decision, Ending, Fault, Grant, Input, OperationId, Outcome,
    QuestionKind, Usage, Used, arguments_digest, fault_type,
};
use serde_json::{Value, json};

use crate::support::{Run, calls, model_id, says, spec_with, tool_id};

fn open(limits: &Value) -> Run {
    let spec = spec_with(json!({"limits": limits, "policy": {"default": "allow"}}));
    Run::granted(&spec, Value::Null, Grant::default())
}

fn limited_to(amounts: Allowance) -> Run {
    let spec = spec_with(json!({"policy": {"default": "allow"}}));
    Run::granted(&spec, Value::Null, Grant { amounts, ..Grant::default() })
}

fn used(model_calls: u32, tokens: u64) -> Used {
    Used { usage: Usage { model_calls, input_tokens: tokens, ..Usage::default() }, ..Used::default() }
}

fn assert_tree_limit(run: &Run, name: &str) -> Fault {
    let (fault, _) = run.fault();
    let data = fault.data.as_ref().unwrap();
    assert_eq!(
        (fault.kind.as_str(), data["limit"].as_str(), data["scope"].as_str(), fault.non_retryable),
        (fault_type::LIMIT, Some(name), Some("tree"), true),
        "{fault}"
    );
    assert!(run.activities().is_empty() && run.children().is_empty(), "nothing is begun");
    fault.clone()
}

fn ask_legal() -> (&'static str, Value) {
    ("ask_legal", json!({"message": "m"}))
}

#[test]
fn zero_is_none_left_and_ends_the_run_by_name_before_the_call() {
    for (limits, name) in
        [(json!({"modelCalls": 0}), "modelCalls"), (json!({"tokens": 0}), "tokens"), (json!({"cost": "0"}), "cost")]
    {
        let spec = spec_with(
            json!({"limits": limits, "model": {"name": "m", "price": {"inputPerMillion": 1, "outputPerMillion": 2}}}),
        );
        assert_tree_limit(&Run::granted(&spec, Value::Null, Grant::default()), name);
    }
    for (limits, name, call) in [
        (json!({"toolCalls": 0}), "toolCalls", ("get_order", json!({"id": "1"}))),
        (json!({"children": 0}), "children", ask_legal()),
        (json!({"depth": 0}), "depth", ask_legal()),
    ] {
        let mut run = open(&limits);
        run.model(1, ModelResponse { text: Some("Looking.".into()), ..calls(&[call]) });
        assert_tree_limit(&run, name);
        assert_eq!(run.fault().1, Some(&json!("Looking.")), "what there was is kept");
    }
}

#[test]
fn limits_of_an_execution_come_before_the_templates_and_within_what_is_granted() {
    let spec = spec_with(json!({"limits": {"modelCalls": 9, "tokens": 100_000, "cost": "1.5", "softMark": 0.5}}));
    let grant = Grant {
        amounts: Allowance { model_calls: Some(7), children: Some(4), ..Allowance::default() },
        depth: Some(3),
        ..Grant::default()
    };
    let settings = json!({"modelCalls": 8, "depth": 5, "cost": "0.25", "prices": [{"inputMicros": 1_000_000, "outputMicros": 1_000_000}]});
    let run = Run::granted(&spec, settings, grant);
    let tree = run.program().progress().tree;
    assert_eq!((tree.left.model_calls, tree.left.children, tree.depth), (Some(6), Some(4), Some(3)));
    assert!(tree.left.tokens < Some(100_000) && tree.left.cost_micros < Some(250_000), "a call is reserved: {tree:?}");
}

#[test]
fn children_that_begin_together_get_equal_parts_and_give_back_what_they_do_not_use() {
    let mut run = limited_to(Allowance {
        model_calls: Some(12),
        tokens: Some(30_000),
        children: Some(5),
        ..Allowance::default()
    });
    run.model(1, calls(&[ask_legal(), ask_legal()]));
    let grants: Vec<Grant> = run.children().iter().map(|child| child.grant.clone().unwrap()).collect();
    // 12, less the one that was made and the one that reads the results; 30000 less 15; 5 less the two themselves.
    assert_eq!(grants[0].amounts.model_calls, Some(5));
    assert_eq!(grants[1].amounts.model_calls, Some(5));
    assert_eq!((grants[0].amounts.tokens, grants[1].amounts.tokens), (Some(14_993), Some(14_992)));
    assert_eq!((grants[0].amounts.children, grants[1].amounts.children), (Some(2), Some(1)));
    assert_eq!(run.left().tokens, Some(0), "all of it is reserved");

    let done = || Outcome::Completed(json!("ok"));
    run.child(&tool_id(1, 0, "ask_legal"), done(), used(2, 1000));
    assert_eq!(run.left().tokens, Some(13_993));
    // Nobody knows what this one used: its whole grant counts.
    run.answered(&tool_id(1, 1, "ask_legal"), done());
    let tree = run.program().progress().tree;
    assert_eq!(tree.used.usage.model_calls, 4, "its own two, and two below");
    assert_eq!(tree.used.unsettled.model_calls, 5);
    assert_eq!(tree.left.model_calls, Some(3));
    assert_eq!(tree.used.usage.children, 2);
}

#[test]
fn a_child_that_is_given_up_has_used_all_that_it_got() {
    let mut run = limited_to(Allowance { model_calls: Some(10), ..Allowance::default() });
    run.model(1, calls(&[("ship", json!({}))]));
    let id = tool_id(1, 0, "ship");
    run.give(Input::TimerFired { id: id.clone() });
    assert!(run.commands.contains(&Command::CloseWait { id: id.clone() }));
    assert_eq!(run.left().model_calls, Some(0), "one was kept to read the answer, and is under way");
    run.child(&id, Outcome::Completed(json!(1)), used(0, 0));
    assert_eq!(run.left().model_calls, Some(0), "a late answer settles nothing");
    run.model(2, calls(&[("get_order", json!({"id": "1"}))]));
    assert_tree_limit(&run, "modelCalls");
}

#[test]
fn an_answer_is_never_longer_than_what_is_left_of_tokens_and_money() {
    let price = json!({"inputPerMillion": 1, "outputPerMillion": 10});
    let spec = spec_with(
        json!({"instructions": "i", "tools": [], "model": {"name": "m", "price": price, "maxOutputTokens": 4000, "fallbacks": [{"name": "n", "price": price}]}}),
    );
    let run = |limits: Value| Run::granted(&spec, limits, Grant::default());
    assert_eq!(run(json!({"tokens": 9000})).request(1).model.max_output_tokens, Some(4000), "it fits");
    let small = run(json!({"tokens": 500}));
    let most = small.request(1).model.max_output_tokens.unwrap();
    assert!((1..500).contains(&most), "{most}");
    assert_eq!(small.request(1).model.fallbacks[0].max_output_tokens, Some(most));
    // 0.01 dollars are 1000 tokens written, less what is read.
    let mut poor = run(json!({"cost": "0.01"}));
    let most = poor.request(1).model.max_output_tokens.unwrap();
    assert!((900..1000).contains(&most), "{most}");
    poor.model(1, ModelResponse { finish_reason: FinishReason::Length, ..says("So far") });
    assert_eq!(assert_tree_limit(&poor, "cost").data.unwrap()["allowed"], json!("0.01"));
    assert_eq!(poor.fault().1, Some(&json!("So far")));
}

#[test]
fn money_is_limited_only_where_every_price_is_known() {
    let run = Run::granted(&spec_with(json!({})), json!({"cost": "5"}), Grant::default());
    let (fault, _) = run.fault();
    assert_eq!(fault.kind, fault_type::CONFIGURATION);
    assert!(fault.detail.as_ref().unwrap().contains("the price of the model 'test-model' is not known"), "{fault}");
    let pinned = json!({"cost": "5", "prices": [{"inputMicros": 250_000, "outputMicros": 2_000_000}]});
    let mut run = Run::granted(&spec_with(json!({})), pinned, Grant::default());
    run.model(1, ModelResponse { cost_micros: None, ..calls(&[("get_order", json!({"id": "1"}))]) });
    let tree = run.program().progress().tree;
    assert!(tree.used.unsettled.cost_micros > 30_000, "an answer of unknown cost counts as its reservation: {tree:?}");
    let mut run = Run::granted(&spec_with(json!({})), json!({"cost": "5", "prices": [null]}), Grant::default());
    assert_eq!(run.fault().0.kind, fault_type::CONFIGURATION);
    run.give(Input::CancelRequested { reason: "r".into() });
}

#[test]
fn the_time_of_the_tree_is_the_earlier_one_and_ends_the_run_by_name() {
    let id = OperationId::new("/limits/wallTime", 1);
    let due = |run: &Run| {
        run.commands.iter().find_map(|command| match command {
            Command::StartTimer { id: timer, due_ms } if *timer == id => Some(*due_ms),
            _ => None,
        })
    };
    let mut run = open(&json!({"wallTime": "10m"}));
    let own = run.now_ms() + 600_000;
    assert_eq!(due(&run), Some(own));
    run.model(1, ModelResponse { text: Some("Asking.".into()), ..calls(&[ask_legal()]) });
    assert_eq!(run.children()[0].grant.as_ref().unwrap().deadline_ms, Some(own), "it is passed on");
    run.give(Input::TimerFired { id: id.clone() });
    let (fault, partial) = run.fault();
    assert_eq!(fault.data, Some(json!({"limit": "wallTime", "scope": "tree"})));
    assert_eq!(partial, Some(&json!("Asking.")));

    let spec = spec_with(json!({"limits": {"wallTime": "10m"}}));
    let run = Run::granted(&spec, Value::Null, Grant { deadline_ms: Some(17), ..Grant::default() });
    assert_eq!(due(&run), Some(17));
}

fn extended(run: &mut Run, arguments: Option<Value>, choice: Choice) -> Result<(), Vec<String>> {
    let question = run.question().clone();
    let decision = Decision {
        choice,
        approval: "a".into(),
        decided_by: "kim".into(),
        reason: "no budget".into(),
        arguments_digest: arguments_digest(&question.arguments),
        arguments,
        result: None,
    };
    run.program().check_decision(&question.id, &decision)?;
    run.give(Input::CallbackAnswered { id: question.id, outcome: decision.into_outcome(), used: None });
    Ok(())
}

fn near() -> Run {
    let mut run = open(&json!({"modelCalls": 4, "toolCalls": 100, "softMark": 0.5}));
    for turn in 1..=2 {
        assert_eq!(run.activities()[0].id, model_id(turn));
        run.model(turn, calls(&[("get_order", json!({"id": turn.to_string()}))]));
        run.completes(&tool_id(turn, 0, "get_order"), json!("a"));
    }
    run
}

#[test]
fn at_the_soft_mark_a_person_may_extend_the_limit() {
    let mut run = near();
    let question = run.question().clone();
    assert_eq!((question.kind, &question.arguments), (QuestionKind::Limit, &json!({"extend": {"modelCalls": 4}})));
    assert_eq!(question.message, "the run has used 2 of 4 modelCalls");
    assert!(run.activities().is_empty(), "the model is not asked meanwhile");
    assert_eq!(run.program().progress().waiting[0].id, question.id);
    assert_eq!(run.program().progress().tree.marks, ["2 of 4 modelCalls"]);
    run.answered(&tool_id(2, 0, "get_order"), Outcome::Completed(Value::Null));
    assert!(run.commands.is_empty());
    for (arguments, says) in [
        (json!({"extend": {"tokens": 5}}), "is no limit of this execution; those are modelCalls, toolCalls"),
        (json!({"extend": {"modelCalls": -1}}), "must be a whole number"),
        (json!({"extend": {"modelCalls": 0}}), "must be more than 0"),
        (
            json!({"extend": {"toolCalls": 5}}),
            "extend.modelCalls: 2 of 4 modelCalls would still be near the limit; at least 1",
        ),
        (json!({"modelCalls": 5}), "must be {\"extend\""),
    ] {
        let mut asked = near();
        let wrong = extended(&mut asked, Some(arguments), Choice::Approve).unwrap_err();
        assert!(wrong.iter().any(|it| it.contains(says)), "{wrong:?}");
    }
    let mut run = near();
    extended(&mut run, Some(json!({"extend": {"modelCalls": 2}})), Choice::Approve).unwrap();
    assert_eq!(run.activities()[0].id, model_id(3));
    assert_eq!(run.left().model_calls, Some(3));
    run.model(3, calls(&[("get_order", json!({"id": "3"}))])).completes(&tool_id(3, 0, "get_order"), json!("a"));
    assert_eq!(run.question().id, OperationId::new("/limits/extend", 2), "asked again at the mark of the new limit");
    extended(&mut run, None, Choice::Approve).unwrap();
    run.model(4, says("Done."));
    assert_eq!(run.ending(), &Ending::Completed { output: json!("Done.") });
}

#[test]
fn a_limit_that_is_not_extended_ends_the_run_by_its_name() {
    let mut run = near();
    extended(&mut run, None, Choice::Deny).unwrap();
    assert!(assert_tree_limit(&run, "modelCalls").detail.unwrap().contains("no budget"));
    let mut run = near();
    let id = run.question().id.clone();
    run.give(Input::TimerFired { id: id.clone() });
    assert!(run.commands.contains(&Command::CloseWait { id }));
    assert_tree_limit(&run, "modelCalls");
    let spec = spec_with(
        json!({"limits": {"modelCalls": 1, "softMark": 1, "onSoftMark": "ask"}, "policy": {"default": "allow", "onExpiry": "fail"}}),
    );
    let mut run = Run::granted(&spec, Value::Null, Grant::default());
    run.model(1, calls(&[("get_order", json!({"id": "1"}))])).completes(&tool_id(1, 0, "get_order"), json!("a"));
    let id = run.question().id.clone();
    run.give(Input::TimerFired { id });
    assert_eq!(run.fault().0.kind, fault_type::TIMEOUT);
}

#[test]
fn a_note_stops_nothing_and_what_is_granted_is_not_extended_from_below() {
    let mut run = open(&json!({"modelCalls": 2, "softMark": 0.5, "onSoftMark": "note"}));
    run.model(1, calls(&[("get_order", json!({"id": "1"}))])).completes(&tool_id(1, 0, "get_order"), json!("a"));
    assert_eq!(run.activities()[0].id, model_id(2));
    assert_eq!(run.program().progress().tree.marks, ["2 of 2 modelCalls"]);

    let spec = spec_with(json!({"limits": {"modelCalls": 2, "softMark": 0.5}, "policy": {"default": "allow"}}));
    let amounts = Allowance { model_calls: Some(1), ..Allowance::default() };
    let mut run = Run::granted(&spec, Value::Null, Grant { amounts, ..Grant::default() });
    run.model(1, calls(&[("get_order", json!({"id": "1"}))]));
    assert_tree_limit(&run, "modelCalls");
}

#[test]
fn an_agent_in_the_chain_of_its_own_calls_ends_by_name() {
    let ancestor = |name: &str, input: &str| Ancestor { kind: "Agent".into(), name: name.into(), input: input.into() };
    let chain = |chain: &[(&str, &str)]| {
        let ancestors = chain.iter().map(|(name, input)| ancestor(name, input)).collect();
        Run::granted(&spec_with(json!({})), Value::Null, Grant { ancestors, ..Grant::default() })
    };
    for goes_on in
        [vec![("a", "1")], vec![("a", "1"), ("b", "1"), ("a", "1")], vec![("a", "1"), ("a", "2"), ("a", "3")]]
    {
        assert_eq!(chain(&goes_on).activities().len(), 1, "{goes_on:?}");
    }
    let run = chain(&[("a", "1"), ("b", "1"), ("a", "1"), ("b", "1"), ("a", "1")]);
    let (fault, _) = run.fault();
    assert_eq!(fault.data.as_ref().unwrap()["limit"], "recursion");
    assert!(fault.detail.as_ref().unwrap().contains("'a'"), "{fault}");
}

fn rounds(names: &[&str], granted: bool) -> (Run, u32) {
    let spec = spec_with(json!({"limits": {"maxTurns": 40}, "policy": {"default": "allow"}}));
    let mut run = Run::begun(&spec, json!("Hi"), Value::Null, granted.then(Grant::default));
    for turn in 1..=30_u32 {
        let id = names[(turn as usize - 1) % names.len()];
        run.model(turn, calls(&[("get_order", json!({"id": id}))]));
        if run.activities().is_empty() {
            return (run, turn);
        }
        run.completes(&tool_id(turn, 0, "get_order"), json!("a"));
    }
    (run, 0)
}

#[test]
fn the_same_round_of_calls_over_and_over_is_no_progress() {
    for (names, ended) in [(vec!["a", "b"], 10), (vec!["a", "b", "c"], 15), (vec!["a", "b", "c", "d"], 20)] {
        let (run, turn) = rounds(&names, true);
        assert_eq!(turn, ended, "{names:?}");
        let (fault, _) = run.fault();
        assert_eq!(fault.data, Some(json!({"limit": "noProgress", "allowed": 4, "scope": "execution"})));
        assert_eq!(rounds(&names, false).1, 0, "what began before goes on as it did");
    }
    assert_eq!(rounds(&["a", "b", "c", "d", "e"], true).1, 0);
    assert_eq!(rounds(&["a"], true).1, 5);
}

#[test]
fn turns_in_which_every_call_fails_are_no_progress() {
    let mut run = Run::granted(&spec_with(json!({"policy": {"default": "allow"}})), Value::Null, Grant::default());
    for turn in 1..=8 {
        assert_eq!(run.activities()[0].id, model_id(turn));
        run.model(turn, calls(&[("get_order", json!({"id": turn.to_string()}))]));
        run.fails(&tool_id(turn, 0, "get_order"), Fault::new(fault_type::COMMUNICATION, 503, "down"));
    }
    let (fault, _) = run.fault();
    assert_eq!(fault.data.as_ref().unwrap()["limit"], "noProgress");
}

#[test]
fn what_began_before_there_were_grants_gives_none() {
    let spec = spec_with(json!({"policy": {"default": "allow"}}));
    let mut run = Run::started(&spec, "Hi", Value::Null);
    run.model(1, calls(&[ask_legal()]));
    assert_eq!(run.children()[0].grant, None);
    run.answered(&tool_id(1, 0, "ask_legal"), Outcome::Completed(json!("ok")));
    assert_eq!(run.program().progress().tree.used.unsettled, Amounts::default());
}

#[test]
fn what_is_recorded_grows_with_what_is_said_and_not_with_its_square() {
    let spec = spec_with(json!({"limits": {"maxTurns": 200}, "policy": {"default": "allow"}}));
    let mut run = Run::granted(&spec, Value::Null, Grant::default());
    let size = |run: &Run| serde_json::to_string(&run.commands).unwrap().len();
    let (mut bytes, mut after) = (size(&run), Vec::new());
    for turn in 1..=100 {
        let said =
            ModelResponse { text: Some("x".repeat(1000)), ..calls(&[("get_order", json!({"id": turn.to_string()}))]) };
        bytes += serde_json::to_string(&said).unwrap().len();
        run.model(turn, said);
        bytes += size(&run);
        run.completes(&tool_id(turn, 0, "get_order"), json!("y".repeat(1000)));
        bytes += 1000 + size(&run);
        if matches!(turn, 10 | 50 | 100) {
            after.push(bytes / turn as usize);
        }
    }
    let (least, most) = (after.iter().min().unwrap(), after.iter().max().unwrap());
    assert!(most - least < least / 10, "bytes for each call after 10, 50 and 100 of them: {after:?}");
}

const PAGE: &str = include_str!("../../../../docs/agents/limits.md");

#[test]
fn the_limits_of_the_documentation_end_runs_as_it_says() {
    let mut seen = 0;
    for (at, _) in PAGE.match_indices("```yaml\nlimits:") {
        let (block, rest) = PAGE[at + "```yaml\n".len()..].split_once("```").unwrap();
        let mut fragment: Value = serde_yaml_ng::from_str(block).unwrap();
        fragment["policy"] = json!({"default": "allow"});
        let mut run = Run::granted(&spec_with(fragment), Value::Null, Grant::default());
        if !run.activities().is_empty() {
            run.model(1, calls(&[("get_order", json!({"id": "1"}))]));
        }
        let name = rest.split("`limit`: `").nth(1).unwrap().split('`').next().unwrap();
        assert_tree_limit(&run, name);
        seen += 1;
    }
    assert_eq!(seen, 2);
}

/// The agents of the page's first example, by name.
fn documented_agent(name: &str) -> Value {
    let (_, rest) = PAGE.split_once("```yaml\n").unwrap();
    let manifests = rest.split_once("```").unwrap().0.split("---\n");
    let mut manifests = manifests.map(|text| serde_yaml_ng::from_str::<Value>(text).unwrap());
    manifests.find(|it| it["metadata"]["name"] == name).unwrap()["spec"].clone()
}

/// Plays the next turn of the model.
fn play(run: &mut Run, turn: u32) {
    let request = serde_json::to_value(run.request(turn)).unwrap();
    let response: ModelResponse = serde_json::from_value(baton_agent::play_model(&request).unwrap()).unwrap();
    run.model(turn, ModelResponse { cost_micros: Some(0), ..response });
}

#[test]
fn the_example_of_the_documentation_uses_what_it_says() {
    let mut editor = Run::granted(&documented_agent("editor"), Value::Null, Grant::default());
    play(&mut editor, 1);
    let children: Vec<_> = editor.children().into_iter().cloned().collect();
    for child in children {
        let mut reader = Run::granted(&documented_agent("reader"), Value::Null, child.grant.unwrap());
        play(&mut reader, 1);
        let Ending::Completed { output } = reader.ending().clone() else { panic!("it reads") };
        editor.child(&child.id, Outcome::Completed(output), reader.program().progress().tree.used);
    }
    play(&mut editor, 2);
    let tree = editor.program().progress().tree;
    let all = tree.used.usage;
    let used = format!(
        "with all below {} model calls, {} tool calls, {} tokens in, {} out, 0 USD, {} executions",
        all.model_calls, all.tool_calls, all.input_tokens, all.output_tokens, all.children
    );
    assert!(PAGE.contains(&used), "{used}");
    let left = tree.left;
    let left = format!(
        "{} model calls, {} tokens, 2.5 USD, {} executions, {} levels",
        left.model_calls.unwrap(),
        left.tokens.unwrap(),
        left.children.unwrap(),
        tree.depth.unwrap()
    );
    assert!(PAGE.contains(&left), "{left}");
    assert_eq!(tree.left.cost_micros, Some(2_500_000));
}
