//! A broker: mosquitto, one for each test, on a port of its own.

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::net::TcpStream;

/// How long it may take to start.
const START_MAX: Duration = Duration::from_secs(20);

pub(crate) struct Broker {
    process: Child,
    pub(crate) port: u16,
    folder: TempDir,
}

/// `BATON_TEST_MOSQUITTO`, or where Debian has it.
fn program(name: &str) -> PathBuf {
    let given = std::env::var_os("BATON_TEST_MOSQUITTO").map(PathBuf::from);
    match (name, given) {
        ("mosquitto", Some(path)) => path,
        ("mosquitto", None) => "/usr/sbin/mosquitto".into(),
        (other, Some(path)) => path.with_file_name(other),
        (other, None) => PathBuf::from("/usr/bin").join(other),
    }
}

impl Broker {
    /// A broker that takes everybody, or only this user with this password.
    pub(crate) async fn start(login: Option<(&str, &str)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut rules = "allow_anonymous true\n".to_owned();
        if let Some((user, password)) = login {
            let file = folder.path().join("passwords");
            let made =
                Command::new(program("mosquitto_passwd")).args(["-b", "-c"]).arg(&file).args([user, password]).status();
            assert!(made.unwrap().success());
            rules = format!("allow_anonymous false\npassword_file {}\n", file.display());
        }
        loop {
            // Another program may take the port in between: then this one ends, and another port is tried.
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let config = folder.path().join("mosquitto.conf");
            let user = "user root\npersistence false\n";
            std::fs::write(&config, format!("listener {port} 127.0.0.1\n{user}{rules}")).unwrap();
            let program = program("mosquitto");
            let mut command = Command::new(&program);
            command.arg("-c").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut process = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", program.display()));
            let started = Instant::now();
            loop {
                if TcpStream::connect(("127.0.0.1", port)).await.is_ok() && process.try_wait().unwrap().is_none() {
                    return Self { process, port, folder };
                }
                if process.try_wait().unwrap().is_some() {
                    break;
                }
                assert!(started.elapsed() < START_MAX, "mosquitto does not start");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
        _ = self.folder.path();
    }
}
