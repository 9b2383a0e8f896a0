//! Every case runs by every means that works on the machine that tests.

use std::{fs, net::TcpListener};

use baton_execution::fault_type;

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
async fn memory_is_limited_however_it_is_had_and_in_sum() {
    let options = RunOptions { memory_bytes_max: 64 << 20, ..RunOptions::default() };
    let shared = "/usr/bin/python3 -I -c 'import mmap, time\nm = mmap.mmap(-1, 1 << 27)\nfor at in range(0, 1 << 27, 4096): m[at] = 1\ntime.sleep(1000)'";
    let together = "for i in 1 2 3 4; do /usr/bin/python3 -I -c 'import time; all = bytearray(b\"x\") * (30 << 20); time.sleep(1000)' & done; wait";
    for sandbox in sandboxes(&options).await {
        for script in [shared, together] {
            let ended = sandbox.run(shell(script), Vec::new()).await.unwrap_err();
            assert_eq!(
                ended.to_string(),
                "the command used more than 67108864 bytes of memory, which the setting 'run.memory' allows"
            );
            assert_eq!((ended.fault().kind.as_str(), ended.fault().non_retryable), (fault_type::RUNTIME, false));
        }
    }
}

/// A call of the system by its number, as the C library makes it.
fn call(name: &str, arguments: &str) -> String {
    let number = match (name, std::env::consts::ARCH) {
        ("memfd_create", "x86_64") => 319,
        ("memfd_create", _) => 279,
        ("shmget", "x86_64") => 29,
        ("shmget", _) => 194,
        ("keyctl", "x86_64") => 250,
        ("keyctl", _) => 219,
        ("setpriority", "x86_64") => 141,
        ("setpriority", _) => 140,
        ("sched_setaffinity", "x86_64") => 203,
        ("sched_setaffinity", _) => 122,
        ("ioprio_set", "x86_64") => 251,
        ("ioprio_set", _) => 30,
        (name, _) => panic!("which number has {name}"),
    };
    format!(
        "/usr/bin/python3 -I -c 'import ctypes, os; c = ctypes.CDLL(None, use_errno=True); r = c.syscall({number}, {arguments}); print(os.strerror(ctypes.get_errno()) if r < 0 else \"done\")'"
    )
}

#[tokio::test]
async fn memory_that_belongs_to_no_process_cannot_be_had() {
    for sandbox in sandboxes(&RunOptions::default()).await {
        for script in
            [call("memfd_create", "b\"m\", 0"), call("shmget", "0, 1 << 20, 0o1600"), call("keyctl", "0, -3, 1")]
        {
            let (_, said, complaint) = run(&sandbox, &script).await;
            assert_eq!(said, "Operation not permitted\n", "{script}: {complaint}");
        }
    }
}

#[tokio::test]
async fn the_system_ends_commands_before_the_server_when_memory_runs_out() {
    for sandbox in sandboxes(&RunOptions::default()).await {
        let running = sandbox.spawn(shell("read -r _")).await.unwrap();
        let pid = running.child.id().unwrap();
        let preferred = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
        // Bubblewrap says it of itself before it starts anything.
        if *sandbox.means.get().unwrap() == Ok(Means::Landlock) {
            assert_eq!(preferred, "1000\n");
        } else {
            assert_eq!(run(&sandbox, "cat /proc/self/oom_score_adj").await.1, "1000\n");
        }
        let (code, said, _) = run(&sandbox, "echo 0 >/proc/self/oom_score_adj && echo changed").await;
        assert!(code != 0 && said.is_empty(), "{said}");
    }
}

