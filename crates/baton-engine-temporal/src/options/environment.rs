//! The options as they come together: Baton's settings, Temporal's variables, a profile of a file, defaults.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
};

use temporalio_common::envconfig::{
    ClientConfigProfile, ConfigError, DataSource, LoadClientConfigProfileOptions, load_client_config_profile,
};

use super::{
    Hidden, OptionsError, Origin, Pem, Resolved, TemporalOptions, TemporalOptionsOverrides, TlsOptions, VARIABLES,
};

/// Those of them that are true or false.
const FLAGS: [&str; 2] = ["TEMPORAL_TLS", "TEMPORAL_TLS_DISABLE_HOST_VERIFICATION"];
/// What the names of variables that give headers begin with.
const HEADER_VARIABLE: &str = "TEMPORAL_GRPC_META_";

/// Resolves the options from Baton's settings, Temporal's variables, and Temporal's configuration file.
///
/// # Errors
/// See [`OptionsError`].
pub fn from_environment(
    base: TemporalOptionsOverrides,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<TemporalOptions, OptionsError> {
    resolve(base, environment).map(|resolved| resolved.options)
}

/// [`from_environment`] that tells where each value came from.
///
/// # Errors
/// See [`OptionsError`].
pub fn resolve(
    base: TemporalOptionsOverrides,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Resolved, OptionsError> {
    let environment = |name: &str| environment(name).filter(|value| !value.is_empty());
    let variables: HashMap<String, String> =
        VARIABLES.iter().filter_map(|name| environment(name).map(|value| ((*name).to_owned(), value))).collect();
    check_flags(&variables)?;
    let file = ProfileFile::find(&base, &variables, &environment)?;
    let in_file = file.as_ref().map(|file| file.profile(&HashMap::new())).transpose()?.unwrap_or_default();
    let merged = if let Some(file) = &file {
        file.profile(&variables)?
    } else {
        let mut profile = ClientConfigProfile::default();
        profile.load_from_env(Some(&variables)).map_err(|error| OptionsError::Conflict(words(&error)))?;
        profile
    };
    let sources = Sources { base: &base, variables: &variables, file: file.as_ref(), in_file: &in_file };
    let origins = sources.origins();
    Ok(Resolved { options: merge(base, merged)?, origins })
}

/// Headers that variables of the environment give: `TEMPORAL_GRPC_META_SOME_KEY` is `some-key`. For
/// [`TemporalOptionsOverrides::headers`].
pub fn header_variables(variables: impl IntoIterator<Item = (String, String)>) -> BTreeMap<String, Hidden> {
    let header = |(name, value): (String, String)| {
        let name = name.strip_prefix(HEADER_VARIABLE)?.to_lowercase().replace('_', "-");
        (!name.is_empty()).then(|| (name, Hidden::from(value)))
    };
    variables.into_iter().filter_map(header).collect()
}

fn check_flags(variables: &HashMap<String, String>) -> Result<(), OptionsError> {
    for variable in FLAGS {
        match variables.get(variable).map(|value| value.to_lowercase()) {
            None => {}
            Some(value) if ["true", "false", "1", "0"].contains(&value.as_str()) => {}
            Some(found) => return Err(OptionsError::NoFlag { variable, found }),
        }
    }
    Ok(())
}

/// A `temporal.toml` and the profile in it that counts.
struct ProfileFile {
    path: PathBuf,
    content: Vec<u8>,
    /// The profile that was asked for by name.
    named: Option<String>,
}

impl ProfileFile {
    fn find(
        base: &TemporalOptionsOverrides,
        variables: &HashMap<String, String>,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, OptionsError> {
        let named = base.profile.clone().or_else(|| variables.get("TEMPORAL_PROFILE").cloned());
        let chosen = base.config_file.clone().or_else(|| variables.get("TEMPORAL_CONFIG_FILE").map(PathBuf::from));
        let usual = usual_file(environment);
        let Some(path) = chosen.clone().or(usual) else {
            return match named {
                Some(profile) => {
                    Err(OptionsError::NoProfile { profile, looked_at: "of which there is no file".to_owned() })
                }
                None => Ok(None),
            };
        };
        match (std::fs::read(&path), chosen.is_some(), named) {
            (Ok(content), _, named) => Ok(Some(Self { path, content, named })),
            (Err(error), false, None) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            (Err(error), false, Some(profile)) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(OptionsError::NoProfile { profile, looked_at: format!("{} does not exist", path.display()) })
            }
            (Err(source), ..) => Err(OptionsError::Read { path, source }),
        }
    }

    fn profile(&self, variables: &HashMap<String, String>) -> Result<ClientConfigProfile, OptionsError> {
        let options = LoadClientConfigProfileOptions::builder()
            .config_source(DataSource::Data(self.content.clone()))
            .maybe_config_file_profile(self.named.clone())
            .build();
        load_client_config_profile(options, Some(variables)).map_err(|error| match error {
            ConfigError::ProfileNotFound(profile) => {
                OptionsError::NoProfile { profile, looked_at: self.path.display().to_string() }
            }
            error => OptionsError::Malformed { path: self.path.clone(), problem: words(&error) },
        })
    }
}

/// What is wrong, without the lines of the file that the reader of TOML shows: they may hold a key.
fn words(error: &ConfigError) -> String {
    match error {
        ConfigError::InvalidConfig(problem) => problem.clone(),
        ConfigError::ProfileNotFound(profile) => format!("no profile '{profile}'"),
        ConfigError::LoadError(error) => error.to_string().lines().next().unwrap_or("cannot be read").to_owned(),
    }
}

/// Where Temporal's tools look for their file: the system's folder for configuration, then `temporalio/temporal.toml`.
fn usual_file(environment: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let home = || environment("HOME").map(PathBuf::from);
    let folder = if cfg!(target_os = "windows") {
        environment("APPDATA").map(PathBuf::from)
    } else if cfg!(target_os = "macos") {
        home().map(|home| home.join("Library/Application Support"))
    } else {
        let set = environment("XDG_CONFIG_HOME").map(PathBuf::from).filter(|folder| folder.is_absolute());
        set.or_else(|| home().map(|home| home.join(".config")))
    };
    folder.map(|folder| folder.join("temporalio/temporal.toml"))
}

/// All that was asked, to tell where a value comes from.
struct Sources<'a> {
    base: &'a TemporalOptionsOverrides,
    variables: &'a HashMap<String, String>,
    file: Option<&'a ProfileFile>,
    in_file: &'a ClientConfigProfile,
}

impl Sources<'_> {
    fn origins(&self) -> BTreeMap<&'static str, Origin> {
        let (base, file) = (self.base, self.in_file);
        let tls = file.tls.as_ref();
        BTreeMap::from([
            ("address", self.origin(base.address.is_some(), &["TEMPORAL_ADDRESS"], file.address.is_some())),
            ("namespace", self.origin(base.namespace.is_some(), &["TEMPORAL_NAMESPACE"], file.namespace.is_some())),
            ("api-key", self.origin(base.api_key.is_some(), &["TEMPORAL_API_KEY"], file.api_key.is_some())),
            ("tls", self.origin(base.tls.is_some(), &["TEMPORAL_TLS"], tls.is_some())),
            (
                "tls-ca",
                self.origin(
                    base.tls_ca.is_some(),
                    &["TEMPORAL_TLS_SERVER_CA_CERT_PATH", "TEMPORAL_TLS_SERVER_CA_CERT_DATA"],
                    tls.is_some_and(|tls| tls.server_ca_cert.is_some()),
                ),
            ),
            (
                "tls-cert",
                self.origin(
                    base.tls_cert.is_some(),
                    &["TEMPORAL_TLS_CLIENT_CERT_PATH", "TEMPORAL_TLS_CLIENT_CERT_DATA"],
                    tls.is_some_and(|tls| tls.client_cert.is_some()),
                ),
            ),
            (
                "tls-key",
                self.origin(
                    base.tls_key.is_some(),
                    &["TEMPORAL_TLS_CLIENT_KEY_PATH", "TEMPORAL_TLS_CLIENT_KEY_DATA"],
                    tls.is_some_and(|tls| tls.client_key.is_some()),
                ),
            ),
            (
                "tls-server-name",
                self.origin(
                    base.tls_server_name.is_some(),
                    &["TEMPORAL_TLS_SERVER_NAME"],
                    tls.is_some_and(|tls| tls.server_name.is_some()),
                ),
            ),
        ])
    }

    fn origin(&self, set: bool, variables: &[&'static str], in_file: bool) -> Origin {
        if set {
            return Origin::Setting;
        }
        if let Some(name) = variables.iter().find(|name| self.variables.contains_key(**name)) {
            return Origin::Environment(name);
        }
        match self.file {
            Some(file) if in_file => Origin::Profile { file: file.path.clone(), profile: self.profile_name() },
            _ => Origin::Default,
        }
    }

    fn profile_name(&self) -> String {
        self.file.and_then(|file| file.named.clone()).unwrap_or_else(|| "default".to_owned())
    }
}

