//! Commands of the machine, run where they can do little harm: for shell tasks, scripts and MCP servers over stdio.
//!
//! [`Sandbox::run`] runs a [`Job`] to its end, [`Sandbox::spawn`] gives its pipes. Whatever the means, a command gets
//! - an environment with nothing in it but `PATH`, `HOME`, `TMPDIR`, `LANG` and what the job gives;
//! - an own working directory, empty but for the job's files and gone afterwards, the only place that it can write to;
//! - to read nothing but the system's programs and libraries and what [`RunOptions::readable`] names;
//! - no network and no sockets, unless [`RunOptions::network`];
//! - limits of memory (of all its processes together), processor time, processes, file size and output.
//!
//! The means are bubblewrap (`bwrap`: own namespaces) where it works, else Landlock with a filter of system calls, which
//! works in containers too. Which of them, is tried once, when the first command is to run. Where none works, commands are refused:
//! nothing runs unconfined unless [`Commands::Unconfined`] says so.
//!
//! # Invariants
//! - A command and whatever it started ends with its [`Running`]: dropped, timed out, cancelled, or the whole server killed.
//!   All of them are one process group that a watchdog leads; it kills the group when its standard input ends.
//! - What a command left is removed with it: by the server, by a process that outlives the server, or by the next server.
//! - A server that runs as root runs commands as `nobody`: root's limits are none.
//!
//! # Deliberately absent
//! A limit on all processor time or disk of a command together: those are of one process and one file, as POSIX has them.
//! With the network allowed, the policy for outgoing calls does not hold for commands.

mod bounds;
#[cfg(target_os = "linux")]
mod bubblewrap;
#[cfg(target_os = "linux")]
mod calls;
mod error;
mod group;
#[cfg(target_os = "linux")]
mod landlock;
mod limits;
mod memory;
mod program;
mod scratch;

use std::{
    collections::BTreeMap,
    io,
    os::unix::{fs::chown, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Arc, atomic::Ordering::Relaxed},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    sync::OnceCell,
};

pub(crate) use self::{bounds::Bounds, error::SandboxError, program::find_program};
use self::{
    group::Group,
    memory::MemoryWatch,
    program::{PATH_DEFAULT, check, resolve},
    scratch::Scratch,
};
use crate::options::{Commands, RunOptions};

/// User and group that a server of root's runs commands as; `nobody` on every Linux.
const NOBODY: u32 = 65_534;
/// What a command may read of the system.
const SYSTEM: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store"];
/// And of its configuration: what libraries need to find names, certificates, users and times.
const CONFIGURATION: [&str; 17] = [
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/group",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/pki/tls/certs",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
];
/// Devices that a command may use.
const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];

/// One command.
#[derive(Clone, Debug, Default)]
pub(crate) struct Job {
    /// A path, or a name to be looked for in `PATH`.
    pub(crate) program: String,
    /// Its arguments.
    pub(crate) arguments: Vec<String>,
    /// Its environment, beside the four variables that every command has.
    pub(crate) environment: BTreeMap<String, String>,
    /// Files in its working directory: names without a slash, and contents.
    pub(crate) files: Vec<(String, Vec<u8>)>,
    /// What it may do, where that is less than what the installation allows.
    pub(crate) bounds: Bounds,
}

/// A command that runs. Dropped, it is killed with all that it started.
#[derive(Debug)]
pub(crate) struct Running {
    /// Standard input; dropped, it ends.
    pub(crate) stdin: Option<ChildStdin>,
    /// Standard output.
    pub(crate) stdout: Option<ChildStdout>,
    /// Standard error.
    pub(crate) stderr: Option<ChildStderr>,
    child: Child,
    group: Group,
    memory_bytes_max: u64,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finished {
    /// Its exit code; 128 and the number of the signal that killed it.
    pub(crate) code: i32,
    /// What it wrote to standard output.
    pub(crate) stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub(crate) stderr: Vec<u8>,
}

/// What keeps commands from doing harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Means {
    Bubblewrap,
    Landlock,
    Nothing,
}

