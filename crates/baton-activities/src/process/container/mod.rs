//! The activity `container`: a process in a container, by the command line of `docker` or `podman`.
//!
//! Input: `image`, `name`, `command`, `ports` and `volumes` (host's side to container's), `pullPolicy` (`ifNotPresent`,
//! `always`, `never`), `cleanup` (`always`, `never`, `eventually`) and `cleanupAfter` in milliseconds. The rest is in
//! [`process`](super). A `command` is a script of the container's shell, with the arguments as `$1`, `$2` and so on; without
//! one they are the arguments of the image's own command.
//!
//! # Invariants
//! - A container bears a label made of the task's idempotency key. A repeat after a crash finds it by that, and waits for it
//!   instead of running another.
//! - What containers may do is what commands may do: network, memory and processes are those of [`RunOptions`](crate::RunOptions), and of the
//!   host's files they see those that [`RunOptions::container_volumes`](crate::RunOptions::container_volumes) names.
//! - The future dropped, the container is killed.
//! - A container bears the time at which its task is over, and what becomes of it then. What a server left that was killed, others
//!   kill and remove by that, unless they wait for it themselves: [`Container::sweep`](Activity::sweep).
//!
//! # Deliberately absent
//! The engine's own protocol: its command line is the interface that all engines share. A sandbox around that command line:
//! it speaks to its daemon as the server's user.

mod engine;
mod plan;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use baton_execution::{ActivityTask, Fault, fault_type};
use serde::Deserialize;
use serde_json::Value;

use self::{
    engine::Engine,
    plan::{Cleanup, Plan},
};
use super::{Given, in_background, read};
use crate::{
    Activity,
    options::Commands,
    sandbox::{Finished, Sandbox, SandboxError},
};

/// Label with the digest of the task's idempotency key.
const LABEL_TASK: &str = "baton.dev/task";
/// Label with the milliseconds after its end at which a container is to be removed.
const LABEL_REMOVE: &str = "baton.dev/remove-after-ms";
/// Label with the time, in milliseconds since 1970, after which nobody waits for a container.
const LABEL_DEADLINE: &str = "baton.dev/deadline-ms";
/// How much later than its task a container is taken for left behind, in milliseconds: whoever waits for it ends it first.
const DEADLINE_GRACE_MS: u64 = 60_000;

/// Template for the state of a container.
const STATE: &str = "{{.State.Status}}";

/// Whether a container in that state was never started.
fn is_new(state: &str) -> bool {
    matches!(state, "created" | "configured" | "initialized")
}

pub(crate) struct Container {
    sandbox: Sandbox,
    attended: Attended,
}

/// Containers that this process waits for.
#[derive(Clone, Default)]
struct Attended(Arc<Mutex<BTreeSet<String>>>);

impl Attended {
    fn ids(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    #[serde(flatten)]
    plan: Plan,
    #[serde(flatten)]
    given: Given,
}

/// A container that ends with the future that holds this.
struct Running {
    engine: Engine,
    id: String,
    attended: Attended,
    cleanup: Cleanup,
    /// Whether it came to its own end.
    ended: bool,
}

impl Container {
    pub(crate) fn new(sandbox: &Sandbox) -> Self {
        Self { sandbox: sandbox.clone(), attended: Attended::default() }
    }
}

#[async_trait::async_trait]
impl Activity for Container {
    async fn run(&self, task: &ActivityTask) -> Result<Value, Fault> {
        // Finding the engine reads directories: not on a thread that only wants to know whether there is a result already.
        tokio::task::yield_now().await;
        let Input { plan, given } = read(task)?;
        let options = self.sandbox.options();
        if options.commands == Commands::Off {
            return Err(SandboxError::Off.fault());
        }
        let engine = Engine::find(options)?;
        let (digest, name) = plan::names(task, plan.name());
        let stdin = given.stdin();
        let deadline_ms = now_ms().saturating_add(task.start_to_close_ms).saturating_add(DEADLINE_GRACE_MS);
        let create = plan.create(options, task, (&digest, &name), deadline_ms, &given)?;
        let found = engine.list(&format!("label={LABEL_TASK}={digest}")).await?;
        let (id, begun) = match found.into_iter().next() {
            Some(id) => {
                let state = engine.inspect(&id, STATE).await?;
                (id, !is_new(&state))
            }
            None => (engine.create(create).await?, false),
        };
        if begun && !stdin.is_empty() {
            let detail = format!(
                "the container {id} was begun before the server stopped; whether it got all of its input is not known"
            );
            return Err(Fault::new(fault_type::IN_DOUBT, 500, detail).non_retryable());
        }
        let attended = self.attended.clone();
        attended.ids().insert(id.clone());
        let running = Running { engine, id, attended, cleanup: plan.cleanup(), ended: false };
        let bytes_max = options.output_bytes_max;
        if given.awaited {
            let finished =
                if begun { running.rejoin(bytes_max).await? } else { running.attend(stdin, bytes_max).await? };
            return given.result.output(&finished);
        }
        if stdin.is_empty() {
            if !begun {
                running.engine.start(&running.id).await?;
            }
            in_background(task, running.rejoin(bytes_max));
        } else {
            in_background(task, running.attend(stdin, bytes_max));
        }
        Ok(Value::Null)
    }

