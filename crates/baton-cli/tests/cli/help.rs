//! `--help` of each command, word for word.

use expect_test::expect_file;

use crate::support::Baton;

const COMMANDS: [&str; 40] = [
    "run",
    "server",
    "worker",
    "apply",
    "create",
    "create secret",
    "get",
    "list",
    "describe",
    "delete",
    "watch",
    "cancel",
    "terminate",
    "suspend",
    "resume",
    "chat",
    "session",
    "session export",
    "artifact",
    "artifact put",
    "artifact get",
    "artifact list",
    "history",
    "tree",
    "callback",
    "callback create",
    "callback complete",
    "callback fail",
    "event",
    "event send",
    "mcp",
    "validate",
    "fmt",
    "graph",
    "test",
    "import",
    "backup",
    "restore",
    "config",
    "completion",
];

#[test]
fn each_command_explains_itself() {
    let baton = Baton::new();
    let mut all = baton.run(&["--help"]).ok();
    for command in COMMANDS {
        let mut args: Vec<&str> = command.split(' ').collect();
        args.push("--help");
        let help = baton.run(&args).ok();
        // The options of every command are shown once, above.
        let own = help.split("\nGlobal options:").next().unwrap();
        all.extend(["\n==== baton ", command, "\n", own.trim_end(), "\n"]);
    }
    let all = all.lines().map(str::trim_end).collect::<Vec<_>>().join("\n") + "\n";
    expect_file!["snapshots/help.txt"].assert_eq(&all);
}

#[test]
fn the_version_is_data() {
    let baton = Baton::new();
    assert_eq!(baton.run(&["version"]).ok(), format!("baton {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(baton.run(&["--version"]).ok(), format!("baton {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn completion_knows_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = Baton::new().run(&["completion", shell]).ok();
        assert!(
            [
                "callback",
                "validate",
                "graph",
                "mermaid",
                "junit",
                "field-selector",
                "worker-key-file",
                "temporal-address"
            ]
            .iter()
            .all(|it| script.contains(it)),
            "{shell}"
        );
    }
}
