//! Parents that wait: what each costs, and how soon they are answered after a cold start.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, BufWriter, Write as _},
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, anyhow, bail};
use baton_proto::v1;
use baton_server::app::WriteOptions;

use crate::{
    site::{Site, disk_bytes, execution, memory_bytes},
    table::Table,
};

/// Parents that are being parked, and answered, at a time.
const WIDTH: usize = 64;

pub(crate) async fn measure(folder: &Path, count: usize, table: &mut Table) -> anyhow::Result<()> {
    let directory = tempfile::tempdir_in(folder)?;
    let tokens_path = folder.join(format!("tokens-{count}"));
    let tokens = Mutex::new((BufWriter::new(File::create(&tokens_path)?), 0_usize));
    let written = Arc::new(tokens);
    let sink = {
        let written = Arc::clone(&written);
        move |task: &baton_execution::ActivityTask| {
            if let Ok(mut file) = written.lock() {
                let _full = writeln!(file.0, "{}", task.input["token"].as_str().unwrap_or_default());
                file.1 += 1;
            }
        }
    };
    let site = Arc::new(Site::open(directory.path(), Some(Arc::new(sink))).await?);
    site.prepare().await?;
    for _ in 0..200 {
        site.run("no-op").await?;
    }
    let pid = std::process::id();
    let (memory, disk) = (memory_bytes(pid), disk_bytes(directory.path()));
    let began = Instant::now();
    park(&site, count).await?;
    let rate = count as f64 / began.elapsed().as_secs_f64();
    let settled = Instant::now();
    while written.lock().map_err(|_| anyhow!("poisoned"))?.1 < count || parked(&site).await? < count {
        if settled.elapsed() > Duration::from_mins(5) {
            bail!("not all of {count} are parked");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let grown = memory_bytes(pid).saturating_sub(memory);
    table.rate("parked parents: started", count, rate, "parents/s", None);
    table.figure(
        "parked parents: memory each, server running",
        count,
        format!("{:.2}", grown as f64 / count as f64 / 1024.0),
        "KiB",
    );
    written.lock().map_err(|_| anyhow!("poisoned"))?.0.flush()?;
    Arc::into_inner(site).context("somebody still uses the site")?.server.shutdown().await;
    table.figure(
        "parked parents: disk each",
        count,
        format!("{:.2}", disk_bytes(directory.path()).saturating_sub(disk) as f64 / count as f64 / 1024.0),
        "KiB",
    );
    let asked_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let output = Command::new(std::env::current_exe()?)
        .arg("answer")
        .arg(directory.path())
        .arg(&tokens_path)
        .arg(asked_ms.to_string())
        .output()?;
    if !output.status.success() {
        bail!("answering: {}", String::from_utf8_lossy(&output.stderr));
    }
    for line in String::from_utf8(output.stdout)?.lines() {
        let (what, rest) = line.split_once('\t').context("a line of the answering process")?;
        let (figure, unit) = rest.split_once('\t').context("a line of the answering process")?;
        table.figure(&format!("parked parents: {what}"), count, figure.to_owned(), unit);
    }
    Ok(())
}

async fn park(site: &Arc<Site>, count: usize) -> anyhow::Result<()> {
    let mut tasks = tokio::task::JoinSet::new();
    for lane in 0..WIDTH {
        let site = Arc::clone(site);
        tasks.spawn(async move {
            for _ in (lane..count).step_by(WIDTH) {
                site.app()
                    .create(execution(site.name(), "wait"), WriteOptions::default())
                    .await
                    .map_err(|error| anyhow!("{error}"))?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

/// How many executions are written down as waiting, seen from the newest: they are parked in about the order of creation.
async fn parked(site: &Site) -> anyhow::Result<usize> {
    let mut request = v1::ListRequest { limit: 1000, ..v1::ListRequest::default() };
    let mut count = 0;
    loop {
        let (meta, page) =
            site.app().list::<v1::WorkflowExecution>(&request).await.map_err(|error| anyhow!("{error}"))?;
        count += page
            .iter()
            .filter(|object| object.status.as_ref().is_some_and(|status| !status.waiting_for.is_empty()))
            .count();
        if meta.r#continue.is_empty() {
            return Ok(count);
        }
        request.r#continue = meta.r#continue;
    }
}

/// The process that starts over a store with parked parents; `asked_ms` is when it was asked for.
pub(crate) async fn answer(directory: &Path, tokens: &Path, asked_ms: u64) -> anyhow::Result<()> {
    let site = Arc::new(Site::open(directory, None).await?);
    let mut lines = BufReader::new(File::open(tokens)?).lines();
    let first = lines.next().context("no token")??;
    complete(&site, first).await?;
    let now_ms = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    println!("process started to first answer\t{}\tms", now_ms.saturating_sub(asked_ms));
    println!("memory after the start\t{:.0}\tMiB", memory_bytes(std::process::id()) as f64 / 1024.0 / 1024.0);
    let rest = Arc::new(Mutex::new(lines));
    let began = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..WIDTH {
        let (site, rest) = (Arc::clone(&site), Arc::clone(&rest));
        tasks.spawn(async move {
            let mut answered = 0_usize;
            loop {
                let next = rest.lock().map_err(|_| anyhow!("poisoned"))?.next();
                let Some(token) = next else { return anyhow::Ok(answered) };
                complete(&site, token?).await?;
                answered += 1;
            }
        });
    }
    let mut answered = 0;
    while let Some(count) = tasks.join_next().await {
        answered += count??;
    }
    println!("all answered and ended\t{:.0}\tparents/s", answered as f64 / began.elapsed().as_secs_f64());
    Arc::into_inner(site).context("somebody still uses the site")?.server.shutdown().await;
    Ok(())
}

async fn complete(site: &Site, token: String) -> anyhow::Result<()> {
    let answer = v1::CompleteCallbackRequest { callback_token: token.into_bytes(), output: None };
    site.app().complete_callback(&answer).await.map(|_| ()).map_err(|error| anyhow!("{error}"))
}
