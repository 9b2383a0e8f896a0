//! What a task says of its container, as arguments of the engine's `create`.

use std::{
    collections::BTreeMap,
    path::{Component, Path},
};

use baton_execution::{ActivityTask, Fault, fault_type};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{LABEL_REMOVE, LABEL_TASK};
use crate::{
    options::RunOptions,
    process::{Given, text_of},
};

/// Longest part of a name that is made of the execution's and the task's own names.
const NAME_PART_LENGTH_MAX: usize = 60;
/// Beginnings of variables that the engine's command line takes for itself, or its loader.
const ENGINE_VARIABLES: [&str; 7] = ["BUILDAH_", "CONTAINER", "DOCKER_", "LD_", "PODMAN_", "STORAGE_", "XDG_"];

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

/// Arguments of `create`, and the environment that it is called with.
pub(super) struct Create {
    pub(super) arguments: Vec<String>,
    pub(super) environment: BTreeMap<String, String>,
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

    /// The arguments of `create`.
    pub(super) fn create(
        &self,
        options: &RunOptions,
        name: &str,
        digest: &str,
        given: &Given,
    ) -> Result<Create, Fault> {
        let mut arguments = Vec::new();
        let mut add = |words: &[&str]| arguments.extend(words.iter().map(|word| (*word).to_owned()));
        if !is_name(name) {
            return Err(refused(format!(
                "'{name}' is not the name of a container; allowed are letters, digits, '_', '.' and '-', and a letter or digit first"
            )));
        }
        add(&["--name", name, "--label", &format!("{LABEL_TASK}={digest}")]);
        if let Cleanup::Eventually(after_ms) = self.cleanup() {
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
        for volume in volumes(self.volumes.as_ref(), options)? {
            add(&["--volume", &volume]);
        }
        if !given.stdin().is_empty() {
            add(&["--interactive"]);
        }
        let environment = environment(given, &mut arguments)?;
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

/// Names of containers and volumes.
fn is_name(name: &str) -> bool {
    name.len() <= 255
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "_.-".contains(letter))
}

/// Whether a variable means something to the engine's command line itself.
fn is_engines_own(variable: &str) -> bool {
    std::env::var_os(variable).is_some() || ENGINE_VARIABLES.iter().any(|prefix| variable.starts_with(prefix))
}

/// Adds the variables of the container to `arguments`; gives the environment that `create` is to be called with.
fn environment(given: &Given, arguments: &mut Vec<String>) -> Result<BTreeMap<String, String>, Fault> {
    let mut environment = BTreeMap::new();
    for (variable, value) in given.environment() {
        if variable.is_empty() || variable.contains(['=', '\0']) || value.contains('\0') {
            let shown = variable.escape_debug();
            return Err(refused(format!(
                "'{shown}' is not the name of a variable of the environment, or its value holds U+0000"
            )));
        }
        arguments.push("--env".to_owned());
        if is_engines_own(&variable) {
            arguments.push(format!("{variable}={value}"));
        } else {
            // By the environment, as everybody can read command lines.
            arguments.push(variable.clone());
            environment.insert(variable, value);
        }
    }
    Ok(environment)
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

/// `/srv/data:/data:ro`, from the host's directory or the name of a volume to the container's directory.
fn volumes(volumes: Option<&Map<String, Value>>, options: &RunOptions) -> Result<Vec<String>, Fault> {
    let mut found = Vec::new();
    for (host, container) in volumes.into_iter().flatten() {
        let container = text_of(container);
        let target = container.strip_suffix(":ro").unwrap_or(&container);
        if !target.starts_with('/') || target.contains(':') {
            return Err(refused(format!(
                "'{container}' is no place for a volume; allowed is an absolute path, with ':ro' to be read only"
            )));
        }
        if !is_name(host) && !is_allowed(Path::new(host), options) {
            return Err(refused(format!(
                "'{host}' cannot be mounted; allowed are names of volumes, and directories in those that the setting 'run.container-volumes' lists"
            )));
        }
        found.push(format!("{host}:{container}"));
    }
    Ok(found)
}

/// Whether a path of the host, as it is in truth, is within what containers may see.
fn is_allowed(path: &Path, options: &RunOptions) -> bool {
    let plain = path.is_absolute()
        && !path.to_string_lossy().contains(':')
        && path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    let Ok(real) = path.canonicalize() else { return false };
    let roots = options.container_volumes.iter().filter_map(|root| root.canonicalize().ok());
    plain && roots.into_iter().any(|root| real.starts_with(root))
}
