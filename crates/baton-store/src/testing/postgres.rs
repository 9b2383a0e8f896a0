//! A PostgreSQL of the tests' own: made in a temporary folder, reached over a Unix socket there, killed, started again.
//!
//! [`PostgresServer::shared`] is for tests that leave it alone; each has databases of its own. Those who kill a server start
//! one. The programs are those of the system: a folder in `BATON_TEST_POSTGRES`, `/usr/lib/postgresql/*/bin`, or the path.
//!
//! # Invariants
//! - A server does not outlive the process that started it, however that one ends: a watchdog holds the other end of a pipe.
//! - No port is taken, so that nobody else can take it, unless [`PostgresServer::start_with_tls`] is asked for.
//!
//! # Failure
//! Everything panics with what was said: this is test support.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::options::StoreOptions;
use crate::store::Store;

/// Longest that anything here may take; reaching it is a failure.
const PATIENCE: Duration = Duration::from_mins(1);
/// Ends the server ($0) and removes its folder ($1) once the test is gone.
const WATCHDOG: &str =
    r#"read -r line || { kill -9 "$0"; for _ in 1 2 3 4 5; do sleep 0.2; rm -rf "$1" && break; done; } 2>/dev/null"#;
/// A server of tests does not sync: a killed process leaves what it wrote to the system.
const SETTINGS: &str = "
fsync = off
max_connections = 300
shared_buffers = 64MB
log_min_messages = fatal
unix_socket_permissions = 0777
";

/// A server; it goes when this goes.
#[derive(Debug)]
pub struct PostgresServer {
    folder: TempDir,
    programs: PathBuf,
    process: Option<Process>,
    /// Where it also listens, with TLS.
    port: Option<u16>,
    databases: AtomicU32,
}

#[derive(Debug)]
struct Process {
    server: Child,
    watchdog: Child,
}

impl PostgresServer {
    /// The server of this process, for tests that leave it alone. It ends with the process.
    ///
    /// # Panics
    /// See [`Self::start`].
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<PostgresServer> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Makes and starts a server.
    ///
    /// # Panics
    /// If there are no programs for it, or it does not start.
    pub fn start() -> Self {
        Self::launch_new(None)
    }

    /// [`Self::start`], and listens also on a port of the loopback, with the certificate and key that are in these files.
    ///
    /// # Panics
    /// See [`Self::start`].
    pub fn start_with_tls(certificate: &Path, key: &Path) -> Self {
        Self::launch_new(Some((certificate, key)))
    }

