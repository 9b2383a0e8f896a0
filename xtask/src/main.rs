//! Developer tasks. `cargo xtask ci` is everything that must hold, on a desk as anywhere.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a developer's tool speaks on the terminal")]

mod ci;
mod tidy;
mod tools;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Developer tasks of Baton")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Format, lints, structure, tests, and the main job with the release binary.
    Ci,
    /// Structure: who may depend on whom, sizes of files, a page for every error reason.
    Tidy,
    /// What the tests need beside Rust: Temporal's dev server, SDKs and servers of protocols, in target/tools.
    Tools,
    /// The benchmarks, as a table. Runs the program `baton-bench`, which is built with optimisation.
    #[command(disable_help_flag = true)]
    Bench {
        /// Passed on; `--help` lists them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().task {
        Task::Ci => ci::run(),
        Task::Tidy => tidy::run(),
        Task::Tools => tools::run(),
        Task::Bench { arguments } => ci::bench(&arguments),
    }
}
