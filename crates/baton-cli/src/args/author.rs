//! Arguments of the commands for authors: they work on files, without a server.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::kind::KindArg;

#[derive(Debug, Args)]
pub(crate) struct ValidateArgs {
    /// Manifest, folder of manifests, or - for stdin
    #[arg(value_name = "FILE|DIR|-", required = true)]
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct FormatArgs {
    /// Manifest, folder of manifests, or - for stdin, which goes to stdout
    #[arg(value_name = "FILE|DIR|-", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Change nothing; say which files are not in this form, with exit code 1
    #[arg(long)]
    pub(crate) check: bool,
}

/// Forms of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum GraphFormat {
    /// Lines for a terminal.
    Text,
    /// A flowchart for Mermaid.
    Mermaid,
    /// A picture.
    Svg,
}

#[derive(Debug, Args)]
pub(crate) struct GraphArgs {
    /// Manifest, folder of manifests, or - for stdin
    #[arg(value_name = "FILE|DIR|-", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// How to draw it
    #[arg(long, short, value_enum, default_value = "text")]
    pub(crate) format: GraphFormat,
    /// Which workflow, if there are several
    #[arg(long, value_name = "NAME")]
    pub(crate) workflow: Option<String>,
    /// Write it to this file instead of stdout
    #[arg(long, value_name = "FILE")]
    pub(crate) to: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// Test file, folder of files that end in .test.yaml, or - for stdin
    #[arg(value_name = "FILE|DIR|-", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Only cases whose name has this in it
    #[arg(long, value_name = "TEXT")]
    pub(crate) filter: Option<String>,
    /// Tell which tasks were run, in per cent, and which never were
    #[arg(long)]
    pub(crate) coverage: bool,
    /// Write the result to this file as JUnit's XML, for CI systems
    #[arg(long, value_name = "FILE")]
    pub(crate) junit: Option<PathBuf>,
    /// Print a test file for the workflow in FILE instead, from what happened in this execution on a server
    #[arg(long, value_name = "wfx/NAME", conflicts_with_all = ["filter", "coverage", "junit"])]
    pub(crate) record: Option<KindArg>,
}
