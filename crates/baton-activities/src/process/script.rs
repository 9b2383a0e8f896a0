//! The activity `script`: JavaScript in this process, Python by `python3` in the sandbox.
//!
//! Scripts in JavaScript have threads of their own, so that nothing else waits for one of theirs, and so many run at a time
//! as [`RunOptions::scripts_max`](crate::RunOptions::scripts_max) says, which limits the memory of all together. Others wait for
//! their turn, within the time of their task.
//!
//! Input: `language` (`js`, `python`), and `code`, the text of the script, or `source`, `{"endpoint", "authentication"}`,
//! where it is fetched from each time. The rest is in [`process`](super). What JavaScript finds is in [`javascript`].

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use baton_execution::{ActivityTask, Fault, fault_type};
use reqwest::{Method, Url, header::HeaderMap};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::{Given, in_background, javascript, read, run, text_of};
use crate::{
    Activity,
    auth::Authenticator,
    outgoing::{Deadline, Request, shown, status_fault},
    redact::Secrets,
    sandbox::{Finished, Job, Sandbox, SandboxError},
};

/// Longest script, in bytes.
const CODE_BYTES_MAX: usize = 1 << 20;
/// The file that a script in Python is.
const PYTHON_FILE: &str = "script.py";

pub(crate) struct Script {
    sandbox: Sandbox,
    authenticator: Arc<Authenticator>,
    /// Whose turn it is to run in this process.
    turns: Arc<Semaphore>,
}

#[derive(Deserialize)]
struct Input {
    language: Language,
    #[serde(default)]
    code: Value,
    #[serde(default)]
    source: Option<Source>,
    #[serde(flatten)]
    given: Given,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Language {
    Js,
    Python,
}

#[derive(Deserialize)]
struct Source {
    endpoint: String,
    #[serde(default)]
    authentication: Value,
}

impl Script {
    pub(crate) fn new(sandbox: &Sandbox, authenticator: &Arc<Authenticator>) -> Self {
        let turns = Arc::new(Semaphore::new(sandbox.options().scripts_max.max(1)));
        Self { sandbox: sandbox.clone(), authenticator: Arc::clone(authenticator), turns }
    }

    async fn fetch(&self, source: &Source, task: &ActivityTask) -> Result<String, Fault> {
        let refused = |detail: String| Fault::new(fault_type::CONFIGURATION, 400, detail).non_retryable();
        let url = Url::parse(&source.endpoint)
            .map_err(|error| refused(format!("the endpoint of the script is not an absolute URL: {error}")))?;
        let mut secrets = Secrets::default();
        let mut credentials = self.authenticator.credentials(&source.authentication, task, &mut secrets).await?;
        let request = Request {
            method: Method::GET,
            url: url.clone(),
            headers: HeaderMap::new(),
            body: None,
            follow_redirects: true,
            deadline: Deadline::of(task),
        };
        let sent = self.authenticator.send(request, &mut credentials, &mut secrets).await;
        let response = sent.map_err(|failure| failure.fault)?;
        if !response.status.is_success() {
            return Err(status_fault(&Method::GET, &url, &response, &secrets));
        }
        String::from_utf8(response.body).map_err(|_| refused(format!("the script at {} is not UTF-8", shown(&url))))
    }
}

#[async_trait::async_trait]
impl Activity for Script {
    async fn run(&self, task: &ActivityTask) -> Result<Value, Fault> {
        let Input { language, code, source, given } = read(task)?;
        let code = match &source {
            Some(source) => self.fetch(source, task).await?,
            None => text_of(&code),
        };
        if code.len() > CODE_BYTES_MAX {
            let detail = format!("the script has {} bytes; allowed are 0 to {CODE_BYTES_MAX}", code.len());
            return Err(Fault::new(fault_type::TOO_LARGE, 413, detail).non_retryable());
        }
        match language {
            Language::Js => self.javascript(code, &given, task).await,
            Language::Python => {
                let head = ["-I".to_owned(), PYTHON_FILE.to_owned()];
                let job = Job {
                    program: "python3".to_owned(),
                    arguments: head.into_iter().chain(given.arguments()).collect(),
                    environment: given.environment(),
                    files: vec![(PYTHON_FILE.to_owned(), code.into_bytes())],
                    ..Job::default()
                };
                run(&self.sandbox, job, &given, task).await
            }
        }
    }
}

impl Script {
    async fn javascript(&self, code: String, given: &Given, task: &ActivityTask) -> Result<Value, Fault> {
        let options = self.sandbox.options();
        let job = javascript::Job {
            code,
            arguments: given.arguments(),
            environment: given.environment(),
            stdin: String::from_utf8_lossy(&given.stdin()).into_owned(),
            memory_bytes_max: options.memory_bytes_max,
            output_bytes_max: options.output_bytes_max,
        };
        // Before it is said to be running, awaited or not: what waits is not kept without end.
        let turn = Arc::clone(&self.turns).acquire_owned().await.expect("it is never closed");
        let work = evaluate(job, Limit::of(task, options.cpu_seconds_max), turn);
        if given.awaited {
            return given.result.output(&work.await?);
        }
        in_background(task, work);
        Ok(Value::Null)
    }
}

/// How long a script may run, and what says so.
#[derive(Clone, Copy)]
struct Limit {
    time: Duration,
    is_of_processor: bool,
}

impl Limit {
    /// A script waits for nothing, so all of its time is the processor's.
    fn of(task: &ActivityTask, cpu_seconds_max: u64) -> Self {
        let (task, processor) = (Duration::from_millis(task.start_to_close_ms), Duration::from_secs(cpu_seconds_max));
        Self { time: task.min(processor), is_of_processor: processor < task }
    }

    fn fault(self) -> Fault {
        let named = if self.is_of_processor { ", the setting 'run.cpu-time'" } else { "" };
        let detail = format!("the script did not end within {} ms{named}", self.time.as_millis());
        Fault::new(fault_type::TIMEOUT, 408, detail)
    }
}

/// Runs a script on a thread of its own, which keeps its turn to its end; dropped, it stops the script.
async fn evaluate(job: javascript::Job, limit: Limit, turn: OwnedSemaphorePermit) -> Result<Finished, Fault> {
    /// Tells the script to stop.
    struct Stop(Arc<AtomicBool>);
    impl Drop for Stop {
        fn drop(&mut self) {
            self.0.store(true, Relaxed);
        }
    }
    let stop = Stop(Arc::default());
    let stopped = Arc::clone(&stop.0);
    let bytes_max = job.output_bytes_max;
    let unready = |why: String| Fault::new(fault_type::RUNTIME, 500, format!("set up the script: {why}"));
    let (tell, told) = oneshot::channel();
    let run = move || {
        let ran = javascript::run(&job, limit.time, stopped);
        drop(turn);
        // Nobody may wait for it any more.
        _ = tell.send(ran);
    };
    std::thread::Builder::new().name("javascript".to_owned()).spawn(run).map_err(|error| unready(error.to_string()))?;
    let ran = told.await;
    drop(stop);
    match ran {
        Ok(Ok(finished)) => Ok(finished),
        Ok(Err(javascript::Failure::Output { stream })) => Err(SandboxError::Output { stream, bytes_max }.fault()),
        Ok(Err(javascript::Failure::Stopped)) => Err(limit.fault()),
        Ok(Err(javascript::Failure::Engine(why))) => Err(unready(why)),
        Err(_panic) => Err(Fault::new(fault_type::RUNTIME, 500, "the script's engine met a problem of its own")),
    }
}