    fn launch_new(tls: Option<(&Path, &Path)>) -> Self {
        let programs = programs();
        let folder = tempfile::Builder::new().prefix("baton-pg-").tempdir().expect("a folder can be made");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("it is this process's folder");
        if is_root() {
            run(Command::new("chown").arg(OTHER_USER).arg(folder.path()));
        }
        let mut server = Self { folder, programs, process: None, port: None, databases: AtomicU32::new(0) };
        run(server
            .program("initdb")
            .args(["--no-sync", "--auth=trust", "--username=baton", "--encoding=UTF8"])
            .args(["--no-locale", "--pgdata"])
            .arg(server.data()));
        let mut settings = SETTINGS.to_owned();
        if let Some((certificate, key)) = tls {
            let port = TcpListener::bind(("127.0.0.1", 0)).and_then(|free| free.local_addr());
            let port = port.expect("there is a free port").port();
            for (from, name) in [(certificate, "server.crt"), (key, "server.key")] {
                let to = server.data().join(name);
                fs::copy(from, &to).expect("the file can be read");
                fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).expect("it is this process's file");
                if is_root() {
                    run(Command::new("chown").arg(OTHER_USER).arg(&to));
                }
            }
            settings.push_str("listen_addresses = '127.0.0.1'\nssl = on\nport = ");
            settings.push_str(&port.to_string());
            settings.push('\n');
            server.port = Some(port);
        } else {
            settings.push_str("listen_addresses = ''\n");
        }
        let socket = format!("unix_socket_directories = '{}'\n", server.folder.path().display());
        settings.push_str(&socket);
        let file = server.data().join("postgresql.auto.conf");
        fs::write(file, settings).expect("the settings can be written");
        server.launch();
        server
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A program of the server, as a user that it accepts: it refuses to run as root.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        if is_root() {
            command.uid(id_of(OTHER_USER, "-u")).gid(id_of(OTHER_USER, "-g"));
        }
        command.current_dir("/").env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin").env("LC_ALL", "C.UTF-8");
        command
    }

    fn launch(&mut self) {
        let begun = Instant::now();
        let log = self.folder.path().join("log");
        loop {
            let output = fs::File::options().create(true).append(true).open(&log).expect("a log can be written");
            let mut server = self
                .program("postgres")
                .arg("-D")
                .arg(self.data())
                .stdin(Stdio::null())
                .stdout(output.try_clone().expect("a file can be shared"))
                .stderr(output)
                .spawn()
                .expect("the program that was found can be run");
            // After a kill, the processes of the killed server may hold its memory for a moment.
            loop {
                if self.answers() {
                    let watchdog = Command::new("sh")
                        .args(["-c", WATCHDOG, &server.id().to_string()])
                        .arg(self.folder.path())
                        .stdin(Stdio::piped())
                        .stdout(Stdio::null())
                        .stderr(Stdio::null())
                        .spawn()
                        .expect("a shell can be run");
                    self.process = Some(Process { server, watchdog });
                    return;
                }
                let said = || fs::read_to_string(&log).unwrap_or_default();
                assert!(begun.elapsed() < PATIENCE, "PostgreSQL does not start: {}", said());
                if server.try_wait().expect("a child can be asked").is_some() {
                    break;
                }
                std::thread::park_timeout(Duration::from_millis(20));
            }
        }
    }

    /// Asked by its own tool, as the protocol is what is tested.
    fn answers(&self) -> bool {
        let mut ask = Command::new(self.programs.join("pg_isready"));
        ask.arg("--quiet").arg("--host").arg(self.folder.path());
        if let Some(port) = self.port {
            ask.args(["--port", &port.to_string()]);
        }
        ask.status().is_ok_and(|status| status.success())
    }

    /// The URL of a database.
    pub fn url(&self, database: &str) -> String {
        let host = self.folder.path().display().to_string().replace('/', "%2F");
        let port = self.port.map_or(String::new(), |port| format!(":{port}"));
        format!("postgresql://baton@{host}{port}/{database}")
    }

    /// Where it listens on the loopback; only with TLS.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Makes a database; gives its URL.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn create_database(&self) -> String {
        let name = format!("test{}", self.databases.fetch_add(1, Relaxed));
        self.psql("postgres", &format!("CREATE DATABASE {name}"));
        self.url(&name)
    }

    /// Opens a store in a new database.
    ///
    /// # Panics
    /// If it does not open.
    pub fn open_store(&self, options: &StoreOptions) -> Store {
        let url = self.create_database();
        Store::open_postgres(&url, options.clone()).unwrap_or_else(|error| panic!("{url}: {error:?}"))
    }

    /// Runs SQL as the administrator; gives what is printed, without headings.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn psql(&self, database: &str, sql: &str) -> String {
        let mut psql = Command::new(self.programs.join("psql"));
        psql.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"]);
        // With a database that is given as a URL, as `create_database` does.
        let place = if database.contains("://") { database.to_owned() } else { self.url(database) };
        let output = psql.arg(place).args(["--command", sql]).output().expect("psql can be run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{sql}: {said}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Kills all of it as a power failure does, but for the disk's own cache. Nothing happens if that was done before.
    pub fn kill(&mut self) {
        let Some(Process { mut server, mut watchdog }) = self.process.take() else { return };
        // A session whose server is gone may answer once more before it notices.
        let sessions = children(&server);
        let _ = server.kill();
        for session in sessions {
            let _ = kill_process(session, Signal::KILL);
        }
        let _ = server.wait();
        let _ = watchdog.kill();
        let _ = watchdog.wait();
    }

    /// Starts it again over the same data, after a kill or instead of the process that runs.
    ///
    /// # Panics
    /// If it does not start.
    pub fn restart(&mut self) {
        self.kill();
        self.launch();
    }

    /// Stops its processes, so that they neither answer nor close a connection; [`Self::go_on`] lets them run again.
    ///
    /// # Panics
    /// If it is killed.
    pub fn freeze(&self) {
        self.signal_all(Signal::STOP);
    }

    /// Lets frozen processes run again.
    ///
    /// # Panics
    /// If it is killed.
    pub fn go_on(&self) {
        self.signal_all(Signal::CONT);
    }

    fn signal_all(&self, signal: Signal) {
        let server = &self.process.as_ref().expect("the server runs").server;
        for process in std::iter::once(Pid::from_child(server)).chain(children(server)) {
            let _ = kill_process(process, signal);
        }
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn children(server: &Child) -> Vec<Pid> {
    let output = Command::new("ps").args(["-o", "pid=", "--ppid", &server.id().to_string()]).output();
    let children = String::from_utf8(output.expect("ps can be run").stdout).unwrap_or_default();
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).filter_map(Pid::from_raw).collect()
}

/// Who runs the server where this process is root's.
const OTHER_USER: &str = "postgres";

fn id_of(user: &str, which: &str) -> u32 {
    let output = Command::new("id").args([which, user]).output().expect("'id' can be run");
    let id = String::from_utf8_lossy(&output.stdout).trim().parse();
    id.unwrap_or_else(|_| panic!("there is no user '{user}' to run PostgreSQL, which refuses to run as root"))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}

/// The folder with the server's programs; of several versions the newest.
fn programs() -> PathBuf {
    const VARIABLE: &str = "BATON_TEST_POSTGRES";
    if let Some(named) = std::env::var_os(VARIABLE) {
        let named = PathBuf::from(named);
        assert!(named.join("postgres").is_file(), "{VARIABLE} names {}, which has no 'postgres'", named.display());
        return named;
    }
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut installed: Vec<(u32, PathBuf)> = versions
        .filter_map(|version| Some((version.file_name().to_str()?.parse().ok()?, version.path().join("bin"))))
        .collect();
    installed.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path);
    installed
        .into_iter()
        .rev()
        .map(|(_, folder)| folder)
        .chain(on_path)
        .find(|folder| folder.join("initdb").is_file())
        .unwrap_or_else(|| {
            panic!(
                "no PostgreSQL for the tests: install it with `cargo xtask tools` or your system's packages, \
                 or name the folder of its programs in {VARIABLE}"
            )
        })
}
