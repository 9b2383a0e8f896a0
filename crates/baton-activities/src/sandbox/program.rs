//! What a job is to run: checked, and looked for.

use std::path::{Path, PathBuf};

use super::{Job, SandboxError};

/// Where programs are looked for unless the job's environment says otherwise.
pub(super) const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What no operating system takes, told before anything is started.
pub(super) fn check(job: &Job) -> Result<(), SandboxError> {
    let unusable = |what: String| Err(SandboxError::Unusable(what));
    let texts = [&job.program].into_iter().chain(&job.arguments).chain(job.environment.values());
    if texts.into_iter().any(|text| text.contains('\0')) {
        return unusable("a command, its arguments and its environment cannot hold the character U+0000".to_owned());
    }
    if job.program.is_empty() {
        return unusable("the command is empty, it must be a program".to_owned());
    }
    match job.environment.keys().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
        Some(name) => unusable(format!("'{}' is not the name of a variable of the environment", name.escape_debug())),
        None => Ok(()),
    }
}

/// The path of a program; a relative one is the job's own file.
pub(super) fn resolve(program: &str, searched: &str) -> Result<PathBuf, SandboxError> {
    if program.contains('/') {
        return Ok(PathBuf::from(program));
    }
    let found = find_in(program, searched);
    found.ok_or_else(|| SandboxError::NotFound { program: program.to_owned(), path: searched.to_owned() })
}

/// A program of the system, by its name.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    find_in(name, PATH_DEFAULT)
}

fn find_in(program: &str, searched: &str) -> Option<PathBuf> {
    let mut candidates =
        searched.split(':').filter(|it| !it.is_empty()).map(|directory| Path::new(directory).join(program));
    candidates.find(|candidate| candidate.is_file())
}
