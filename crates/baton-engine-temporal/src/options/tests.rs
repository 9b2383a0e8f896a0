use std::fs;

use super::*;

fn environment<'a>(variables: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
    move |name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
}

/// A folder with a `temporal.toml` in the usual place below it.
fn home(toml: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("temporalio")).unwrap();
    fs::write(folder.path().join("temporalio/temporal.toml"), toml).unwrap();
    folder
}

fn at(folder: &tempfile::TempDir) -> String {
    folder.path().to_str().unwrap().to_owned()
}

const TWO_PROFILES: &str = r#"
[profile.default]
address = "file.example:7233"
namespace = "of-file"
api_key = "key-of-file"

[profile.cloud]
address = "cloud.example:7233"
[profile.cloud.tls]
server_name = "name.example"
client_cert_path = "/c.pem"
client_key_path = "/k.pem"
[profile.cloud.grpc_meta]
Some_Header = "of-file"
other = "stays"
"#;

#[test]
fn with_nothing_said_it_is_the_local_server() {
    let resolved = resolve(TemporalOptionsOverrides::default(), |_| None).unwrap();
    let options = resolved.options;
    assert_eq!((options.address.as_str(), options.namespace.as_str()), ("127.0.0.1:7233", "default"));
    assert_eq!((options.api_key, options.tls), (None, TlsOptions::default()));
    assert!(options.identity.starts_with("baton:"), "{}", options.identity);
    assert!(resolved.origins.values().all(|origin| *origin == Origin::Default));
}

#[test]
fn settings_go_before_variables_before_the_file_before_defaults() {
    let folder = home(TWO_PROFILES);
    let config = at(&folder);
    let variables = [
        ("XDG_CONFIG_HOME", config.as_str()),
        ("TEMPORAL_ADDRESS", "variable.example:7233"),
        ("TEMPORAL_NAMESPACE", "of-variable"),
        ("TEMPORAL_TLS_SERVER_NAME", ""),
    ];
    let base = TemporalOptionsOverrides {
        address: Some("setting.example:7233".to_owned()),
        ..TemporalOptionsOverrides::default()
    };
    let resolved = resolve(base, environment(&variables)).unwrap();
    assert_eq!(resolved.options.address, "setting.example:7233");
    assert_eq!(resolved.options.namespace, "of-variable");
    assert_eq!(resolved.options.api_key.as_ref().map(Hidden::expose), Some("key-of-file"));
    assert_eq!(resolved.origins["address"], Origin::Setting);
    assert_eq!(resolved.origins["namespace"], Origin::Environment("TEMPORAL_NAMESPACE"));
    let file = folder.path().join("temporalio/temporal.toml");
    assert_eq!(resolved.origins["api-key"], Origin::Profile { file, profile: "default".to_owned() });
    assert_eq!(resolved.origins["tls-server-name"], Origin::Default, "an empty variable is none");
}

#[test]
fn a_profile_is_chosen_by_setting_or_by_variable() {
    let folder = home(TWO_PROFILES);
    let config = at(&folder);
    let by_variable = [("XDG_CONFIG_HOME", config.as_str()), ("TEMPORAL_PROFILE", "cloud")];
    let options = from_environment(TemporalOptionsOverrides::default(), environment(&by_variable)).unwrap();
    assert_eq!(options.address, "cloud.example:7233");
    assert_eq!(options.namespace, "default", "the profile says nothing of it");
    assert_eq!(options.tls.enabled, Some(true), "a section about TLS is the wish for it");
    assert_eq!(options.tls.cert, Some(Pem::File("/c.pem".into())));
    assert_eq!(options.tls.server_name.as_deref(), Some("name.example"));

    let base = TemporalOptionsOverrides {
        config_file: Some(folder.path().join("temporalio/temporal.toml")),
        profile: Some("default".to_owned()),
        tls: Some(false),
        ..TemporalOptionsOverrides::default()
    };
    let options = from_environment(base, environment(&by_variable[1..])).unwrap();
    assert_eq!((options.address.as_str(), options.tls.enabled), ("file.example:7233", Some(false)));
}

