//! A data directory that cannot be used: the server says which one, why and what to do, ends with 3, and changes nothing.

use std::{
    fs,
    os::unix::{
        fs::{FileExt as _, PermissionsExt as _},
        process::CommandExt as _,
    },
    process::Command,
};

use serde_json::{Value, json};

use crate::{
    eventually,
    flows::{RUNS, WORKFLOWS, call, create, ended, mailbox, run, workflow},
    process::{Home, Output, Process, Server},
};

/// Where SQLite's header has `user_version`, the format of the store.
const USER_VERSION_AT: u64 = 60;
/// Nobody in particular.
const NOBODY: u32 = 65534;

/// A refusal with its hint, and nothing on stdout.
#[track_caller]
fn check(output: &Output, says: &[&str]) {
    assert_eq!((output.code, output.stdout.as_str()), (3, ""), "{output:?}");
    let lines: Vec<&str> =
        output.stderr.lines().filter(|line| line.starts_with("error: ") || line.starts_with("hint: ")).collect();
    assert!(
        lines.len() == 2 && lines[0].starts_with("error: the server did not start: ") && lines[1].starts_with("hint: "),
        "{output:?}"
    );
    for part in says {
        assert!(lines.iter().any(|line| line.contains(part)), "'{part}': {lines:#?}");
    }
    assert!(!output.stderr.contains("panicked"), "{output:?}");
}

/// A data directory in which an execution has ended.
fn used() -> Home {
    let home = Home::new();
    let server = home.serve();
    create(server.api, &workflow("quick", &json!([{"say": {"set": {"said": true}}}])));
    server.api.post(RUNS, &run("first", "quick")).expect(201);
    ended(server.api, RUNS, "first");
    assert_eq!(server.stop().code, 0);
    home
}

/// The data is as it was left by [`used`].
#[track_caller]
fn check_intact(home: &Home) {
    let server = home.serve();
    assert_eq!(server.api.get(&format!("{RUNS}/first")).expect(200)["status"]["output"], json!({"said": true}));
    assert_eq!(server.stop().code, 0);
}

#[test]
fn one_that_another_server_uses() {
    let home = used();
    let server = home.serve();
    check(&home.refused(), &["in use by another process", home.data_dir().to_str().unwrap(), "stop the other server"]);
    assert_eq!(server.api.get("/readyz").text, "ok");
    assert_eq!(server.stop().code, 0);
    check_intact(&home);
}

#[test]
fn one_of_a_newer_format() {
    let home = used();
    let path = home.data_dir().join("baton.db");
    let database = fs::OpenOptions::new().write(true).open(&path).unwrap();
    database.write_all_at(&99_u32.to_be_bytes(), USER_VERSION_AT).unwrap();
    let before = fs::read(&path).unwrap();
    check(
        &home.refused(),
        &[
            "has store format 99, this version reads formats 1 to 1",
            path.to_str().unwrap(),
            "run the version that wrote it",
        ],
    );
    assert!(fs::read(&path).unwrap() == before, "the database was changed");
    database.write_all_at(&1_u32.to_be_bytes(), USER_VERSION_AT).unwrap();
    check_intact(&home);
}

#[test]
fn one_with_another_file_in_place_of_the_database() {
    for content in [
        "a shopping list, which is longer than the header of a database is long: milk, bread, a hundred other things",
        "short",
    ] {
        let home = Home::new();
        fs::create_dir(home.data_dir()).unwrap();
        let path = home.data_dir().join("baton.db");
        fs::write(&path, content).unwrap();
        check(&home.refused(), &["is not a Baton store", path.to_str().unwrap(), "choose an empty directory"]);
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
        assert!(!home.data_dir().join("baton.key").exists(), "nothing is added to a folder of somebody else's");
    }
}

#[test]
fn one_that_is_a_file() {
    let home = Home::new();
    fs::write(home.data_dir(), "no folder").unwrap();
    let output = home.refused();
    assert_eq!(output.code, 3, "{output:?}");
    assert!(output.stderr.contains(home.data_dir().to_str().unwrap()), "{output:?}");
    assert_eq!(fs::read_to_string(home.data_dir()).unwrap(), "no folder");
}

