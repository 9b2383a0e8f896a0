//! Every case runs by every means that works on the machine that tests.

use std::{fs, net::TcpListener};

use super::*;

/// Sandboxes by each means that works here.
async fn sandboxes(options: &RunOptions) -> Vec<Sandbox> {
    let mut works = Vec::new();
    for means in [Means::Bubblewrap, Means::Landlock] {
        let sandbox = Sandbox::new(options.clone());
        match sandbox.attempt(means).await {
            Ok(()) => {
                sandbox.means.set(Ok(means)).unwrap();
                works.push(sandbox);
            }
            Err(why) => eprintln_test(&why),
        }
    }
    assert!(!works.is_empty(), "this machine has neither bubblewrap nor Landlock");
    works
}

#[expect(clippy::print_stderr, reason = "says which means the machine does not have")]
fn eprintln_test(why: &str) {
    eprintln!("not tested: {why}");
}

fn shell(script: &str) -> Job {
    Job { program: "sh".to_owned(), arguments: vec!["-c".to_owned(), script.to_owned()], ..Job::default() }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

async fn run(sandbox: &Sandbox, script: &str) -> (i32, String, String) {
    let finished = sandbox.run(shell(script), Vec::new()).await.unwrap();
    (finished.code, text(&finished.stdout), text(&finished.stderr))
}

#[tokio::test]
async fn gives_back_what_the_command_said() {
    for sandbox in sandboxes(&RunOptions::default()).await {
        let mut job = shell("cat; cat file; echo \"$1 $NAME\"; echo oh >&2; exit 3");
        job.arguments.extend(["sh".to_owned(), "a b".to_owned()]);
        job.environment.insert("NAME".to_owned(), "$(id)".to_owned());
        job.files.push(("file".to_owned(), b"from a file\n".to_vec()));
        let finished = sandbox.run(job, b"from input\n".to_vec()).await.unwrap();
        assert_eq!(text(&finished.stdout), "from input\nfrom a file\na b $(id)\n");
        assert_eq!((finished.code, text(&finished.stderr)), (3, "oh\n".to_owned()));
        assert_eq!(run(&sandbox, "kill -9 $$").await.0, 137);
    }
}

#[tokio::test]
async fn the_environment_holds_nothing_of_the_server() {
    for sandbox in sandboxes(&RunOptions::default()).await {
        let (code, said, _) = run(&sandbox, "env").await;
        let mut names: Vec<_> = said.lines().filter_map(|line| line.split('=').next()).collect();
        // The shell sets the last two by itself.
        names.retain(|name| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name));
        names.sort_unstable();
        assert_eq!((code, names), (0, vec!["HOME", "LANG", "PATH", "TMPDIR"]));
    }
}

#[tokio::test]
async fn files_outside_of_the_working_directory_are_out_of_reach() {
    let elsewhere = tempfile::tempdir().unwrap();
    let secret = elsewhere.path().join("secret");
    fs::write(&secret, "the key").unwrap();
    let secret = secret.to_str().unwrap();
    for sandbox in sandboxes(&RunOptions::default()).await {
        let (code, said, _) = run(&sandbox, "echo kept > own && cat own && pwd").await;
        assert_eq!(code, 0, "{said}");
        let directory = said.lines().nth(1).unwrap();
        assert!(!Path::new(directory).exists(), "{directory} is still there");
        for script in [
            format!("cat {secret}"),
            format!("echo changed > {secret}"),
            format!("chmod 777 {secret}"),
            format!("rm {secret}"),
            format!("echo new > {}/new", elsewhere.path().display()),
            "echo new > /usr/baton-was-here".to_owned(),
            "cat /etc/shadow".to_owned(),
            "ls /root /home/*".to_owned(),
        ] {
            let (code, said, complaint) = run(&sandbox, &script).await;
            assert!(code != 0 && said.is_empty() && !complaint.is_empty(), "{script}: {code} {said} {complaint}");
        }
        assert_eq!(fs::read_to_string(secret).unwrap(), "the key");
    }
}

#[tokio::test]
async fn what_is_readable_is_a_setting() {
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("tool"), "#!/bin/sh\necho from the tool\n").unwrap();
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(elsewhere.path().join("tool"), std::fs::Permissions::clone(&permissions)).unwrap();
    fs::set_permissions(elsewhere.path(), permissions).unwrap();
    let job = || Job { program: elsewhere.path().join("tool").to_str().unwrap().to_owned(), ..Job::default() };
    for sandbox in sandboxes(&RunOptions::default()).await {
        let refused = sandbox.run(job(), Vec::new()).await.unwrap_err().to_string();
        assert!(refused.contains("run.readable"), "{refused}");
    }
    let options = RunOptions { readable: vec![elsewhere.path().to_owned()], ..RunOptions::default() };
    for sandbox in sandboxes(&options).await {
        assert_eq!(text(&sandbox.run(job(), Vec::new()).await.unwrap().stdout), "from the tool\n");
    }
}