#[test]
fn headers_of_variables_are_added_and_empty_ones_removed() {
    let folder = home(TWO_PROFILES);
    let config = at(&folder);
    let variables = [("XDG_CONFIG_HOME", config.as_str()), ("TEMPORAL_PROFILE", "cloud")];
    let set = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let headers = header_variables([
        set("TEMPORAL_GRPC_META_SOME_HEADER", ""),
        set("TEMPORAL_GRPC_META_X_TEAM", "a"),
        set("TEMPORAL_GRPC_META_", "b"),
        set("PATH", "/bin"),
    ]);
    let base = TemporalOptionsOverrides { headers, ..TemporalOptionsOverrides::default() };
    let options = from_environment(base, environment(&variables)).unwrap();
    let shown: Vec<_> = options.headers.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
    assert_eq!(shown, [("other", "stays"), ("x-team", "a")]);
}

#[test]
fn what_was_named_must_be_there_and_what_is_usual_may_be_missing() {
    let empty = tempfile::tempdir().unwrap();
    let config = at(&empty);
    let here = ("XDG_CONFIG_HOME", config.as_str());
    let default = TemporalOptionsOverrides::default;
    let refused = |variables: &[(&str, &str)]| resolve(default(), environment(variables)).unwrap_err().to_string();
    assert!(resolve(default(), environment(&[here])).is_ok());
    let missing = format!("{config}/nowhere.toml");
    assert_eq!(refused(&[("TEMPORAL_CONFIG_FILE", &missing)]), format!("read Temporal's configuration {missing}"));
    assert_eq!(
        refused(&[here, ("TEMPORAL_PROFILE", "cloud")]),
        format!("no profile 'cloud' in Temporal's configuration, {config}/temporalio/temporal.toml does not exist")
    );
    assert_eq!(
        refused(&[("TEMPORAL_PROFILE", "cloud")]),
        "no profile 'cloud' in Temporal's configuration, of which there is no file"
    );
    let folder = home(TWO_PROFILES);
    let config = at(&folder);
    assert_eq!(
        refused(&[("XDG_CONFIG_HOME", &config), ("TEMPORAL_PROFILE", "prod")]),
        format!("no profile 'prod' in Temporal's configuration, {config}/temporalio/temporal.toml")
    );
}

#[test]
fn variables_that_contradict_are_refused() {
    let refused = |variables: &[(&str, &str)]| {
        resolve(TemporalOptionsOverrides::default(), environment(variables)).unwrap_err().to_string()
    };
    assert_eq!(refused(&[("TEMPORAL_TLS", "yes")]), "TEMPORAL_TLS is 'yes', allowed are true, false, 1 and 0");
    let both = [("TEMPORAL_TLS_CLIENT_KEY_PATH", "/k"), ("TEMPORAL_TLS_CLIENT_KEY_DATA", "secret-key")];
    let said = refused(&both);
    assert!(said.contains("TEMPORAL_TLS_CLIENT_KEY_PATH") && !said.contains("secret"), "{said}");
    let said = refused(&[("TEMPORAL_TLS_DISABLE_HOST_VERIFICATION", "true")]);
    assert!(said.contains("is always checked"), "{said}");
    let off = [("TEMPORAL_TLS_DISABLE_HOST_VERIFICATION", "true"), ("TEMPORAL_TLS", "false")];
    assert!(resolve(TemporalOptionsOverrides::default(), environment(&off)).is_ok());
}

#[test]
fn no_secret_is_shown() {
    let secrets = [
        ("TEMPORAL_API_KEY", "secret-1"),
        ("TEMPORAL_TLS_CLIENT_CERT_DATA", "secret-2"),
        ("TEMPORAL_TLS_CLIENT_KEY_DATA", "secret-3"),
    ];
    let headers = header_variables([("TEMPORAL_GRPC_META_AUTH".to_owned(), "secret-4".to_owned())]);
    let base = TemporalOptionsOverrides { headers, ..TemporalOptionsOverrides::default() };
    let shown = format!("{base:?} {:?}", resolve(base.clone(), environment(&secrets)).unwrap());
    assert!(!shown.contains("secret") && shown.contains("***"), "{shown}");

    for broken in ["api_key = \"secret-5", "api_key = [\"secret-5\"]", "tls = \"secret-5\""] {
        let folder = home(&format!("[profile.default]\n{broken}\n"));
        let config = at(&folder);
        let error = resolve(TemporalOptionsOverrides::default(), environment(&[("XDG_CONFIG_HOME", &config)]));
        let shown = format!("{0} {0:?}", error.unwrap_err());
        assert!(!shown.contains("secret") && shown.contains("line 2"), "{shown}");
    }
}