fn merge(base: TemporalOptionsOverrides, profile: ClientConfigProfile) -> Result<TemporalOptions, OptionsError> {
    let named_tls = profile.tls.is_some();
    let tls = profile.tls.unwrap_or_default();
    // Temporal's tools take a section about TLS as the wish for it.
    let enabled = base.tls.or_else(|| named_tls.then(|| tls.disabled != Some(true)));
    if tls.disable_host_verification && enabled != Some(false) {
        let problem = "TEMPORAL_TLS_DISABLE_HOST_VERIFICATION (or disable_host_verification of the profile) is set, but \
                       whom an answer is sent to is always checked; name the authority in tls-ca or the name in \
                       tls-server-name instead";
        return Err(OptionsError::Conflict(problem.to_owned()));
    }
    let mut headers: BTreeMap<String, Hidden> =
        profile.grpc_meta.into_iter().map(|(name, value)| (name, Hidden::from(value))).collect();
    headers.extend(base.headers);
    headers.retain(|_, value| !value.expose().is_empty());
    let defaults = TemporalOptions::default();
    Ok(TemporalOptions {
        address: base.address.or(profile.address).unwrap_or(defaults.address),
        namespace: base.namespace.or(profile.namespace).unwrap_or(defaults.namespace),
        api_key: base.api_key.or_else(|| profile.api_key.map(Hidden::from)),
        tls: TlsOptions {
            enabled,
            ca: base.tls_ca.or_else(|| pem(tls.server_ca_cert)),
            cert: base.tls_cert.or_else(|| pem(tls.client_cert)),
            key: base.tls_key.or_else(|| pem(tls.client_key)),
            server_name: base.tls_server_name.or(tls.server_name),
        },
        headers,
        identity: base.identity.unwrap_or(defaults.identity),
        connect_timeout: base.connect_timeout.unwrap_or(defaults.connect_timeout),
        rpc_timeout: base.rpc_timeout.unwrap_or(defaults.rpc_timeout),
    })
}

fn pem(source: Option<DataSource>) -> Option<Pem> {
    match source? {
        DataSource::Path(path) => Some(Pem::File(PathBuf::from(path))),
        DataSource::Data(text) => Some(Pem::Text(text)),
        // The client crate keeps the right to more forms; it makes only these two.
        _ => None,
    }
}