/// Runs commands as the configuration says. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Sandbox {
    options: Arc<RunOptions>,
    means: Arc<OnceCell<Result<Means, String>>>,
    scratch: Arc<OnceCell<Arc<Scratch>>>,
    memory: MemoryWatch,
}

impl Sandbox {
    /// Tries nothing yet.
    pub(crate) fn new(options: RunOptions) -> Self {
        Self {
            options: Arc::new(options),
            means: Arc::default(),
            scratch: Arc::default(),
            memory: MemoryWatch::default(),
        }
    }

    /// What commands may do here.
    pub(crate) fn options(&self) -> &RunOptions {
        &self.options
    }

    /// Removes what commands of servers left that were killed.
    pub(crate) async fn sweep(&self) {
        scratch::sweep().await;
    }

    /// Runs a job to its end, within the limit of output. Whoever wants a limit of time drops the future.
    pub(crate) async fn run(&self, job: Job, input: Vec<u8>) -> Result<Finished, SandboxError> {
        let bytes_max = self.options.output_bytes_max;
        self.spawn(job).await?.finish(input, bytes_max).await
    }

    /// Starts a job.
    pub(crate) async fn spawn(&self, job: Job) -> Result<Running, SandboxError> {
        // What follows reads directories and forks: not on a thread that only wants to know whether there is a result already.
        tokio::task::yield_now().await;
        let means = self.means().await?;
        if means == Means::Nothing && job.bounds.sandboxed {
            return Err(SandboxError::Bare);
        }
        self.spawn_by(means, job).await
    }

    /// What works on this machine, found out by trying it.
    async fn means(&self) -> Result<Means, SandboxError> {
        match self.options.commands {
            Commands::Off => return Err(SandboxError::Off),
            Commands::Unconfined => return Ok(Means::Nothing),
            Commands::Sandboxed => {}
        }
        let found = self.means.get_or_init(|| async {
            let mut failures = Vec::new();
            for means in [Means::Bubblewrap, Means::Landlock] {
                match self.attempt(means).await {
                    Ok(()) => {
                        tracing::info!(?means, "commands run in a sandbox");
                        return Ok(means);
                    }
                    Err(why) => failures.push(why),
                }
            }
            Err(failures.join("; "))
        });
        found.await.clone().map_err(|why| SandboxError::NoSandbox { why })
    }

    async fn attempt(&self, means: Means) -> Result<(), String> {
        let name = match means {
            Means::Bubblewrap => "bubblewrap",
            Means::Landlock => "Landlock",
            Means::Nothing => return Ok(()),
        };
        let job =
            Job { program: "/bin/sh".to_owned(), arguments: vec!["-c".to_owned(), ":".to_owned()], ..Job::default() };
        let mut running = self.spawn_by(means, job).await.map_err(|error| match error {
            SandboxError::Io { source, .. } => format!("{name}: {source}"),
            other => format!("{name}: {other}"),
        })?;
        let said = read_all(running.stderr.take(), "standard error", 4096).await.unwrap_or_default();
        match running.child.wait().await {
            Ok(status) if status.success() => Ok(()),
            Ok(_) => {
                Err(format!("{name}: {}", String::from_utf8_lossy(&said).lines().next().unwrap_or("does not work")))
            }
            Err(error) => Err(format!("{name}: {error}")),
        }
    }