#[tokio::test]
async fn other_processes_of_the_same_user_are_out_of_reach() {
    for sandbox in sandboxes(&RunOptions::default()).await {
        let mut other = sandbox.spawn(shell("echo $$; read -r _")).await.unwrap();
        let mut said = Vec::new();
        let mut stdout = other.stdout.take().unwrap();
        while !said.ends_with(b"\n") {
            said.push(stdout.read_u8().await.unwrap());
        }
        let pid = match *sandbox.means.get().unwrap() {
            Ok(Means::Landlock) => text(&said).trim().to_owned(),
            // It has a number of its own there; what is outside has none.
            _ => other.child.id().unwrap().to_string(),
        };
        let set_owner = format!("fcntl.fcntl(os.pipe()[0], fcntl.F_SETOWN, {pid})");
        let python =
            |code: &str| format!("/usr/bin/python3 -I -c 'import fcntl, os, resource; {code}; print(\"done\")'");
        for script in [
            format!("prlimit --pid {pid} --cpu=1:1 && echo done"),
            python(&format!("resource.prlimit({pid}, resource.RLIMIT_NOFILE, (1, 1))")),
            python(&set_owner),
            python(&format!("os.kill({pid}, 9)")),
            python(&format!("os.setpriority(os.PRIO_PROCESS, {pid}, 19)")),
            python(&format!("os.sched_setaffinity({pid}, [0])")),
        ] {
            let (code, said, complaint) = run(&sandbox, &script).await;
            assert!(code != 0 && said.is_empty() && !complaint.is_empty(), "{script}: {code} {said} {complaint}");
        }
        // What a command does to itself is its own affair.
        let own = "ulimit -n 100 && nice true && prlimit --nofile=50 true && echo done";
        assert_eq!(run(&sandbox, own).await.1, "done\n");
    }
}

#[tokio::test]
async fn all_of_a_group_or_of_a_user_cannot_be_slowed_down() {
    let sandboxes = sandboxes(&RunOptions::default()).await;
    for sandbox in sandboxes.iter().filter(|it| *it.means.get().unwrap() == Ok(Means::Landlock)) {
        for (name, arguments) in
            [("setpriority", "1, 0, 19"), ("setpriority", "2, 0, 19"), ("ioprio_set", "2, 0, 3 << 13")]
        {
            let (_, said, complaint) = run(sandbox, &call(name, arguments)).await;
            assert_eq!(said, "Operation not permitted\n", "{name}: {complaint}");
        }
    }
}

#[test]
fn there_is_a_filter_for_every_version_of_landlock() {
    use ::landlock::ABI;
    for abi in [ABI::V1, ABI::V2, ABI::V3, ABI::V4, ABI::V5, ABI::V6] {
        for network in [false, true] {
            assert!(calls::under_landlock(abi, network, 4711).is_ok_and(|filter| filter.len() > 100), "{abi:?}");
        }
    }
}

#[tokio::test]
async fn what_a_command_leaves_is_removed_however_deep_it_is() {
    let deep = "/usr/bin/python3 -I -c 'import os\nprint(os.getcwd())\nfor _ in range(5000):\n  os.mkdir(\"d\"); os.chdir(\"d\")'";
    for sandbox in sandboxes(&RunOptions::default()).await {
        let (code, said, complaint) = run(&sandbox, deep).await;
        assert_eq!(code, 0, "{complaint}");
        assert!(!Path::new(said.trim()).exists(), "{said}");
    }
}

#[tokio::test]
async fn what_a_server_that_was_killed_left_is_removed() {
    let sandbox = || Sandbox::new(RunOptions { commands: Commands::Unconfined, ..RunOptions::default() });
    let (_, own, _) = run(&sandbox(), "pwd").await;
    let base = Path::new(own.trim()).parent().unwrap().to_owned();
    let parent = base.parent().unwrap();
    let dead = tempfile::Builder::new().prefix("baton-run-").tempdir_in(parent).unwrap();
    fs::write(dead.path().join("script.py"), "the key").unwrap();
    let (alive, other) = (sandbox(), sandbox());
    let job = shell("echo $PWD; read -r _; ls");
    let mut running = alive.spawn(job).await.unwrap();
    let mut said = Vec::new();
    let mut stdout = running.stdout.take().unwrap();
    while !said.ends_with(b"\n") {
        said.push(stdout.read_u8().await.unwrap());
    }
    other.sweep().await;
    assert!(!dead.path().exists(), "what nobody holds is gone");
    assert!(Path::new(text(&said).trim()).exists(), "what runs is not");
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
