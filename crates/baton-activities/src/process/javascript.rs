//! Scripts in JavaScript (ES2024), by QuickJS in this process: an engine of its own for each script, which can reach nothing but
//! what [`PRELUDE`] gives it.
//!
//! A script is a module. It finds what the language has, and of Node.js `console`, `process` (`argv`, `env`, `stdin.fd`,
//! `stdout.write`, `stderr.write`, `exit`, `exitCode`), and `readFileSync` of `node:fs` for its standard input. No files, no
//! network, no timers, no other modules. `console.log` writes objects as JSON.
//!
//! # Failure
//! An exception that nobody catches is the exit code 1 with its text on standard error, as Node.js has it; so is a promise
//! that nothing will settle (13). Too much memory is such an exception; too much time or output ends the script.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use rquickjs::{
    CatchResultExt as _, CaughtError, Context, Ctx, Exception, Function, Module, Runtime, Value,
    loader::{BuiltinLoader, BuiltinResolver},
};
use serde_json::json;

use crate::sandbox::Finished;

/// Stack of a script; the thread that it runs on has more.
const STACK_BYTES_MAX: usize = 512 << 10;
/// Exit code of an exception that nobody catches.
const CODE_EXCEPTION: i32 = 1;
/// Exit code of a script that waits for what never comes, as Node.js has it.
const CODE_UNSETTLED: i32 = 13;
/// What scripts find.
const PRELUDE: &str = include_str!("prelude.js");
/// Modules that can be imported, and what they export of what [`PRELUDE`] defines.
const MODULES: [(&str, &str); 2] = [
    ("fs", "export const readFileSync = globalThis.__fs.readFileSync; export default globalThis.__fs;"),
    ("process", "export const { argv, env, stdin, stdout, stderr, exit } = process; export default process;"),
];

/// A script and what it is given.
pub(super) struct Job {
    pub(super) code: String,
    pub(super) arguments: Vec<String>,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) stdin: String,
    pub(super) memory_bytes_max: u64,
    pub(super) output_bytes_max: usize,
}

/// Why a script came to no end of its own.
pub(super) enum Failure {
    /// It took too long, or nobody waits for it any more.
    Stopped,
    /// It wrote too much.
    Output { stream: &'static str },
    /// The engine could not be made ready.
    Engine(String),
}

/// What a script did so far.
#[derive(Default)]
struct Told {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// The stream that is full.
    full: Option<&'static str>,
    /// What it said to exit with.
    exit: Option<i32>,
}

/// Runs a script to its end. Blocks.
pub(super) fn run(job: &Job, limit: Duration, stopped: Arc<AtomicBool>) -> Result<Finished, Failure> {
    let engine = |error: rquickjs::Error| Failure::Engine(error.to_string());
    let runtime = Runtime::new().map_err(engine)?;
    runtime.set_memory_limit(usize::try_from(job.memory_bytes_max).unwrap_or(usize::MAX));
    runtime.set_max_stack_size(STACK_BYTES_MAX);
    let (mut resolver, mut loader) = (BuiltinResolver::default(), BuiltinLoader::default());
    for (name, source) in MODULES {
        for name in [name.to_owned(), format!("node:{name}")] {
            resolver.add_module(name.clone());
            loader.add_module(name, source);
        }
    }
    runtime.set_loader(resolver, loader);
    let told: Rc<RefCell<Told>> = Rc::default();
    let began = Instant::now();
    let overdue = move || stopped.load(Relaxed) || began.elapsed() > limit;
    let (watched, is_overdue) = (Rc::clone(&told), overdue.clone());
    let is_over = move || {
        let told = watched.borrow();
        told.exit.is_some() || told.full.is_some() || is_overdue()
    };
    runtime.set_interrupt_handler(Some(Box::new(is_over.clone())));
    let context = Context::full(&runtime).map_err(engine)?;
    let code = context.with(|ctx| {
        prepare(&ctx, job, &told).map_err(engine)?;
        Ok(evaluate(&ctx, &job.code, &told, is_over))
    })?;
    let mut told = told.borrow_mut();
    if let Some(stream) = told.full {
        return Err(Failure::Output { stream });
    }
    if told.exit.is_none() && overdue() {
        return Err(Failure::Stopped);
    }
    let code = told.exit.unwrap_or(code);
    Ok(Finished { code, stdout: std::mem::take(&mut told.stdout), stderr: std::mem::take(&mut told.stderr) })
}

fn prepare(ctx: &Ctx<'_>, job: &Job, told: &Rc<RefCell<Told>>) -> rquickjs::Result<()> {
    let (writes, exits, bytes_max) = (Rc::clone(told), Rc::clone(told), job.output_bytes_max);
    let write = Function::new(ctx.clone(), move |ctx: Ctx<'_>, is_error: bool, text: String| {
        let mut told = writes.borrow_mut();
        let stream = if is_error { &mut told.stderr } else { &mut told.stdout };
        stream.extend_from_slice(text.as_bytes());
        if stream.len() <= bytes_max {
            return Ok(());
        }
        told.full = Some(if is_error { "standard error" } else { "standard output" });
        Err(Exception::throw_message(&ctx, "too much output"))
    })?;
    // The interrupt handler ends whatever catches this exception.
    let exit = Function::new(ctx.clone(), move |ctx: Ctx<'_>, code: i32| -> rquickjs::Result<()> {
        exits.borrow_mut().exit = Some(code);
        Err(Exception::throw_message(&ctx, "exit"))
    })?;
    let data = json!({"arguments": job.arguments, "environment": job.environment, "stdin": job.stdin});
    let data = ctx.json_parse(data.to_string())?;
    let begin: Function<'_> = ctx.eval(PRELUDE)?;
    begin.call((write, exit, data))
}

