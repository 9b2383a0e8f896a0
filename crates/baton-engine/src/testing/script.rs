//! A Program that does what a JSON script says, and the world around it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Mutex,
    time::Duration,
};

use baton_execution::{
    Activities, ActivityTask, ChildTarget, Command, Decision, Effect, Ending, Fault, Input, OperationId, Outcome,
    ParentClosePolicy, Program, ProgramError, ProgramKind, Programs, Progress, Question, QuestionKind, Recorded,
    ScheduleActivity, StartChild, WaitReason, Waiting, callback_token_placeholder, fault_type,
};
use baton_types::{Digest, Phase};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Who is waited for where a step asks.
const PERSON: &str = "a person";

/// One thing after the other: each step's result is the next one's `last`, and the output of the last is the output.
#[derive(Serialize, Deserialize)]
struct Script {
    steps: Vec<Value>,
    next: usize,
    last: Value,
    open: Option<OperationId>,
    waiting: Option<(OperationId, String, i64)>,
    ended: bool,
    /// What it goes on from.
    #[serde(default)]
    carried: Value,
}

impl Script {
    fn advance(&mut self, now: i64) -> Vec<Command> {
        let Some(step) = self.steps.get(self.next).cloned() else {
            return self.end(Ending::Completed { output: self.last.clone() });
        };
        self.next += 1;
        let id = OperationId::new(format!("/steps/{}", self.next - 1), 1);
        self.open = Some(id.clone());
        self.waiting = None;
        let activity = |name: &str, input: Value, effect| {
            Command::ScheduleActivity(ScheduleActivity {
                id: id.clone(),
                activity: name.to_owned(),
                input,
                start_to_close_ms: 60_000,
                effect,
                approval: None,
            })
        };
        if let Some(input) = step.get("echo") {
            vec![activity("echo", input.clone(), Effect::Repeatable)]
        } else if let Some(input) = step.get("hang") {
            vec![activity("hang", input.clone(), if input == "once" { Effect::Once } else { Effect::Repeatable })]
        } else if let Some(wait) = step.get("wait") {
            self.waiting = Some((id.clone(), "somebody".to_owned(), now));
            let expires_ms = now + wait["expiresMs"].as_i64().unwrap_or(3_600_000);
            let heartbeat_timeout_ms = wait["heartbeatMs"].as_u64();
            vec![
                activity(
                    "hand-out",
                    json!({"token": callback_token_placeholder(&id), "as": wait["as"], "repeat": wait["repeat"]}),
                    Effect::Repeatable,
                ),
                Command::AwaitCallback { id: id.clone(), heartbeat_timeout_ms, expires_ms },
            ]
        } else if let Some(child) = step.get("child") {
            self.waiting = Some((id.clone(), "a child".to_owned(), now));
            vec![Command::StartChild(StartChild {
                id,
                kind: ProgramKind::Workflow,
                target: ChildTarget::Inline(child["steps"].clone()),
                input: Value::Null,
                message: None,
                session: None,
                env: BTreeMap::new(),
                timeout_ms: child["timeoutMs"].as_u64(),
                limits: Value::Null,
                awaited: child["awaited"].as_bool().unwrap_or(true),
                expires_ms: Some(now + 3_600_000),
                parent_close_policy: if child["abandon"] == true {
                    ParentClosePolicy::Abandon
                } else {
                    ParentClosePolicy::Cancel
                },
                approval: None,
                grant: None,
            })]
        } else if let Some(ask) = step.get("ask") {
            self.ask(id, ask, now)
        } else if let Some(ms) = step.get("timer").and_then(Value::as_i64) {
            vec![Command::StartTimer { id, due_ms: now + ms }]
        } else if let Some(size) = step.get("big").and_then(Value::as_u64) {
            self.last = Value::String("x".repeat(usize::try_from(size).expect("small")));
            self.advance(now)
        } else {
            let fault = Fault::new(fault_type::RUNTIME, 500, step["fail"].as_str().unwrap_or("unknown step"));
            self.end(Ending::Failed { fault, partial_output: None })
        }
    }

    fn ask(&mut self, id: OperationId, ask: &Value, now: i64) -> Vec<Command> {
        self.waiting = Some((id.clone(), PERSON.to_owned(), now));
        let expires_ms = now + ask["expiresMs"].as_i64().unwrap_or(3_600_000);
        vec![
            Command::Ask(Question {
                id: id.clone(),
                kind: if ask["doubt"] == true { QuestionKind::InDoubt } else { QuestionKind::ToolCall },
                tool: "pay".to_owned(),
                server: String::new(),
                arguments: ask["arguments"].clone(),
                message: "pay somebody".to_owned(),
                why: "it costs money".to_owned(),
                expires_ms,
            }),
            Command::StartTimer { id, due_ms: expires_ms },
        ]
    }

    fn asks(&self) -> bool {
        self.waiting.as_ref().is_some_and(|(_, on, _)| on == PERSON)
    }

    fn end(&mut self, ending: Ending) -> Vec<Command> {
        self.ended = true;
        vec![Command::End(ending)]
    }
}

