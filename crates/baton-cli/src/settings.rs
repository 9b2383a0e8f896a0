//! Settings: what counts in the end, and where it comes from. A flag goes before the environment, the environment before
//! the file, the file before the default.
//!
//! # Deliberately absent
//! The server's own settings, which `baton_server::config` knows; here only their place in the same file is.

use std::{ffi::OsString, path::PathBuf};

pub(crate) use baton_server::config::Source;
use baton_server::config::Variables;
use serde::Deserialize;

use crate::{
    args::{Format, GlobalArgs},
    failure::Failure,
};

/// Names of the environment variables.
pub(crate) mod env_vars {
    /// URL of the server.
    pub(crate) const SERVER: &str = "BATON_SERVER";
    /// Namespace to work in.
    pub(crate) const NAMESPACE: &str = "BATON_NAMESPACE";
    /// Form of the data on stdout.
    pub(crate) const OUTPUT: &str = "BATON_OUTPUT";
    /// Configuration file.
    pub(crate) const CONFIG: &str = "BATON_CONFIG";
    /// Which log lines go to stderr.
    pub(crate) const LOG: &str = "BATON_LOG";
    /// The token of `baton callback`.
    pub(crate) const CALLBACK_TOKEN: &str = "BATON_CALLBACK_TOKEN";
    /// File with the key that `baton worker` shows to its server.
    pub(crate) const WORKER_KEY_FILE: &str = "BATON_WORKER_KEY_FILE";
    /// That key itself.
    pub(crate) const WORKER_KEY: &str = "BATON_WORKER_KEY";
    /// Set and not empty: no colours. See <https://no-color.org>.
    pub(crate) const NO_COLOR: &str = "NO_COLOR";
}

pub(crate) const SERVER_DEFAULT: &str = "http://127.0.0.1:8377";
pub(crate) const NAMESPACE_DEFAULT: &str = "default";
const LOG_DEFAULT: &str = "warn";

/// A value and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting<T> {
    pub(crate) value: T,
    pub(crate) source: Source,
}

/// The environment, so that tests need none.
pub(crate) trait Environment {
    /// A variable that is set and not empty.
    fn read(&self, name: &str) -> Option<String>;
}

/// The environment of this process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    fn read(&self, name: &str) -> Option<String> {
        std::env::var(name).ok().filter(|value| !value.is_empty())
    }
}

impl ProcessEnvironment {
    /// Every variable whose name and value are text, for settings of Temporal's own.
    pub(crate) fn variables() -> Variables {
        let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        std::env::vars_os().filter_map(text).collect()
    }
}

/// What every command may look at.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// URLs, with commas between them.
    pub(crate) server: Setting<String>,
    pub(crate) namespace: Setting<String>,
    pub(crate) output: Setting<Format>,
    pub(crate) log_level: Setting<String>,
    /// The file that was read, if there is one.
    pub(crate) file: Option<PathBuf>,
    /// The part of it that is the server's.
    pub(crate) server_table: toml::Table,
}

/// The part of the file that is the command line's.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct ClientTable {
    server: Option<String>,
    namespace: Option<String>,
    output: Option<String>,
}

impl Settings {
    /// Merges flags, environment, file and defaults.
    pub(crate) fn resolve(flags: &GlobalArgs, environment: &impl Environment) -> Result<Self, Failure> {
        let file = config_file(flags, environment);
        let mut table = match &file {
            Some(file) => read_table(file)?,
            None => toml::Table::new(),
        };
        let client = match table.remove("client") {
            None => ClientTable::default(),
            Some(client) => ClientTable::deserialize(client).map_err(|error| {
                let file = file.as_deref().map(|file| file.display().to_string()).unwrap_or_default();
                Failure::environment(format!("{file}: client: {}", error.message()))
            })?,
        };
        let pick = |flag: Option<String>, name: &'static str, file: Option<String>| -> Option<Setting<String>> {
            flag.map(|value| Setting { value, source: Source::Flag })
                .or_else(|| environment.read(name).map(|value| Setting { value, source: Source::Environment(name) }))
                .or_else(|| file.map(|value| Setting { value, source: Source::File }))
        };
        let default = |value: &str| Setting { value: value.to_owned(), source: Source::Default };
        let output = match flags.output {
            Some(value) => Setting { value, source: Source::Flag },
            None => match pick(None, env_vars::OUTPUT, client.output) {
                None => Setting { value: Format::Table, source: Source::Default },
                Some(Setting { value, source }) => Setting { value: parse_format(&value, &source)?, source },
            },
        };
        let log_level = pick(flags.log_level.clone(), env_vars::LOG, None).unwrap_or_else(|| default(LOG_DEFAULT));
        Ok(Self {
            server: pick(Some(flags.server.join(",")).filter(|it| !it.is_empty()), env_vars::SERVER, client.server)
                .unwrap_or_else(|| default(SERVER_DEFAULT)),
            namespace: pick(flags.namespace.clone(), env_vars::NAMESPACE, client.namespace)
                .unwrap_or_else(|| default(NAMESPACE_DEFAULT)),
            output,
            log_level,
            file,
            server_table: table,
        })
    }

    /// The URLs of the server, in the order in which they are to be tried.
    pub(crate) fn servers(&self) -> Vec<String> {
        let named: Vec<String> =
            self.server.value.split(',').map(str::trim).filter(|it| !it.is_empty()).map(str::to_owned).collect();
        if named.is_empty() { vec![self.server.value.clone()] } else { named }
    }

    /// Whether the caller named a server just now, so that `run` is to use it.
    pub(crate) fn names_server(&self) -> bool {
        matches!(self.server.source, Source::Flag | Source::Environment(_))
    }
}