    async fn spawn_by(&self, means: Means, job: Job) -> Result<Running, SandboxError> {
        check(&job)?;
        let Job { program, arguments, environment, files, bounds } = job;
        let options = bounds.within(&self.options)?;
        let failed = |what| move |source| SandboxError::Io { what, source };
        let searched = environment.get("PATH").map_or(PATH_DEFAULT, String::as_str);
        let path = resolve(&program, searched)?;
        if means != Means::Nothing {
            self.check_readable(&program, &path)?;
        }
        // What root may do, no sandbox of a process can take away for certain.
        let user = (means != Means::Nothing && rustix::process::geteuid().is_root()).then_some(NOBODY);
        let scratch = self.scratch.get_or_try_init(async || Scratch::make().map(Arc::new));
        let scratch = scratch.await.map_err(failed("make the directory of all commands"))?;
        let directory = directory_in(scratch.path(), &files, user).map_err(failed("make its directory"))?;
        let (scratch, memory_bytes_max) = (Arc::clone(scratch), options.memory_bytes_max);
        let group = Group::start(scratch, directory, &self.memory, memory_bytes_max);
        let group = group.map_err(failed("start its watchdog"))?;
        let argv = limits::wrap(&options, user, &path.to_string_lossy(), arguments);
        let environment = environment_in(group.directory(), environment);
        let place = Place { options, directory: group.directory().to_owned(), group: group.id(), user };
        let mut child = place.start(means, argv, environment).await.map_err(failed("start it"))?;
        child.id().into_iter().for_each(memory::end_first);
        Ok(Running {
            stdin: child.stdin.take(),
            stdout: child.stdout.take(),
            stderr: child.stderr.take(),
            child,
            group,
            memory_bytes_max,
        })
    }

    fn check_readable(&self, program: &str, path: &Path) -> Result<(), SandboxError> {
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let found = real(path);
        let mut readable = SYSTEM.iter().map(Path::new).chain(self.options.readable.iter().map(PathBuf::as_path));
        if readable.any(|root| found.starts_with(real(root))) {
            return Ok(());
        }
        Err(SandboxError::Unreadable { program: program.to_owned(), found })
    }
}

impl Running {
    /// Gives the command its input and waits for its end; what it left running is ended then. More output than `bytes_max`
    /// is an error.
    pub(crate) async fn finish(self, input: Vec<u8>, bytes_max: usize) -> Result<Finished, SandboxError> {
        self.finish_within(input, bytes_max, Beyond::Refused).await.map(|(finished, _)| finished)
    }

    /// Does so, and leaves out what each stream has beyond `bytes_max`: how many bytes, of standard output and of standard
    /// error, is told beside the result.
    pub(crate) async fn finish_cut(
        self,
        input: Vec<u8>,
        bytes_max: usize,
    ) -> Result<(Finished, [u64; 2]), SandboxError> {
        self.finish_within(input, bytes_max, Beyond::LeftOut).await
    }

    async fn finish_within(
        self,
        input: Vec<u8>,
        bytes_max: usize,
        beyond: Beyond,
    ) -> Result<(Finished, [u64; 2]), SandboxError> {
        let Self { stdin, stdout, stderr, mut child, group, memory_bytes_max } = self;
        let exceeded = group.exceeded();
        let feeding = async {
            if let Some(mut stdin) = stdin {
                // A command may end without having read its input; that is its own affair.
                _ = stdin.write_all(&input).await;
                _ = stdin.shutdown().await;
            }
            Ok(())
        };
        let ending = async {
            let status = child.wait().await.map_err(|source| SandboxError::Io { what: "wait for it", source })?;
            // What it left running holds its pipes open.
            group.end().await;
            Ok(code_of(status))
        };
        let ((stdout, of_stdout), (stderr, of_stderr), code, ()) = tokio::try_join!(
            read_within(stdout, "standard output", bytes_max, beyond),
            read_within(stderr, "standard error", bytes_max, beyond),
            ending,
            feeding
        )?;
        if exceeded.load(Relaxed) {
            return Err(SandboxError::Memory { bytes_max: memory_bytes_max });
        }
        Ok((Finished { code, stdout, stderr }, [of_stdout, of_stderr]))
    }

    /// Why it was killed, if it was for its memory.
    pub(crate) fn killed(&self) -> Option<SandboxError> {
        let exceeded = self.group.exceeded().load(Relaxed);
        exceeded.then_some(SandboxError::Memory { bytes_max: self.memory_bytes_max })
    }
}

