//! A real PostgreSQL for tests and benches, made in a temporary directory and never as
//! root. Sources include this file by its path.
//!
//! ```text
//! test process ── pipe ──▶ guard (sh) ── pg_ctl stop, rm ──▶ server
//! ```
//!
//! The guard waits for the end of a pipe that only the test process holds, so the server
//! ends and its directory goes with that process, however it ends.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

#[path = "port.rs"]
mod port;

pub use port::Port;

/// Whom the server runs as when this process is root, which it refuses: `nobody`.
const NOBODY: u32 = 65_534;

/// Stops the server and removes its directory once the pipe on its stdin has ended.
const GUARD: &str = r#"read _; "$1/pg_ctl" -D "$2/data" -m immediate -w stop; rm -rf "$2""#;

/// What differs from a server fresh from `initdb`: room for many tests, and little of
/// everything else.
const SETTINGS: &str = "max_connections = 300\nshared_buffers = '64MB'\n\
     logging_collector = off\nlog_min_messages = error\n";

/// Whether COMMIT waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// It does, as in production.
    Full,
    /// It does not: the tests of rules are quicker, and a crash of the machine is not
    /// what they are about.
    None,
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    bin: PathBuf,
    root: PathBuf,
    port: Port,
    databases: AtomicU32,
    /// Held open; its end stops the server.
    _pipe: ChildStdin,
    guard: Child,
}

/// A database of its own; dropped with its handle.
#[derive(Debug)]
pub struct Database<'s> {
    server: &'s Server,
    name: String,
}

/// Why there is no server.
pub type Missing = String;

/// The directory of `initdb` and `pg_ctl`: what `testdata/tools env` says, else what PATH
/// and the packages have.
///
/// # Errors
/// None is installed; says so in a line.
pub fn find() -> Result<PathBuf, Missing> {
    if let Some(given) = std::env::var_os("PROVISIONERD_TEST_POSTGRES_BIN") {
        return Ok(given.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path)
        .filter_map(|dir| dir.join("initdb").canonicalize().ok())
        .filter_map(|initdb| initdb.parent().map(Path::to_owned))
        .collect();
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        places.extend(versions.flatten().map(|version| version.path().join("bin")));
    }
    let found = places
        .into_iter()
        .find(|dir| dir.join("initdb").is_file() && dir.join("pg_ctl").is_file());
    found.ok_or_else(|| "PostgreSQL is not installed; run testdata/tools".to_owned())
}

impl Server {
    /// Makes a cluster and starts its server, on a unix socket and on loopback.
    ///
    /// # Errors
    /// PostgreSQL is not installed.
    ///
    /// # Panics
    /// It is installed and does not start.
    pub fn start(durability: Durability) -> Result<Self, Missing> {
        let bin = find()?;
        let root = directory();
        let (pipe, guard) = guard(&bin, &root);
        let server = Self {
            bin,
            root,
            port: Port::keep(),
            databases: AtomicU32::new(0),
            _pipe: pipe,
            guard,
        };
        let data = server.data();
        server.run(
            "initdb",
            &[
                "-D", &data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "-N",
            ],
        );
        server.configure(durability);
        server.pg_ctl(&["start"]);
        Ok(server)
    }