    async fn sweep(&self) {
        let options = self.sandbox.options();
        if options.commands == Commands::Off {
            return;
        }
        let Ok(engine) = Engine::find(options) else { return };
        if let Err(fault) = sweep(&engine, &self.attended).await {
            tracing::debug!(%fault, "containers that were left are looked for again later");
        }
    }
}

impl Running {
    /// Starts the container and stays with it to its end.
    async fn attend(self, stdin: Vec<u8>, bytes_max: usize) -> Result<Finished, Fault> {
        let interactive = !stdin.is_empty();
        let said = self.engine.attach(&self.id, interactive, stdin, bytes_max).await?;
        // The command line fails with codes of its own, too, and of a container that was never started engines say that its code
        // is 0.
        if said.code != 0 && is_new(&self.engine.inspect(&self.id, STATE).await?) {
            self.engine.remove(&self.id).await;
            return Err(self.engine.refusal("start", &said.stderr));
        }
        self.finish(said).await
    }

    /// Waits for the end of a container that was started before.
    async fn rejoin(self, bytes_max: usize) -> Result<Finished, Fault> {
        self.engine.wait(&self.id).await?;
        let said = self.engine.logs(&self.id, bytes_max).await?;
        self.finish(said).await
    }

    /// What the engine's command line said is the container's output; its code may be that of the command line itself.
    async fn finish(mut self, said: Finished) -> Result<Finished, Fault> {
        let code = self.engine.wait(&self.id).await?;
        self.ended = true;
        match self.cleanup {
            Cleanup::Always => self.engine.remove(&self.id).await,
            Cleanup::Never => {}
            Cleanup::Eventually(after_ms) => remove_later(&self.engine, &self.id, after_ms),
        }
        Ok(Finished { code, ..said })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.attended.ids().remove(&self.id);
        if self.ended {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (engine, id, cleanup) = (self.engine.clone(), self.id.clone(), self.cleanup);
        runtime.spawn(async move {
            match cleanup {
                Cleanup::Always => engine.remove(&id).await,
                Cleanup::Never => engine.kill(&id).await,
                Cleanup::Eventually(after_ms) => {
                    engine.kill(&id).await;
                    remove_later(&engine, &id, after_ms);
                }
            }
        });
    }
}

fn remove_later(engine: &Engine, id: &str, after_ms: u64) {
    let (engine, id) = (engine.clone(), id.to_owned());
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(after_ms)).await;
        engine.remove(&id).await;
    });
}

/// Kills what still runs when its task is over, and removes what was to be removed by now, unless somebody here waits for it.
async fn sweep(engine: &Engine, attended: &Attended) -> Result<(), Fault> {
    let mut left = engine.list_running(&format!("label={LABEL_DEADLINE}")).await?;
    left.extend(engine.list(&format!("label={LABEL_REMOVE}")).await?);
    left.sort_unstable();
    left.dedup();
    for id in left {
        let label = |name: &str| format!("{{{{index .Config.Labels \"{name}\"}}}}");
        let template = format!("{STATE} {} {}", label(LABEL_DEADLINE), label(LABEL_REMOVE));
        // It may be gone by now.
        let Ok(said) = engine.inspect(&id, &template).await else { continue };
        let mut said = said.split(' ');
        let state = said.next().unwrap_or_default();
        let mut number = || said.next().and_then(|text| text.parse::<u64>().ok());
        let (Some(deadline_ms), remove_after_ms) = (number(), number()) else { continue };
        if now_ms() < deadline_ms || attended.ids().contains(&id) {
            continue;
        }
        if remove_after_ms.is_some_and(|after_ms| now_ms() >= deadline_ms.saturating_add(after_ms)) {
            engine.remove(&id).await;
        } else if matches!(state, "running" | "paused" | "restarting") {
            engine.kill(&id).await;
        } else {
            continue;
        }
        tracing::info!(container = id, "ended a container that nobody waits for any more");
    }
    Ok(())
}

/// The wall clock.
fn now_ms() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or_default()
}
