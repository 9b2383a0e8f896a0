//! `baton server`.

use std::path::PathBuf;

use super::Context;
use crate::{args::ServerArgs, failure::Failure, local, run::Signals, settings::ProcessEnvironment};

pub(crate) async fn server(context: &Context, args: ServerArgs) -> Result<(), Failure> {
    let mut flags = Vec::new();
    if let Some(data_dir) = &args.data_dir {
        flags.push(("data-dir", data_dir.display().to_string()));
    }
    let path = |path: PathBuf| path.display().to_string();
    let named = [
        ("listen", args.listen),
        ("advertise", args.advertise),
        ("key-file", args.key_file.map(path)),
        ("store.url", args.store_url),
    ];
    flags.extend(named.into_iter().filter_map(|(name, value)| Some((name, value?))));
    if args.temporal_compatible {
        flags.push(("temporal-compatible", true.to_string()));
    }
    if let Some(engine) = args.engine {
        flags.push(("engine.kind", engine));
    }
    flags.extend(args.process.settings());
    flags.extend(args.temporal.settings().chain(args.temporal_server.settings()));
    let config = local::server_config(&context.settings, &flags)?;
    let options = config
        .server_options(&ProcessEnvironment::variables())
        .map_err(|error| local::not_configured(&context.settings, &error))?;
    let mut signals = Signals::new()?;
    let running = baton_server::start(options).await.map_err(|error| local::not_started(&error))?;
    context.printer.message(&format!("listening on http://{}", running.address));
    let failed = tokio::select! {
        () = signals.next() => None,
        why = running.failed() => Some(why),
    };
    if let Some(why) = failed {
        return Err(local::failed(&why));
    }
    context.printer.message("stopping; interrupt once more to stop at once");
    tokio::select! {
        () = running.shutdown() => Ok(()),
        () = signals.next() => Err(Failure::environment("stopped at once; the next start recovers")),
    }
}