#[test]
fn one_whose_key_is_gone_or_is_none() {
    let home = used();
    let path = home.data_dir().join("baton.key");
    let key = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    check(&home.refused(), &["key file", path.to_str().unwrap(), "restore the key file"]);
    assert!(!path.exists(), "another key would make the tokens that are out worthless for good");
    fs::write(&path, &key[..5]).unwrap();
    check(&home.refused(), &["has 5 bytes, a key has 32", path.to_str().unwrap(), "restore the key file"]);
    fs::write(&path, &key).unwrap();
    check_intact(&home);
}

/// The server's command as a user without rights: whoever is root may write everywhere.
fn without_rights(home: &Home) -> Command {
    if !rustix::process::geteuid().is_root() {
        return home.server_command();
    }
    // Where the binary lies, that user may not be let in.
    let binary = home.folder().join("baton");
    if !binary.exists() {
        fs::copy(env!("CARGO_BIN_EXE_baton"), &binary).unwrap();
    }
    fs::set_permissions(home.folder(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = home.wrapped(Command::new(binary), &["server", "--listen", "127.0.0.1:0", "--data-dir"]);
    command.arg(home.data_dir()).uid(NOBODY).gid(NOBODY);
    command
}

#[test]
fn one_that_cannot_be_written() {
    let home = used();
    let data_dir = home.data_dir();
    let says =
        ["cannot be written", data_dir.to_str().unwrap(), "choose a directory that the server's user can write to"];
    let modes = |directory: u32, files: u32| {
        for file in fs::read_dir(&data_dir).unwrap() {
            fs::set_permissions(file.unwrap().path(), fs::Permissions::from_mode(files)).unwrap();
        }
        fs::set_permissions(&data_dir, fs::Permissions::from_mode(directory)).unwrap();
    };
    for (directory, files) in [(0o555, 0o444), (0o555, 0o600), (0o500, 0o600)] {
        // To the owner itself, who is no root, its own files of the last two are open.
        if files != 0o444 && !rustix::process::geteuid().is_root() {
            continue;
        }
        modes(directory, files);
        check(&Process::start(without_rights(&home)).end(), &says);
    }
    modes(0o700, 0o600);
    check_intact(&home);
    // And one that would have to be made.
    let home = Home::new();
    fs::set_permissions(home.folder(), fs::Permissions::from_mode(0o555)).unwrap();
    let output = Process::start(without_rights_below(&home)).end();
    check(&output, &["cannot be written", "choose a directory"]);
    fs::set_permissions(home.folder(), fs::Permissions::from_mode(0o700)).unwrap();
}

/// As [`without_rights`], over a folder that was made read-only before.
fn without_rights_below(home: &Home) -> Command {
    let command = without_rights(home);
    fs::set_permissions(home.folder(), fs::Permissions::from_mode(0o555)).unwrap();
    command
}

#[test]
fn one_on_a_disk_that_is_nearly_full() {
    let home = used();
    // No disk has so much free.
    home.configure("[store]\nfree-min = \"1000000000GiB\"\n");
    let server = home.serve();
    let api = server.api;
    for (path, object) in
        [(RUNS, run("second", "quick")), (WORKFLOWS, workflow("other", &json!([{"say": {"set": {"said": 1}}}])))]
    {
        let answer = api.post(path, &object);
        assert_eq!((answer.status, answer.reason().as_str()), (507, "STORAGE_FULL"), "{}", answer.text);
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(" bytes free, 1073741824000000000 are needed"), "{message}");
    }
    let answer = api.post("callbacks:create", &json!({}));
    assert_eq!((answer.status, answer.reason().as_str()), (507, "STORAGE_FULL"), "{}", answer.text);
    assert_eq!(api.get(&format!("{RUNS}/first")).expect(200)["status"]["phase"], "Completed");
    assert_eq!(api.get(RUNS).expect(200)["items"].as_array().unwrap().len(), 1);
    assert!(!api.get(&format!("{RUNS}/first/history")).expect(200)["events"].as_array().unwrap().is_empty());
    // Deleting is what makes room.
    api.delete(&format!("{RUNS}/first")).expect(200);
    assert_eq!(server.stop().code, 0);
}

/// Creates executions with a large input until something else than 201 comes; gives their names and that answer.
fn fill(server: &Server) -> (Vec<String>, std::io::Result<crate::http::Answer>) {
    let mut names = Vec::new();
    loop {
        let mut object = run(&format!("large-{}", names.len()), "quick");
        object["spec"]["input"] = json!("x".repeat(100_000));
        match server.api.try_post(RUNS, &object) {
            Ok(answer) if answer.status == 201 => names.push(object["metadata"]["name"].as_str().unwrap().to_owned()),
            other => return (names, other),
        }
        assert!(names.len() < 1000, "the disk is never full");
    }
}

/// Every execution that was acknowledged is there and has ended.
#[track_caller]
fn check_all_ended(server: &Server, names: &[String]) {
    for name in names {
        assert_eq!(ended(server.api, RUNS, name)["status"]["phase"], "Completed", "{name}");
    }
}

#[test]
fn one_whose_database_has_reached_its_bound() {
    let home = used();
    home.configure("[store]\nfree-min = \"0B\"\ndatabase-max = \"4MiB\"\n");
    let server = home.serve();
    let (names, answer) = fill(&server);
    let answer = answer.unwrap();
    assert_eq!((answer.status, answer.reason().as_str()), (507, "STORAGE_FULL"), "{}", answer.text);
    assert!(!names.is_empty());
    assert_eq!(server.api.get(&format!("{RUNS}/first")).expect(200)["status"]["phase"], "Completed");
    assert_eq!(server.stop().code, 0);
    home.configure("[store]\nfree-min = \"0B\"\n");
    let server = home.serve();
    check_all_ended(&server, &names);
    server.api.post(RUNS, &run("after", "quick")).expect(201);
    check_all_ended(&server, &["after".to_owned()]);
    assert_eq!(server.stop().code, 0);
}

#[test]
fn one_whose_disk_refuses_in_the_middle() {
    let home = used();
    // A file of the process may have 3 MiB; to be told so rather than killed, it ignores the signal that says it.
    let script = format!("trap '' XFSZ; ulimit -f 6144; exec '{}' \"$@\"", env!("CARGO_BIN_EXE_baton"));
    let mut command =
        home.wrapped(Command::new("sh"), &["-c", &script, "sh", "server", "--listen", "127.0.0.1:0", "--data-dir"]);
    command.arg(home.data_dir());
    let server = Server::start(command);
    let token = mailbox(server.api);
    let (names, refused) = fill(&server);
    if let Ok(answer) = refused {
        assert!(matches!(answer.status, 503 | 507) && !answer.reason().is_empty(), "{}", answer.text);
    }
    assert!(!names.is_empty());
    // What cannot be written is never pretended to be: the server ends, or refuses and goes on.
    let output = eventually_stopped(server);
    assert!(matches!(output.code, 0 | 3), "{output:?}");
    assert!(output.code == 0 || output.stderr.contains("hint: start the server again"), "{output:?}");
    assert!(!output.stderr.contains("panicked"), "{output:?}");
    let server = home.serve();
    check_all_ended(&server, &names);
    let waiting: Value = server.api.post("callbacks:await", &json!({"token": token})).expect(200);
    assert_eq!(waiting["state"], "Waiting");
    assert_eq!(server.stop().code, 0);
}

/// The end of a server that may have ended by itself.
fn eventually_stopped(server: Server) -> Output {
    let gone = || server.api.send("GET", "/version", &[], b"").is_err();
    let refusing = || server.api.send("GET", "/readyz", &[], b"").map_or(true, |answer| answer.status == 503);
    eventually("the server is gone or says that it is not ready", || refusing().then_some(()));
    if gone() { server.end() } else { server.stop() }
}

#[test]
fn work_goes_on_when_a_disk_is_full_for_new_work_alone() {
    let home = used();
    let server = home.serve();
    create(
        server.api,
        &workflow(
            "sleeps",
            &json!([{"sleep": {"wait": {"milliseconds": 300}}}, {"say": {"call": "baton.dev/echo", "with": {"said": 1}}}]),
        ),
    );
    create(server.api, &workflow("unreachable", &json!([{"ask": call("http://127.0.0.1:1/", &json!({}))}])));
    for name in ["sleeps", "unreachable"] {
        server.api.post(RUNS, &run(name, name)).expect(201);
    }
    server.kill();
    home.configure("[store]\nfree-min = \"1000000000GiB\"\n");
    let server = home.serve();
    assert_eq!(ended(server.api, RUNS, "sleeps")["status"]["output"], json!({"said": 1}));
    assert_eq!(ended(server.api, RUNS, "unreachable")["status"]["phase"], "Failed");
    assert_eq!(server.stop().code, 0);
}