fn parse_format(text: &str, source: &Source) -> Result<Format, Failure> {
    <Format as clap::ValueEnum>::from_str(text, true).map_err(|_| {
        Failure::usage(format!(
            "output '{text}' ({source}) is not a form; allowed are table, json, jsonl, yaml and name"
        ))
    })
}

/// The file that was named, or the one in the home folder if it exists.
fn config_file(flags: &GlobalArgs, environment: &impl Environment) -> Option<PathBuf> {
    let named = flags.config.clone().or_else(|| environment.read(env_vars::CONFIG).map(PathBuf::from));
    named.or_else(|| {
        let folder = environment
            .read("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .or_else(|| environment.read("HOME").map(|home| PathBuf::from(home).join(".config")))?;
        Some(folder.join("baton").join("baton.toml")).filter(|file| file.is_file())
    })
}

fn read_table(file: &std::path::Path) -> Result<toml::Table, Failure> {
    let shown = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::environment(format!("read the configuration '{shown}'")).because(&error))?;
    text.parse()
        .map_err(|error: toml::de::Error| Failure::environment(format!("{shown}: {}", error.to_string().trim_end())))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    struct Fake(HashMap<&'static str, String>);

    impl Environment for Fake {
        fn read(&self, name: &str) -> Option<String> {
            self.0.get(name).cloned()
        }
    }

    fn fake(pairs: &[(&'static str, &str)]) -> Fake {
        Fake(pairs.iter().map(|(name, value)| (*name, (*value).to_owned())).collect())
    }

    #[test]
    fn a_flag_goes_before_the_environment_before_the_file_before_the_default() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("baton.toml");
        std::fs::write(&file, "[client]\nserver = 'http://file:1'\nnamespace = 'from-file'\n[store]\nreaders = 2\n")
            .unwrap();
        let environment = fake(&[
            ("BATON_CONFIG", file.to_str().unwrap()),
            ("BATON_SERVER", "http://env:1"),
            ("BATON_OUTPUT", "json"),
        ]);
        let flags = GlobalArgs { output: Some(Format::Yaml), ..GlobalArgs::default() };
        let settings = Settings::resolve(&flags, &environment).unwrap();
        assert_eq!(
            settings.server,
            Setting { value: "http://env:1".to_owned(), source: Source::Environment("BATON_SERVER") }
        );
        assert_eq!(settings.servers(), ["http://env:1"]);
        let several =
            GlobalArgs { server: vec!["http://a:1".to_owned(), "http://b:1".to_owned()], ..GlobalArgs::default() };
        assert_eq!(Settings::resolve(&several, &environment).unwrap().servers(), ["http://a:1", "http://b:1"]);
        let environment_of_two = fake(&[("BATON_SERVER", "http://a:1, http://b:1"), ("HOME", "/nowhere")]);
        assert_eq!(
            Settings::resolve(&GlobalArgs::default(), &environment_of_two).unwrap().servers(),
            ["http://a:1", "http://b:1"]
        );
        assert_eq!(settings.namespace, Setting { value: "from-file".to_owned(), source: Source::File });
        assert_eq!(settings.output, Setting { value: Format::Yaml, source: Source::Flag });
        assert_eq!(settings.log_level, Setting { value: "warn".to_owned(), source: Source::Default });
        assert!(settings.server_table.contains_key("store") && settings.names_server());
    }

    #[test]
    fn a_file_with_unknown_keys_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("baton.toml");
        std::fs::write(&file, "[client]\nserve = 1\n").unwrap();
        let environment = fake(&[("BATON_CONFIG", file.to_str().unwrap())]);
        let failure = Settings::resolve(&GlobalArgs::default(), &environment).unwrap_err();
        assert!(failure.to_string().contains("client: unknown field `serve`"), "{failure}");
        assert_eq!(failure.exit_code(), 3);
    }

    #[test]
    fn without_anything_the_defaults_hold() {
        let settings = Settings::resolve(&GlobalArgs::default(), &fake(&[("HOME", "/nowhere")])).unwrap();
        assert_eq!((settings.server.value.as_str(), settings.namespace.value.as_str()), (SERVER_DEFAULT, "default"));
        assert!(!settings.names_server() && settings.file.is_none());
    }
}
