//! What a task says of its container, as arguments of the engine's `create`.

use std::path::{Component, Path};

use baton_execution::{ActivityTask, Fault, fault_type};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{LABEL_DEADLINE, LABEL_REMOVE, LABEL_TASK};
use crate::{
    options::{RunOptions, is_container_name},
    process::{Given, text_of},
};

/// Longest part of a name that is made of the execution's and the task's own names.
const NAME_PART_LENGTH_MAX: usize = 60;
/// Where the engine's command line finds the container's variables: at its standard input, as everybody can read command
/// lines, and as its own environment says where its daemon, its credentials and its proxies are.
const ENVIRONMENT_FILE: &str = "/dev/stdin";
/// Longest line of such a file, in bytes: engines read no longer ones.
const ENVIRONMENT_LINE_BYTES_MAX: usize = 60 << 10;

impl Cleanup {
    /// After how many milliseconds it is removed.
    pub(super) const fn after_ms(self) -> Option<u64> {
        match self {
            Self::Always => Some(0),
            Self::Never => None,
            Self::Eventually(after_ms) => Some(after_ms),
        }
    }
}

/// What a task says of its container.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Plan {
    image: Value,
    #[serde(default)]
    name: Value,
    #[serde(default)]
    command: Value,
    #[serde(default)]
    ports: Option<Map<String, Value>>,
    #[serde(default)]
    volumes: Option<Map<String, Value>>,
    #[serde(default)]
    pull_policy: PullPolicy,
    #[serde(default)]
    cleanup: CleanupPolicy,
    #[serde(default)]
    cleanup_after: u64,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
enum PullPolicy {
    #[default]
    IfNotPresent,
    Always,
    Never,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
enum CleanupPolicy {
    Always,
    #[default]
    Never,
    Eventually,
}

/// What becomes of a container that ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cleanup {
    Always,
    Never,
    /// It is removed after so many milliseconds.
    Eventually(u64),
}

/// Arguments of `create`, and the file of variables that it reads.
pub(super) struct Create {
    pub(super) arguments: Vec<String>,
    pub(super) environment: String,
}

/// The label's digest of a task, and the name of its container: `given`, else made as the specification recommends, and with
/// a part of the digest, as a task may run many times in one execution.
pub(super) fn names(task: &ActivityTask, given: Option<String>) -> (String, String) {
    let digest = baton_types::Digest::of(task.idempotency_key.as_bytes()).to_string();
    let digest = digest.rsplit(':').next().unwrap_or_default().to_owned();
    let part = |text: &str| -> String {
        let letter = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
        text.chars().map(letter).take(NAME_PART_LENGTH_MAX).collect()
    };
    let last = task.id.position.rsplit('/').next().unwrap_or_default();
    let short = &digest[..digest.len().min(12)];
    let name = given.unwrap_or_else(|| {
        format!("{}-{}.{}-{}-{short}", part(&task.name), task.execution, part(&task.namespace), part(last))
    });
    (digest, name)
}

impl Plan {
    /// The name that the task gives.
    pub(super) fn name(&self) -> Option<String> {
        (!self.name.is_null()).then(|| text_of(&self.name))
    }

    pub(super) const fn cleanup(&self) -> Cleanup {
        match self.cleanup {
            CleanupPolicy::Always => Cleanup::Always,
            CleanupPolicy::Never => Cleanup::Never,
            CleanupPolicy::Eventually => Cleanup::Eventually(self.cleanup_after),
        }
    }

    /// The arguments of `create`, for a container that nobody waits for after `deadline_ms` of the wall clock.
    pub(super) fn create(
        &self,
        options: &RunOptions,
        task: &ActivityTask,
        (digest, name): (&str, &str),
        deadline_ms: u64,
        given: &Given,
    ) -> Result<Create, Fault> {
        let mut arguments = Vec::new();
        let mut add = |words: &[&str]| arguments.extend(words.iter().map(|word| (*word).to_owned()));
        if !is_container_name(name) {
            return Err(refused(format!(
                "'{name}' is not the name of a container; allowed are letters, digits, '_', '.' and '-', and a letter or digit first"
            )));
        }
        add(&["--name", name, "--label", &format!("{LABEL_TASK}={digest}")]);
        add(&["--label", &format!("{LABEL_DEADLINE}={deadline_ms}")]);
        if let Some(after_ms) = self.cleanup().after_ms() {
            add(&["--label", &format!("{LABEL_REMOVE}={after_ms}")]);
        }
        add(&[
            "--pull",
            match self.pull_policy {
                PullPolicy::IfNotPresent => "missing",
                PullPolicy::Always => "always",
                PullPolicy::Never => "never",
            },
        ]);
        add(&[
            "--memory",
            &format!("{}b", options.memory_bytes_max),
            "--pids-limit",
            &options.processes_max.to_string(),
        ]);
        add(&["--security-opt", "no-new-privileges"]);
        let ports = ports(self.ports.as_ref())?;
        if !options.network {
            if !ports.is_empty() {
                return Err(refused(
                    "the container has ports, but no network; the setting 'run.network' must be true".to_owned(),
                ));
            }
            add(&["--network", "none"]);
        }
        for port in ports {
            add(&["--publish", &port]);
        }
        for volume in volumes(self.volumes.as_ref(), options, &task.namespace)? {
            add(&["--volume", &volume]);
        }
        if !given.stdin().is_empty() {
            add(&["--interactive"]);
        }
        let environment = environment(given)?;
        if !environment.is_empty() {
            add(&["--env-file", ENVIRONMENT_FILE]);
        }
        let image = text_of(&self.image);
        if image.is_empty()
            || image.starts_with('-')
            || image.contains(|letter: char| letter.is_whitespace() || letter.is_control())
        {
            return Err(refused(format!("'{}' is not the name of an image", image.escape_debug())));
        }
        arguments.push(image);
        if !self.command.is_null() {
            let head = ["/bin/sh", "-c", &text_of(&self.command), "sh"].map(str::to_owned);
            arguments.extend(head);
        }
        arguments.extend(given.arguments());
        if arguments.iter().any(|argument| argument.contains('\0')) {
            return Err(refused("a command and its arguments cannot hold the character U+0000".to_owned()));
        }
        Ok(Create { arguments, environment })
    }
}

