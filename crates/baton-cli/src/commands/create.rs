//! `baton create secret`: values from the command line, files, variables and stdin.
//!
//! # Invariants
//! - No message names a value: what is wrong is told by key and place.

use std::{collections::BTreeMap, path::Path};

use baton_proto::v1;

use super::Context;
use crate::{
    args::{CreateCommand, CreateSecretArgs, Format},
    failure::Failure,
    kind::{Kind, Object},
    manifest::{read_bytes, read_text},
    output,
    settings::{Environment, ProcessEnvironment},
};

pub(crate) async fn create(context: &Context, command: CreateCommand) -> Result<(), Failure> {
    let CreateCommand::Secret(args) = command;
    let data = values(&args, &ProcessEnvironment)?;
    let namespace = context.namespace().to_owned();
    let mut secret = v1::Secret::default();
    let client = context.client().await?;
    let found = if args.update { Some(client.get(Kind::Secret, &namespace, &args.name).await?) } else { None };
    secret.metadata = Some(match &found {
        Some(found) => found.metadata().clone(),
        None => v1::ObjectMeta { name: args.name.clone(), namespace, ..v1::ObjectMeta::default() },
    });
    secret.spec = Some(v1::SecretSpec { data, ..v1::SecretSpec::default() });
    let object = Object::from(secret);
    let (written, word) = if found.is_some() {
        (client.update(object, args.dry_run).await?, "updated")
    } else {
        let created = client.create(object, args.dry_run).await.map_err(|failure| {
            if failure.code() == Some(tonic::Code::AlreadyExists) {
                failure.hint("set keys of the one that exists with --update")
            } else {
                failure
            }
        });
        (created?, "created")
    };
    context.warn(&written.object.reference(), &written.warnings);
    let dry = if args.dry_run { " (dry run)" } else { "" };
    context.printer.message(&format!("{} {word}{dry}", written.object.reference()));
    if context.settings.output.value != Format::Table {
        context.printer.data(&output::object(context.settings.output.value, &written.object))?;
    }
    Ok(())
}

/// The values by their keys, from wherever they are.
fn values(args: &CreateSecretArgs, environment: &impl Environment) -> Result<BTreeMap<String, String>, Failure> {
    let mut data = BTreeMap::new();
    let mut stdin_is_read = false;
    let mut stdin = |key: &str| {
        if std::mem::replace(&mut stdin_is_read, true) {
            return Err(Failure::usage(format!("the value of '{key}': stdin is read for one key only")));
        }
        let text = read_text(&format!("the value of '{key}'"), "-")?;
        let line = text.strip_suffix('\n').unwrap_or(&text);
        Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
    };
    let mut set = |key: &str, value: String| {
        if data.insert(key.to_owned(), value).is_some() {
            return Err(Failure::usage(format!("the key '{key}' is given twice")));
        }
        Ok(())
    };
    for (index, given) in args.from_literal.iter().enumerate() {
        // Without a '=' all of it may be the value.
        let missing =
            || Failure::usage(format!("--from-literal number {} has no '='; allowed is KEY=VALUE", index + 1));
        let (key, value) = given.split_once('=').ok_or_else(missing)?;
        let value = if value == "-" { stdin(key)? } else { value.to_owned() };
        set(key, value)?;
    }
    for given in &args.from_file {
        let own_name = || Path::new(given).file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let (key, path) = given.split_once('=').unwrap_or_else(|| (own_name(), given));
        if key.is_empty() || given == "-" {
            return Err(Failure::usage(format!("--from-file '{given}' says no key; allowed is KEY=FILE")));
        }
        let value = if path == "-" {
            stdin(key)?
        } else {
            let bytes =
                read_bytes(Path::new(path)).map_err(|failure| failure.while_doing(format!("the value of '{key}'")))?;
            String::from_utf8(bytes).map_err(|_| {
                Failure::refused(format!("the value of '{key}': the file '{path}' is not UTF-8"))
                    .hint("encode it, as with base64, and decode it where it is used")
            })?
        };
        set(key, value)?;
    }
    for given in &args.from_env {
        let (key, variable) = given.split_once('=').unwrap_or((given, given));
        let value = environment.read(variable).ok_or_else(|| {
            Failure::refused(format!("the value of '{key}': the variable '{variable}' is not set, or empty"))
        })?;
        set(key, value)?;
    }
    if data.is_empty() {
        return Err(
            Failure::usage("the secret has no values").hint("give some with --from-file, --from-env or --from-literal")
        );
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    struct Variables;

    impl Environment for Variables {
        fn read(&self, name: &str) -> Option<String> {
            (name == "TOKEN").then(|| "from a variable".to_owned())
        }
    }

    fn read(args: &[&str]) -> Result<BTreeMap<String, String>, Failure> {
        let args = ["baton", "create", "secret", "db"].iter().chain(args);
        let Command::Create(CreateCommand::Secret(args)) = Cli::try_parse_from(args).unwrap().command else {
            panic!("another command");
        };
        values(&args, &Variables)
    }

    #[test]
    fn values_come_from_everywhere() {
        let mut file = tempfile::Builder::new().prefix("cert.").tempfile().unwrap();
        file.write_all(b"from a file\n").unwrap();
        let path = file.path().to_str().unwrap();
        let keyed = format!("key={path}");
        let all = read(&[
            "--from-literal",
            "a=x=y",
            "--from-file",
            path,
            "--from-file",
            &keyed,
            "--from-env",
            "TOKEN",
            "--from-env",
            "b=TOKEN",
        ]);
        let name = file.path().file_name().unwrap().to_str().unwrap();
        let expected = [
            ("a", "x=y"),
            (name, "from a file\n"),
            ("key", "from a file\n"),
            ("TOKEN", "from a variable"),
            ("b", "from a variable"),
        ];
        assert_eq!(all.unwrap(), expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    }

    #[test]
    fn what_is_wrong_is_told_without_values() {
        for (args, told) in [
            (&["--from-literal", "hunter2"][..], "--from-literal number 1 has no '='"),
            (&["--from-literal", "a=hunter2", "--from-env", "a=TOKEN"], "the key 'a' is given twice"),
            (&["--from-env", "GONE"], "the variable 'GONE' is not set"),
            (&["--from-file", "a=/nowhere/at/all"], "the value of 'a'"),
            (&["--from-file", "-"], "says no key"),
            (&[], "the secret has no values"),
        ] {
            let failure = read(args).unwrap_err().lines().join("\n");
            assert!(failure.contains(told) && !failure.contains("hunter2"), "{failure}");
        }
    }
}
