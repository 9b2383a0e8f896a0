//! Everything that must hold, in the order in which it is soonest known.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, bail};

/// The root of the project.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

pub(crate) fn run() -> anyhow::Result<()> {
    let started = Instant::now();
    need_programs()?;
    step("format", cargo(&["fmt", "--all", "--check"]))?;
    eprintln!("== structure");
    crate::tidy::run()?;
    step("lints", cargo(&["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"]))?;
    step("documentation", cargo(&["doc", "--workspace", "--no-deps", "--quiet"]))?;
    eprintln!("== tools of the tests");
    crate::tools::run()?;
    if has("cargo-nextest") {
        step("tests", cargo(&["nextest", "run", "--workspace", "--all-features", "--no-fail-fast"]))?;
    } else {
        step("tests", cargo(&["test", "--workspace", "--all-features", "--all-targets"]))?;
    }
    step("release build", cargo(&["build", "--release", "--package", "baton-cli"]))?;
    let mut main_job = Command::new(root().join("target/release/baton"));
    main_job.args(["run", "-f", "examples/incident-triage"]).current_dir(root());
    step("the main job, with the release binary", main_job)?;
    eprintln!("== all of it holds, after {} s", started.elapsed().as_secs());
    Ok(())
}

pub(crate) fn bench(arguments: &[String]) -> anyhow::Result<()> {
    let mut command = cargo(&["run", "--release", "--quiet", "--package", "baton-tests", "--bin", "baton-bench", "--"]);
    command.args(arguments);
    step("benchmarks", command)
}

fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root()).env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private-intra-doc-links");
    if !root().join("target/debug/incremental").exists() {
        // A first build has nothing to build upon, and a machine that is thrown away never will: that is time and gigabytes.
        command.env("CARGO_INCREMENTAL", "0");
    }
    command
}

pub(crate) fn step(name: &str, mut command: Command) -> anyhow::Result<()> {
    eprintln!("== {name}");
    let started = Instant::now();
    let status = command.status().with_context(|| format!("start {}", command.get_program().display()))?;
    if !status.success() {
        bail!("{name}: {} ended with {status}", command.get_program().display());
    }
    eprintln!("== {name}: {} s", started.elapsed().as_secs());
    Ok(())
}

/// The example's own service is a Python script that answers with `curl`, commands run in a sandbox of bubblewrap, and the tools
/// of the tests are a Python environment, a program of Node.js, PostgreSQL and mosquitto: what is missing is installed from
/// Debian.
fn need_programs() -> anyhow::Result<()> {
    let mut missing: Vec<&str> = ["python3", "curl"].into_iter().filter(|program| !has(program)).collect();
    if !crate::tools::can_make() {
        missing.push("python3-venv");
    }
    if !has("bwrap") {
        missing.push("bubblewrap");
    }
    if !crate::tools::has_postgres() {
        missing.push("postgresql");
    }
    if !crate::tools::has_mosquitto() {
        missing.push("mosquitto");
    }
    missing.extend(
        [("node", "nodejs"), ("npm", "npm")].into_iter().filter(|(it, _)| !has(it)).map(|(_, package)| package),
    );
    if missing.is_empty() { Ok(()) } else { install(&missing) }
}

/// Installs packages of Debian's.
pub(crate) fn install(packages: &[&str]) -> anyhow::Result<()> {
    let mut update = Command::new("apt-get");
    update.args(["update", "-q"]);
    step("package lists", update)?;
    let mut install = Command::new("apt-get");
    install.args(["install", "-y", "-q", "--no-install-recommends"]).args(packages);
    step("missing programs", install)
}

pub(crate) fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