#[tokio::test]
async fn the_network_is_reached_only_if_it_is_allowed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!(
        "/usr/bin/python3 -I -c 'import socket; socket.create_connection((\"127.0.0.1\", {port}), 5); print(\"there\")'"
    );
    for network in [false, true] {
        for sandbox in sandboxes(&RunOptions { network, ..RunOptions::default() }).await {
            let (code, said, complaint) = run(&sandbox, &script).await;
            assert_eq!((code == 0, said == "there\n"), (network, network), "{complaint}");
        }
    }
}

#[tokio::test]
async fn a_command_ends_with_all_that_it_started() {
    for sandbox in sandboxes(&RunOptions::default()).await {
        let mut running = sandbox.spawn(shell("sleep 1000 & setsid sleep 1000 & echo started; wait")).await.unwrap();
        let mut stdout = running.stdout.take().unwrap();
        let mut said = vec![0; 8];
        stdout.read_exact(&mut said).await.unwrap();
        drop(running);
        // Its end is read when nobody is left who could write to it.
        assert_eq!(stdout.read_to_end(&mut said).await.unwrap(), 0);
        // And what a command leaves behind does not keep its task waiting.
        assert_eq!(run(&sandbox, "sleep 1000 & setsid sleep 1000 & echo done").await.1, "done\n");
    }
}

#[tokio::test]
async fn every_limit_holds() {
    let options = RunOptions {
        memory_bytes_max: 64 << 20,
        cpu_seconds_max: 1,
        processes_max: 8,
        file_bytes_max: 4096,
        output_bytes_max: 1000,
        ..RunOptions::default()
    };
    for sandbox in sandboxes(&options).await {
        for script in [
            "/usr/bin/python3 -I -c 'print(len(bytearray(1 << 28)))'",
            "while :; do :; done",
            "for i in $(seq 200); do sleep 1000 & done; echo all",
            "head -c 8192 /dev/zero > file && echo written",
        ] {
            let (code, said, _) = run(&sandbox, script).await;
            assert!(code != 0 && said.is_empty(), "{script}: {code} {said}");
        }
        let refused = sandbox.run(shell("while :; do echo much; done"), Vec::new()).await.unwrap_err();
        assert_eq!(refused.to_string(), "the command wrote more than 1000 bytes to standard output");
        assert!(refused.fault().non_retryable);
    }
}

#[tokio::test]
async fn what_cannot_be_run_is_said() {
    for sandbox in sandboxes(&RunOptions::default()).await {
        let unusable = |job: Job| async { sandbox.run(job, Vec::new()).await.unwrap_err().to_string() };
        let program = |name: &str| Job { program: name.to_owned(), ..Job::default() };
        let found = unusable(program("no-such-program")).await;
        assert!(found.starts_with("no program 'no-such-program' in /usr/local/sbin:"), "{found}");
        assert!(unusable(program("")).await.contains("is empty"));
        assert!(unusable(shell("a\0b")).await.contains("U+0000"));
        let mut job = shell(":");
        job.environment.insert("A=B".to_owned(), String::new());
        assert!(unusable(job).await.contains("'A=B' is not the name of a variable"));
    }
}

#[tokio::test]
async fn commands_run_as_the_setting_says() {
    let sandbox = |commands| Sandbox::new(RunOptions { commands, ..RunOptions::default() });
    let refused = sandbox(Commands::Off).run(shell(":"), Vec::new()).await.unwrap_err();
    assert!(refused.to_string().contains("'run.commands' is 'off'") && refused.fault().non_retryable);
    let (code, said, _) = run(&sandbox(Commands::Unconfined), "echo \"$HOME\"; ls /proc/1/stat").await;
    assert!(code == 0 && said.contains("baton-run-") && said.contains("/proc/1/stat"), "{said}");
    let none = sandbox(Commands::Sandboxed);
    none.means.set(Err("bubblewrap: no".to_owned())).unwrap();
    let refused = none.run(shell(":"), Vec::new()).await.unwrap_err();
    assert!(refused.to_string().contains("no sandbox to run commands in (bubblewrap: no)"), "{refused}");
    assert_eq!(refused.fault().kind, fault_type::CONFIGURATION);
}
