//! Limits of one command, set by a shell that then becomes the command: what is set there, it cannot raise again.

use std::os::unix::fs::MetadataExt as _;

use crate::options::RunOptions;

/// Open files of one process.
const FILES_MAX: u32 = 1024;

/// The command line that runs a program within limits. `user` is whose processes are counted; `None` for the server's user.
pub(super) fn wrap(options: &RunOptions, user: Option<u32>, program: &str, arguments: Vec<String>) -> Vec<String> {
    let user = user.unwrap_or_else(|| rustix::process::geteuid().as_raw());
    // The system counts all of a user's processes, those of the server and of others, too.
    let processes = tasks_of(user) + u64::from(options.processes_max);
    // A limit that was lower already stays: the shell cannot raise it, and says so to nobody. Shells name the number of
    // processes by different letters.
    let script = format!(
        "ulimit -c 0; ulimit -n {FILES_MAX}; ulimit -t {cpu}; ulimit -d {memory}; ulimit -f {file}; \
         ulimit -u {processes} || ulimit -p {processes}",
        cpu = options.cpu_seconds_max,
        memory = options.memory_bytes_max / 1024,
        file = options.file_bytes_max / 512,
    );
    let script = format!("{{ {script}; }} 2>/dev/null; exec \"$@\"");
    let shell = ["/bin/sh".to_owned(), "-c".to_owned(), script, "sh".to_owned(), program.to_owned()];
    shell.into_iter().chain(arguments).collect()
}

/// Processes and threads of a user, as far as they can be seen.
fn tasks_of(user: u32) -> u64 {
    let Ok(entries) = std::fs::read_dir("/proc") else { return 0 };
    let own = entries.flatten().filter(|entry| entry.metadata().is_ok_and(|it| it.uid() == user));
    own.map(|entry| std::fs::read_dir(entry.path().join("task")).map_or(0, |tasks| tasks.count() as u64)).sum()
}