fn refused(detail: String) -> Fault {
    Fault::new(fault_type::CONFIGURATION, 400, detail).non_retryable()
}

/// The container's variables, as a file that engines read: a line for each, and no way to write a line break.
fn environment(given: &Given) -> Result<String, Fault> {
    let mut file = String::new();
    for (variable, value) in given.environment() {
        let shown = variable.escape_debug();
        let odd = |letter: char| letter == '=' || letter.is_whitespace() || letter.is_control();
        if variable.is_empty() || variable.starts_with(['#', '\u{feff}']) || variable.contains(odd) {
            return Err(refused(format!("'{shown}' is not the name of a variable of a container's environment")));
        }
        if value.contains(['\n', '\r', '\0']) {
            return Err(refused(format!(
                "the value of the variable '{shown}' holds a line break or U+0000, which container engines do not read; give it as 'stdin', or in Base64"
            )));
        }
        let line = format!("{variable}={value}\n");
        if line.len() > ENVIRONMENT_LINE_BYTES_MAX {
            return Err(refused(format!(
                "the variable '{shown}' and its value have {} bytes; allowed are 1 to {ENVIRONMENT_LINE_BYTES_MAX}",
                line.len()
            )));
        }
        file.push_str(&line);
    }
    Ok(file)
}

/// `8080:80`, from the host's port to the container's.
fn ports(ports: Option<&Map<String, Value>>) -> Result<Vec<String>, Fault> {
    let is_port = |text: &str| {
        let number = text.strip_suffix("/tcp").or_else(|| text.strip_suffix("/udp")).unwrap_or(text);
        number.bytes().all(|byte| byte.is_ascii_digit()) && number.parse::<u16>().is_ok_and(|number| number > 0)
    };
    let mut found = Vec::new();
    for (host, container) in ports.into_iter().flatten() {
        let container = text_of(container);
        if host.contains('/') || !is_port(host) || !is_port(&container) {
            return Err(refused(format!(
                "'{host}: {container}' does not map ports; allowed are forms such as '8080: 80' and '5353: 53/udp', the host's port first"
            )));
        }
        found.push(format!("{host}:{container}"));
    }
    Ok(found)
}

/// `/srv/data:/data:ro`, from the host's directory or a volume to the container's directory.
fn volumes(volumes: Option<&Map<String, Value>>, options: &RunOptions, namespace: &str) -> Result<Vec<String>, Fault> {
    let mut found = Vec::new();
    for (host, container) in volumes.into_iter().flatten() {
        let container = text_of(container);
        let target = container.strip_suffix(":ro").unwrap_or(&container);
        if !target.starts_with('/') || target.contains(':') {
            return Err(refused(format!(
                "'{container}' is no place for a volume; allowed is an absolute path, with ':ro' to be read only"
            )));
        }
        let source = if is_container_name(host) {
            volume(host, options, namespace)
        } else if is_allowed(Path::new(host), options) {
            host.clone()
        } else {
            return Err(refused(format!(
                "'{host}' cannot be mounted; allowed are names of volumes, and directories in those that the setting 'run.container-volumes' lists"
            )));
        };
        found.push(format!("{source}:{container}"));
    }
    Ok(found)
}

/// The engine's name of a volume. Engines have one space of names for whoever uses them, so a namespace has its own part of it,
/// but for volumes that the configuration names. Namespaces have no points in their names.
fn volume(name: &str, options: &RunOptions, namespace: &str) -> String {
    let is_shared = options.container_volumes.iter().any(|listed| listed.as_os_str() == name);
    if is_shared { name.to_owned() } else { format!("baton.{namespace}.{name}") }
}

/// Whether a path of the host, as it is in truth, is within what containers may see.
fn is_allowed(path: &Path, options: &RunOptions) -> bool {
    let plain = path.is_absolute()
        && !path.to_string_lossy().contains(':')
        && path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    let Ok(real) = path.canonicalize() else { return false };
    let roots = options
        .container_volumes
        .iter()
        .filter(|listed| listed.is_absolute())
        .filter_map(|root| root.canonicalize().ok());
    plain && roots.into_iter().any(|root| real.starts_with(root))
}