/// Where a command is to run.
struct Place {
    options: Arc<RunOptions>,
    directory: PathBuf,
    /// Its process group.
    group: i32,
    /// User and group; `None` for the server's own.
    user: Option<u32>,
}

impl Place {
    async fn start(&self, means: Means, argv: Vec<String>, environment: BTreeMap<String, String>) -> io::Result<Child> {
        match means {
            Means::Nothing => self.command(&argv, &environment).spawn(),
            #[cfg(target_os = "linux")]
            Means::Bubblewrap => {
                let argv = bubblewrap::wrap(self, argv, &environment)?;
                self.command(&argv, &BTreeMap::new()).spawn()
            }
            #[cfg(target_os = "linux")]
            Means::Landlock => landlock::spawn(self, self.command(&argv, &environment)).await,
            #[cfg(not(target_os = "linux"))]
            Means::Bubblewrap | Means::Landlock => Err(io::Error::new(io::ErrorKind::Unsupported, "is for Linux")),
        }
    }

    fn command(&self, argv: &[String], environment: &BTreeMap<String, String>) -> Command {
        let mut command = Command::new(&argv[0]);
        command.args(&argv[1..]).env_clear().envs(environment).current_dir(&self.directory).process_group(self.group);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }

    /// What may be read, of what there is.
    fn readable(&self) -> impl Iterator<Item = &Path> {
        let named = SYSTEM.iter().chain(&CONFIGURATION).map(Path::new);
        named.chain(self.options.readable.iter().map(PathBuf::as_path)).filter(|path| path.exists())
    }
}

fn directory_in(base: &Path, files: &[(String, Vec<u8>)], user: Option<u32>) -> io::Result<PathBuf> {
    let directory = tempfile::Builder::new().prefix("command-").tempdir_in(base)?;
    for (name, content) in files {
        std::fs::write(directory.path().join(name), content)?;
        chown(directory.path().join(name), user, user)?;
    }
    chown(directory.path(), user, user)?;
    Ok(directory.keep())
}

fn environment_in(directory: &Path, given: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let home = directory.to_string_lossy().into_owned();
    let mut environment = BTreeMap::from([
        ("HOME".to_owned(), home.clone()),
        ("LANG".to_owned(), "C.UTF-8".to_owned()),
        ("PATH".to_owned(), PATH_DEFAULT.to_owned()),
        ("TMPDIR".to_owned(), home),
    ]);
    environment.extend(given);
    environment
}

/// Reads a stream of a process to its end, within a limit.
pub(crate) async fn read_all(
    from: Option<impl AsyncRead + Unpin>,
    stream: &'static str,
    bytes_max: usize,
) -> Result<Vec<u8>, SandboxError> {
    read_within(from, stream, bytes_max, Beyond::Refused).await.map(|(content, _)| content)
}

/// What becomes of output beyond a limit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beyond {
    /// It ends the command.
    Refused,
    /// It is read and forgotten.
    LeftOut,
}

/// Reads a stream of a process to its end; how many bytes were left out is told beside the content.
async fn read_within(
    from: Option<impl AsyncRead + Unpin>,
    stream: &'static str,
    bytes_max: usize,
    beyond: Beyond,
) -> Result<(Vec<u8>, u64), SandboxError> {
    let mut content = Vec::new();
    let Some(from) = from else { return Ok((content, 0)) };
    let mut from = from.take(bytes_max as u64 + 1);
    // A pipe that breaks has said what it had to say.
    _ = from.read_to_end(&mut content).await;
    if content.len() <= bytes_max {
        return Ok((content, 0));
    }
    if beyond == Beyond::Refused {
        return Err(SandboxError::Output { stream, bytes_max });
    }
    content.truncate(bytes_max);
    let rest = tokio::io::copy(&mut from.into_inner(), &mut tokio::io::sink()).await.unwrap_or_default();
    Ok((content, rest.saturating_add(1)))
}

/// The exit code; for a signal as shells give it.
fn code_of(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

#[cfg(test)]
mod tests;