impl Program for Script {
    fn on_input(&mut self, recorded: &Recorded) -> Result<Vec<Command>, ProgramError> {
        let now = recorded.time_ms;
        if self.ended {
            return Ok(Vec::new());
        }
        Ok(match &recorded.input {
            Input::Started(start) => {
                self.carried.clone_from(&start.carried_over);
                self.advance(now)
            }
            Input::ActivityCompleted { id, output } if self.waiting.is_none() && self.open.as_ref() == Some(id) => {
                self.last = output.clone();
                self.advance(now)
            }
            Input::TimerFired { id } if self.open.as_ref() == Some(id) && self.asks() => {
                self.last = json!("nobody decided");
                [vec![Command::CloseWait { id: id.clone() }], self.advance(now)].concat()
            }
            Input::TimerFired { id } if self.open.as_ref() == Some(id) => self.advance(now),
            Input::CallbackAnswered { id, outcome, .. } if self.open.as_ref() == Some(id) && self.asks() => {
                self.last = Decision::of(outcome).map_or(Value::Null, |decision| json!(decision));
                [vec![Command::CancelTimer { id: id.clone() }], self.advance(now)].concat()
            }
            Input::CallbackAnswered { id, outcome, .. } if self.open.as_ref() == Some(id) => {
                self.last = match outcome {
                    Outcome::Completed(output) => json!({"completed": output}),
                    Outcome::Failed(fault) => json!({"failed": fault.kind, "detail": fault.detail}),
                    Outcome::Cancelled { .. } => json!("cancelled"),
                };
                self.advance(now)
            }
            Input::ActivityFailed { fault, .. } => {
                self.end(Ending::Failed { fault: fault.clone(), partial_output: None })
            }
            Input::CancelRequested { reason } => {
                self.end(Ending::Cancelled { reason: reason.clone(), partial_output: None })
            }
            Input::TimeoutReached => self.end(Ending::TimedOut { partial_output: None }),
            _ => Vec::new(),
        })
    }

    fn activity_input(&self, _id: &OperationId) -> Option<Value> {
        None
    }

    fn check_decision(&self, _id: &OperationId, decision: &Decision) -> Result<(), Vec<String>> {
        if decision.arguments == Some(json!("bad")) { Err(vec!["is bad".to_owned()]) } else { Ok(()) }
    }

    fn carry_over(&self, phase: Phase, _ended_ms: i64) -> Option<Value> {
        (!self.carried.is_null()).then(|| json!({"before": self.carried, "phase": phase, "last": self.last}))
    }

    fn progress(&self) -> Progress {
        let waiting = self.waiting.iter().map(|(id, on, since_ms)| Waiting {
            id: id.clone(),
            reason: match on.as_str() {
                "a child" => WaitReason::Child,
                PERSON => WaitReason::Approval,
                _ => WaitReason::Callback,
            },
            on: on.clone(),
            since_ms: *since_ms,
            until_ms: None,
        });
        Progress {
            waiting: waiting.collect(),
            tasks_started: u32::try_from(self.next).expect("short"),
            ..Progress::default()
        }
    }

    fn snapshot(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a script is data")
    }
}

/// Makes Programs of scripts: JSON arrays of steps.
#[derive(Debug)]
pub struct Scripts;

impl Programs for Scripts {
    fn load(&self, _kind: ProgramKind, _digest: &Digest, definition: &[u8]) -> Result<Box<dyn Program>, Fault> {
        let steps = serde_json::from_slice(definition)
            .map_err(|error| Fault::new(fault_type::CONFIGURATION, 400, error.to_string()))?;
        Ok(Box::new(Script {
            steps,
            next: 0,
            last: Value::Null,
            open: None,
            waiting: None,
            ended: false,
            carried: Value::Null,
        }))
    }

    fn restore(
        &self,
        _kind: ProgramKind,
        _digest: &Digest,
        _definition: &[u8],
        snapshot: &[u8],
    ) -> Result<Box<dyn Program>, Fault> {
        let script: Script = serde_json::from_slice(snapshot)
            .map_err(|error| Fault::new(fault_type::CONFIGURATION, 400, error.to_string()))?;
        Ok(Box::new(script))
    }
}

/// What activities were run, and the tokens that were handed out.
#[derive(Debug, Default)]
pub struct World {
    /// How often each activity was begun, by its name and idempotency key.
    pub runs: Mutex<HashMap<String, u32>>,
    /// Tokens by the name under which they were handed out.
    pub tokens: Mutex<HashMap<String, String>>,
    changed: tokio::sync::Notify,
}

impl World {
    /// How often activities were begun whose name or key has this in it.
    pub fn runs_of(&self, key_part: &str) -> u32 {
        self.runs.lock().unwrap().iter().filter(|(key, _)| key.contains(key_part)).map(|(_, runs)| runs).sum()
    }

    /// The token that was handed out under a name, waiting until it is.
    pub async fn token(&self, name: &str) -> String {
        poll("a token", || self.tokens.lock().unwrap().get(name).cloned(), &self.changed).await
    }

    /// Waits until an activity of this name was begun.
    pub async fn began(&self, activity: &str) {
        poll("an activity", || (self.runs_of(activity) > 0).then_some(()), &self.changed).await;
    }
}

pub(crate) async fn poll<T>(what: &str, mut look: impl FnMut() -> Option<T>, changed: &tokio::sync::Notify) -> T {
    let work = async {
        loop {
            let next = changed.notified();
            if let Some(found) = look() {
                return found;
            }
            let _ = tokio::time::timeout(Duration::from_millis(20), next).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), work).await.unwrap_or_else(|_| panic!("{what} did not come"))
}

#[async_trait::async_trait]
impl Activities for World {
    async fn run(&self, task: ActivityTask) -> Result<Value, Fault> {
        *self.runs.lock().unwrap().entry(format!("{} {}", task.activity, task.idempotency_key)).or_default() += 1;
        self.changed.notify_waiters();
        match task.activity.as_str() {
            "hand-out" => {
                let text = |field: &str| task.input[field].as_str().unwrap_or_default().to_owned();
                self.tokens.lock().unwrap().insert(text("as"), text("token"));
                self.changed.notify_waiters();
                // A service that repeats what it was sent, as many do.
                Ok(if task.input["repeat"] == true { task.input } else { Value::Null })
            }
            "hang" => std::future::pending().await,
            _ => Ok(task.input),
        }
    }
}