/// Runs the script and everything that it put off; gives its exit code.
fn evaluate(ctx: &Ctx<'_>, code: &str, told: &Rc<RefCell<Told>>, is_over: impl Fn() -> bool) -> i32 {
    let begun = Module::evaluate(ctx.clone(), "script.js", code).catch(ctx);
    let promise = match begun {
        Ok(promise) => promise,
        Err(error) => return complain(&error, told),
    };
    // Short jobs may put off others without end, and none of them is long enough to be interrupted.
    while !is_over() && ctx.execute_pending_job() {}
    match promise.result::<Value<'_>>().map(|result| result.catch(ctx)) {
        Some(Ok(_)) => exit_code(ctx),
        Some(Err(error)) => complain(&error, told),
        None => {
            told.borrow_mut().stderr.extend_from_slice(b"the script waits for a promise that nothing settles\n");
            CODE_UNSETTLED
        }
    }
}

/// `process.exitCode`, as the script left it.
fn exit_code(ctx: &Ctx<'_>) -> i32 {
    ctx.eval("Number(process.exitCode ?? 0) | 0").catch(ctx).unwrap_or(CODE_EXCEPTION)
}

fn complain(error: &CaughtError<'_>, told: &Rc<RefCell<Told>>) -> i32 {
    // What ends a script that says so itself is an exception, too.
    if let Some(code) = told.borrow().exit {
        return code;
    }
    let text = match error {
        CaughtError::Exception(exception) => {
            let object = exception.as_object();
            let name = object.get::<_, String>("name").unwrap_or_else(|_| "Error".to_owned());
            let message = exception.message().unwrap_or_default();
            format!("{}Uncaught {name}: {message}", exception.stack().unwrap_or_default())
        }
        CaughtError::Value(value) => {
            let text = value.as_string().and_then(|text| text.to_string().ok());
            format!("Uncaught {}", text.unwrap_or_else(|| value.type_name().to_string()))
        }
        CaughtError::Error(error) => error.to_string(),
    };
    let mut told = told.borrow_mut();
    told.stderr.extend_from_slice(text.as_bytes());
    told.stderr.push(b'\n');
    CODE_EXCEPTION
}
