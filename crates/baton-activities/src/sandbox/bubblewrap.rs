//! Commands in namespaces of their own, made by bubblewrap.
//!
//! The command sees its own processes, its working directory, and read-only what it may read; anything else of the file
//! system is not there. A filter refuses it memory that no limit counts (see [`calls`]).

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, chown},
    path::Path,
};

use super::{DEVICES, Place, calls};

/// File with bubblewrap's arguments, in the working directory until bubblewrap has it open: an environment is neither for the command line, which everybody
/// can read, nor for bubblewrap itself, which does not run inside.
const ARGUMENTS: &str = ".bubblewrap";
/// File with the filter of system calls, there as long as the other.
const FILTER: &str = ".filter";
/// Says that the system is to end this first when memory runs out, opens the files, removes them, and becomes bubblewrap.
const START: &str = r#"{ echo 1000 >/proc/self/oom_score_adj; } 2>/dev/null
exec 3<"$0" 4<"$1" && rm -f "$0" "$1" && shift && exec bwrap --args 3 --seccomp 4 -- "$@""#;
/// Where bubblewrap and `rm` are looked for.
const PATH: &str = "PATH=/usr/local/bin:/usr/bin:/bin";

/// The command line that runs another one by bubblewrap.
pub(super) fn wrap(
    place: &Place,
    argv: Vec<String>,
    environment: &BTreeMap<String, String>,
) -> io::Result<Vec<String>> {
    let mut content = Vec::new();
    for argument in arguments(place, environment) {
        content.extend_from_slice(argument.as_bytes());
        content.push(0);
    }
    let arguments = keep(place, ARGUMENTS, &content)?;
    let filter = keep(place, FILTER, &calls::in_namespaces().map_err(io::Error::other)?)?;
    let start = ["/usr/bin/env", PATH, "/bin/sh", "-c", START].map(str::to_owned);
    Ok(start.into_iter().chain([arguments, filter]).chain(argv).collect())
}

/// Writes a file in the working directory; its path.
fn keep(place: &Place, name: &str, content: &[u8]) -> io::Result<String> {
    let file = place.directory.join(name);
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file)?.write_all(content)?;
    chown(&file, place.user, place.user)?;
    Ok(file.to_string_lossy().into_owned())
}

fn arguments(place: &Place, environment: &BTreeMap<String, String>) -> Vec<String> {
    let mut arguments = vec!["--unshare-all".to_owned(), "--clearenv".to_owned()];
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(|word| (*word).to_owned()));
    if place.options.network {
        add(&["--share-net"]);
    }
    for path in place.readable() {
        let shown = path.to_string_lossy();
        match link_of(path) {
            Some(target) => add(&["--symlink", &target, &shown]),
            None => add(&["--ro-bind", &shown, &shown]),
        }
    }
    for device in DEVICES {
        add(&["--dev-bind-try", device, device]);
    }
    for (link, target) in [("/dev/fd", "/proc/self/fd"), ("/dev/stdin", "/proc/self/fd/0")] {
        add(&["--symlink", target, link]);
    }
    for (link, target) in [("/dev/stdout", "/proc/self/fd/1"), ("/dev/stderr", "/proc/self/fd/2")] {
        add(&["--symlink", target, link]);
    }
    let directory = place.directory.to_string_lossy();
    // Read-only, as processes could take back there what was said of them.
    add(&["--proc", "/proc", "--remount-ro", "/proc"]);
    add(&["--bind", &directory, &directory, "--chdir", &directory, "--remount-ro", "/"]);
    for (name, value) in environment {
        add(&["--setenv", name, value]);
    }
    arguments
}

/// Where `/bin` and its like lead, where they are links within the root directory; links elsewhere are followed.
fn link_of(path: &Path) -> Option<String> {
    let is_top = path.parent().is_some_and(|parent| parent == Path::new("/"));
    let target = fs::read_link(path).ok().filter(|_| is_top)?;
    Some(target.to_string_lossy().into_owned())
}