    /// A new, empty database.
    pub fn database(&self) -> Database<'_> {
        self.copy_of_named("template1")
    }

    /// A new database that is as `model` is, which nobody may be connected to.
    pub fn copy_of(&self, model: &Database<'_>) -> Database<'_> {
        self.copy_of_named(&model.name)
    }

    fn copy_of_named(&self, model: &str) -> Database<'_> {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let (socket, port) = (self.socket(), self.port());
        let place = ["-h", &socket, "-p", &port, "-U", "postgres"];
        let how = ["-T", model, &name];
        let all: Vec<&str> = place.into_iter().chain(how).collect();
        self.run("createdb", &all);
        Database { server: self, name }
    }

    /// Kills all of the server's processes at once and starts it again, which replays
    /// its log: what a power cut does.
    pub fn crash_and_restart(&self) {
        self.pg_ctl(&["-m", "immediate", "restart"]);
    }

    /// Kills all of the server's processes at once.
    pub fn crash(&self) {
        self.pg_ctl(&["-m", "immediate", "stop"]);
    }

    /// Starts it after a [`Server::crash`].
    pub fn start_again(&self) {
        self.pg_ctl(&["start"]);
    }

    /// Runs one statement in `database` and gives back what it prints.
    pub fn sql(&self, database: &str, statement: &str) -> String {
        let (socket, port) = (self.socket(), self.port());
        let place = ["-h", &socket, "-p", &port, "-U", "postgres", "-d", database];
        let quiet = [
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-c",
            statement,
        ];
        let all: Vec<&str> = place.into_iter().chain(quiet).collect();
        self.run("psql", &all)
    }

    /// The loopback port.
    pub fn port(&self) -> String {
        self.port.number().to_string()
    }

    fn socket(&self) -> String {
        self.root.display().to_string()
    }

    fn data(&self) -> String {
        self.root.join("data").display().to_string()
    }

    fn configure(&self, durability: Durability) {
        let fsync = match durability {
            Durability::Full => "on",
            Durability::None => "off",
        };
        let text = format!(
            "{SETTINGS}fsync = {fsync}\nport = {}\nlisten_addresses = '127.0.0.1'\n\
             unix_socket_directories = '{}'\n",
            self.port(),
            self.socket()
        );
        let path = Path::new(&self.data()).join("postgresql.conf");
        let mut file = std::fs::OpenOptions::new().append(true).open(path);
        let file = file.as_mut().expect("a configuration file");
        file.write_all(text.as_bytes()).expect("written");
    }

    fn pg_ctl(&self, what: &[&str]) {
        let (data, log) = (self.data(), self.root.join("log").display().to_string());
        let mut all = vec!["-D", &data, "-l", &log, "-w", "-s"];
        all.extend(what);
        self.run("pg_ctl", &all);
    }

    fn run(&self, program: &str, arguments: &[&str]) -> String {
        let mut command = unprivileged(&self.bin.join(program));
        // A file and no pipe: a server that stays behind would hold a pipe open.
        let output = self.root.join(format!(
            "{program}.{}",
            NEXT.fetch_add(1, Ordering::Relaxed)
        ));
        let file = std::fs::File::create(&output).expect("an output file");
        let errors = file.try_clone().expect("the same file");
        let command = command.args(arguments).stdin(Stdio::null());
        let status = command.stdout(file).stderr(errors).status();
        let text = std::fs::read_to_string(&output).unwrap_or_default();
        let ok = status.as_ref().is_ok_and(std::process::ExitStatus::success);
        assert!(ok, "{program} {arguments:?}: {status:?}\n{text}");
        let _ = std::fs::remove_file(output);
        text
    }
}

/// Numbers output files.
static NEXT: AtomicU32 = AtomicU32::new(0);

impl Drop for Server {
    fn drop(&mut self) {
        self.pg_ctl(&["-m", "immediate", "stop"]);
        let _ = std::fs::remove_dir_all(&self.root);
        let _ = self.guard.kill();
        let _ = self.guard.wait();
    }
}

impl Database<'_> {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its URL, by loopback.
    pub fn url(&self) -> String {
        format!(
            "postgres://postgres@127.0.0.1:{}/{}",
            self.server.port(),
            self.name
        )
    }
}

impl Drop for Database<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let (socket, port) = (self.server.socket(), self.server.port());
            let place = [
                "-h", &socket, "-p", &port, "-U", "postgres", "--force", &self.name,
            ];
            self.server.run("dropdb", &place);
        }
    }
}

fn guard(bin: &Path, root: &Path) -> (ChildStdin, Child) {
    let mut command = unprivileged(Path::new("/bin/sh"));
    let command = command.args(["-c", GUARD, "guard"]).arg(bin).arg(root);
    let null = || Stdio::null();
    let child = command.stdin(Stdio::piped()).stdout(null()).stderr(null());
    // A group of its own: an interrupt from the keyboard is not for it.
    let mut child = child.process_group(0).spawn().expect("a guard");
    let pipe = child.stdin.take().expect("its stdin");
    (pipe, child)
}

/// A private directory that belongs to whom the server runs as.
fn directory() -> PathBuf {
    // Short: the path of a socket has 107 bytes. A program may hold this file twice, each
    // with a counter of its own.
    let root = loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let root = Path::new("/tmp").join(format!("pg-{}-{number}", std::process::id()));
        match std::fs::create_dir(&root) {
            Ok(()) => break root,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => panic!("{}: {error}", root.display()),
        }
    };
    std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o700)).expect("private");
    if is_root() {
        std::os::unix::fs::chown(&root, Some(NOBODY), Some(NOBODY)).expect("given away");
    }
    root
}

fn unprivileged(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("LC_ALL", "C").current_dir("/");
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

fn is_root() -> bool {
    let made = std::fs::metadata("/proc/self");
    made.is_ok_and(|made| std::os::unix::fs::MetadataExt::uid(&made) == 0)
}
