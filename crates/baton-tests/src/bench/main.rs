//! The benchmarks: what an execution, an activity and a handshake cost, fsynced before anything is acknowledged.
//!
//! One run on one machine prints one table, with the raw figures of the disk and of the store beside it. Absolute
//! figures vary with the machine and its neighbours; the ratios within a run are what to compare.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints a table")]
#![expect(clippy::cast_precision_loss, reason = "counts of a short run, printed with few digits")]

mod agent;
mod crash;
mod large;
mod parked;
mod site;
mod table;
mod temporal;
mod throughput;

use std::{path::PathBuf, time::Duration};

use clap::{Parser, Subcommand, ValueEnum};
use table::Table;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[derive(Parser)]
#[command(name = "baton-bench", about = "Benchmarks of the engines and the store")]
struct Arguments {
    /// Where executions run. With `temporal`, what Baton costs its callers there is measured too.
    #[arg(long, value_enum, default_value_t = Engine::Embedded)]
    engine: Engine,
    /// A short run: a second for each row at most, few executions parked or killed. Its figures are rough.
    #[arg(long)]
    quick: bool,
    /// Seconds of each measured row.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Executions parked at once, one or more figures.
    #[arg(long, value_delimiter = ',', default_values_t = [10_000, 100_000])]
    parked: Vec<usize>,
    /// With `--engine temporal`, callers at a time; Baton's own executions are measured at the first and the last.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64])]
    widths: Vec<usize>,
    /// Executions in flight when the process is killed.
    #[arg(long, default_value_t = 1000)]
    in_flight: usize,
    /// Iterations of the loop of one execution; it is measured with a tenth of them, too.
    #[arg(long, default_value_t = 10_000)]
    iterations: usize,
    /// Parallel branches of one execution.
    #[arg(long, default_value_t = 1000)]
    branches: usize,
    /// Only rows whose name contains one of these.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Where the data goes; a folder of its own is made in it and removed.
    #[arg(long, default_value = "target/bench")]
    directory: PathBuf,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Engine {
    Embedded,
    Temporal,
}

/// Most of a short run: seconds of a row, executions parked, executions killed.
const QUICK: (f64, usize, usize) = (1.0, 1000, 100);
/// The same for iterations and branches.
const QUICK_LARGE: (usize, usize) = (1000, 100);

impl Arguments {
    fn shortened(mut self) -> Self {
        if self.quick {
            let (seconds, parked, in_flight) = QUICK;
            self.seconds = self.seconds.min(seconds);
            self.parked = vec![self.parked.iter().copied().min().unwrap_or(parked).min(parked)];
            self.in_flight = self.in_flight.min(in_flight);
            self.iterations = self.iterations.min(QUICK_LARGE.0);
            self.branches = self.branches.min(QUICK_LARGE.1);
        }
        self
    }
}

/// Halves of a measurement that need a process of their own.
#[derive(Subcommand)]
enum Part {
    /// Opens a store with parked executions, answers one, then all.
    #[command(hide = true)]
    Answer { directory: PathBuf, tokens: PathBuf, asked_ms: u64 },
    /// Starts an execution of a long loop and works until it is killed.
    #[command(hide = true)]
    InLoop { directory: PathBuf, count: usize },
    /// Starts executions of ten slow steps and works until it is killed.
    #[command(hide = true)]
    InFlight { directory: PathBuf, count: usize },
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse().shortened();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match &arguments.part {
        Some(Part::Answer { directory, tokens, asked_ms }) => {
            runtime.block_on(parked::answer(directory, tokens, *asked_ms))
        }
        Some(Part::InLoop { directory, count }) => runtime.block_on(large::in_loop(directory, *count)),
        Some(Part::InFlight { directory, count }) => runtime.block_on(crash::in_flight(directory, *count)),
        None if arguments.engine == Engine::Temporal => runtime.block_on(temporal::measure(&arguments)),
        None => runtime.block_on(measure(&arguments)),
    }
}

async fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    std::fs::create_dir_all(&arguments.directory)?;
    let folder = tempfile::tempdir_in(&arguments.directory)?;
    let wanted =
        |name: &str| arguments.only.is_empty() || arguments.only.iter().any(|part| name.contains(part.as_str()));
    let length = Duration::from_secs_f64(arguments.seconds);
    let mut table = Table::new();
    if wanted("raw") {
        raw(folder.path(), arguments.seconds, &mut table)?;
    }
    for (work, widths) in [
        (throughput::Work::NoOp, [1, 64, 256].as_slice()),
        (throughput::Work::TenActivities, [1, 64, 256].as_slice()),
        (throughput::Work::TenHttpActivities, [1, 64].as_slice()),
        (throughput::Work::Handshake, [1, 64].as_slice()),
    ] {
        for width in widths.iter().filter(|_| wanted(work.name())) {
            throughput::measure(folder.path(), work, *width, length, &mut table).await?;
        }
    }
    if wanted("over gRPC") {
        throughput::over_grpc(folder.path(), 64, length, &mut table).await?;
    }
    if wanted("answer") {
        throughput::answer_to_end(folder.path(), length, &mut table).await?;
    }
    for count in arguments.parked.iter().filter(|_| wanted("parked")) {
        parked::measure(folder.path(), *count, &mut table).await?;
    }
    if wanted("crash") {
        crash::measure(folder.path(), arguments.in_flight, &mut table).await?;
    }
    if wanted(large::Shape::Loop.name()) {
        for count in [arguments.iterations / 10, arguments.iterations] {
            large::measure(folder.path(), large::Shape::Loop, count, &mut table).await?;
        }
        large::recovery(folder.path(), arguments.iterations, &mut table).await?;
    }
    if wanted(large::Shape::Fork.name()) {
        large::measure(folder.path(), large::Shape::Fork, arguments.branches, &mut table).await?;
    }
    if wanted(agent::NAME) {
        agent::measure(folder.path(), &mut table).await?;
    }
    println!("{table}");
    Ok(())
}

fn raw(folder: &std::path::Path, seconds: f64, table: &mut Table) -> anyhow::Result<()> {
    let disk = baton_store::bench::raw_disk(folder)?;
    table.rate("raw: 4 KiB appended and synced", 1, disk.per_second, "writes/s", Some((disk.p50_us, disk.p99_us)));
    for producers in [1, 64, 256] {
        let report = baton_store::bench::raw_group_commit(
            &folder.join(format!("store-{producers}")),
            producers,
            300,
            seconds.min(3.0),
        )?;
        table.rate(
            "raw: store, one 300 B record each",
            producers,
            report.per_second,
            "commits/s",
            Some((report.p50_us, report.p99_us)),
        );
    }
    Ok(())
}
