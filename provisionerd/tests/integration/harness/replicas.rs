//! Two replicas of the queue on one PostgreSQL, and what stands before them.

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use nix::sys::signal::Signal;

use super::cli::Ran;
use super::fleet::{Fleet, Waits};
use super::postgres::{Database, Durability, Server};
use super::process::{Process, command};
use super::skip::skip;
use super::wait::{LONG, wait_for};

/// A fleet behind two replicas; see the module.
pub struct Replicas {
    replicas: [Replica; 2],
    /// Its commands and daemons go through the balancer.
    pub fleet: Fleet,
    balancer: Balancer,
    waits: Waits,
    database: Database<'static>,
}

struct Replica {
    name: &'static str,
    process: Process,
    url: String,
}

/// The server of this test program.
fn server() -> Option<&'static Server> {
    static SERVER: OnceLock<Result<Server, String>> = OnceLock::new();
    let started = SERVER.get_or_init(|| Server::start(Durability::Full));
    started
        .as_ref()
        .inspect_err(|why| skip("replicas on PostgreSQL", why))
        .ok()
}

/// An empty database; nothing where PostgreSQL is not installed.
pub fn database() -> Option<Database<'static>> {
    Some(server()?.database())
}

impl Replicas {
    /// Two replicas that answer; nothing where PostgreSQL is not installed.
    pub fn start(waits: Waits) -> Option<Self> {
        let database = server()?.database();
        let dir = Fleet::directory();
        // The first one makes the schema and the admin token, in the fleet's place for it.
        let replicas = ["q", "r"].map(|name| serve(dir.path(), name, &database, waits));
        let balancer = Balancer::start(replicas.each_ref().map(|it| address(&it.url)));
        let fleet = Fleet::around(dir, &format!("http://{}", balancer.address), waits);
        Some(Self {
            replicas,
            fleet,
            balancer,
            waits,
            database,
        })
    }

    /// The address of a replica itself.
    pub fn url(&self, replica: usize) -> &str {
        &self.replicas[replica].url
    }

    /// A client command at this replica.
    pub fn run_at(&self, replica: usize, arguments: &[&str]) -> Ran {
        let at = [arguments, &["--url", self.url(replica)]].concat();
        self.fleet.run(&at)
    }

    /// A third replica, with another directory for blobs, run to its end.
    pub fn serve_elsewhere(&self) -> Ran {
        let mut serve = command_of(self.fleet.dir(), "s", &self.database, "elsewhere");
        Ran::new(
            "serve".to_owned(),
            &serve.output().expect("the binary starts"),
        )
    }

    /// New connections through the balancer lead to this replica alone.
    pub fn lead_to(&self, replica: usize) {
        for place in 0..2 {
            self.balancer.leads_to(place, address(self.url(replica)));
        }
    }

    /// They lead to both, in turns.
    pub fn lead_to_both(&self) {
        for (place, replica) in self.replicas.iter().enumerate() {
            self.balancer.leads_to(place, address(&replica.url));
        }
    }

    /// SIGKILL to a replica.
    pub fn kill(&mut self, replica: usize) {
        self.replicas[replica].process.kill();
    }

    /// SIGTERM to a replica, and another one in its place once it has ended.
    pub fn roll(&mut self, replica: usize) {
        let old = &mut self.replicas[replica];
        old.process.signal(Signal::SIGTERM);
        old.process.ended(LONG);
        let name = old.name;
        let new = serve(self.fleet.dir(), name, &self.database, self.waits);
        self.balancer.leads_to(replica, address(&new.url));
        self.replicas[replica] = new;
        wait_for("the new replica answers", LONG, || {
            let ran = self.run_at(replica, &["jobs", "list", "--output", "json"]);
            (ran.code == 0).then_some(())
        });
    }
}

fn command_of(dir: &Path, name: &str, database: &Database<'_>, blobs: &str) -> Command {
    let mut serve = command(dir);
    let blobs = format!("file://{}", dir.join(blobs).display());
    serve
        .env("PROVISIONERD_DATABASE_URL", database.url())
        .args(["serve", "--listen", "127.0.0.1:0", "--blob-url", &blobs])
        .arg("--data-dir")
        .arg(dir.join(name));
    serve
}

fn serve(dir: &Path, name: &'static str, database: &Database<'_>, waits: Waits) -> Replica {
    let mut serve = command_of(dir, name, database, "blobs");
    waits.apply(&mut serve);
    // A log of its own: the address of an earlier one stands in that of the name.
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let log = format!("replica-{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let mut process = Process::start(&log, dir, serve);
    let url = process.announced("queue: ", LONG);
    Replica { name, process, url }
}

fn address(url: &str) -> SocketAddr {
    let address = url.trim_start_matches("http://");
    address.parse().expect("an address")
}

/// Gives each connection to the next target that takes it; ends with the test program.
struct Balancer {
    address: SocketAddr,
    targets: Arc<Mutex<[SocketAddr; 2]>>,
}

impl Balancer {
    fn start(targets: [SocketAddr; 2]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its number");
        let targets = Arc::new(Mutex::new(targets));
        let shared = Arc::clone(&targets);
        std::thread::spawn(move || {
            for (turn, client) in listener.incoming().flatten().enumerate() {
                let targets = *shared.lock().unwrap_or_else(PoisonError::into_inner);
                let order = [targets[turn % 2], targets[(turn + 1) % 2]];
                if let Some(server) = order.iter().find_map(|to| TcpStream::connect(to).ok()) {
                    join(&client, &server);
                }
            }
        });
        Self { address, targets }
    }

    fn leads_to(&self, which: usize, target: SocketAddr) {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)[which] = target;
    }
}

/// Copies both ways until one side ends, then ends the other.
fn join(client: &TcpStream, server: &TcpStream) {
    for (from, to) in [(client, server), (server, client)] {
        let mut from = from.try_clone().expect("the same socket");
        let mut to = to.try_clone().expect("the same socket");
        std::thread::spawn(move || {
            let _ended = std::io::copy(&mut from, &mut to);
            for side in [from, to] {
                let _gone = side.shutdown(Shutdown::Both);
            }
        });
    }
}
