//! What becomes of service and memory while others do what they can to the port: strangers
//! that send garbage, say nothing or guess, and known peers that open a million calls and
//! read nothing.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use proto::limits;
use proto::v1::{CreateKeyRequest, CreateTokenRequest, GetInfoRequest, StreamLogsRequest};
use provisionerd::connect::Target;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::dispatch::Dispatched;
use super::job::Work;
use super::report::{Row, Verdict};
use super::world::{Run, World};
use super::{logs, work};
use crate::fleet::anonymous_kib;
use crate::sim::{Client, SimDaemon};

/// Promised, in milliseconds: twice the pause that a person does not notice.
const P99: f64 = 200.0;
/// Promised, in MiB.
const MEMORY: u64 = 1_536;
/// Calls that a known peer begins, waiting ones included.
const CALLS: usize = 1_000_000;
/// Its connections, each with as many streams as it may have.
const CONNECTIONS: usize = 100;
/// Connections that say nothing; with more of them handshakes of this address, the honest
/// ones too, would wait for their turn.
const SILENT: usize = 200;
/// Peers that send garbage or guess, each again and again.
const STRANGERS: usize = 8;
/// Jobs between two looks whether it is over.
const ROUND: usize = 50;
const WORKSPACES: usize = 32;
/// Of the log that nobody reads, in updates.
const LOG: u64 = 50;
/// After the attack, until its memory is looked at.
const AFTER: Duration = Duration::from_secs(15);

/// Measures it.
pub async fn run(run: &Run<'_>) -> Result<Vec<Row>> {
    let world = World::ready(run).await?;
    let workspaces = work::workspaces(&world, WORKSPACES, WORKSPACES).await?;
    let mut client = world.client()?;
    // The crew would take its job.
    let log = log(&world, &mut client).await?;
    let _crew = world
        .crew("honest", run.args.daemons(100), Work::NONE)
        .await?;
    let quiet = Dispatched::measure(&world, &mut client, &workspaces, 10 * ROUND).await?;
    let before = world.memory_kib();
    let attack = Attack::begin(&world, &mut client, log, run.args.jobs(CALLS) as u64).await?;
    let look = world.look();
    let mut all = Dispatched::default();
    while !attack.counted.is_over() {
        let more = Dispatched::measure(&world, &mut client, &workspaces, ROUND).await?;
        all.extend(more);
    }
    let spent = world.spent(look);
    let counted = Arc::clone(&attack.counted);
    attack.end().await?;
    tokio::time::sleep(AFTER).await;
    let (peak, after) = (counted.peak_kib.load(Ordering::Relaxed), world.memory_kib());
    world.check()?;
    let [begun, refused, garbage, guesses, unread] = counted.figures();
    let data = json!({
        "quiet": quiet.json(), "attacked": all.json(), "spent": spent.json(),
        "calls_begun": begun, "calls_refused": refused, "garbage_connections": garbage,
        "guesses": guesses, "unread_streams": unread, "silent_connections": SILENT,
        "kib_before": before, "kib_peak": peak, "kib_after": after,
    });
    let (_, p99) = all.figures();
    let mib = |kib: u64| kib / 1024;
    Ok(vec![
        Row {
            store: run.store,
            what: format!(
                "dispatch beside {begun} calls of one key, {unread} unread logs, {garbage} connections of garbage, {guesses} guesses"
            ),
            figure: format!("{}; without: {}", all.figure(), quiet.figure()),
            target: format!("all served, p99 <= {P99} ms"),
            verdict: Verdict::sure(p99 <= P99),
            data,
        },
        Row {
            store: run.store,
            what: "memory of the queue meanwhile".to_owned(),
            figure: format!(
                "{} MiB at most; before {}, after {}",
                mib(peak),
                mib(before),
                mib(after)
            ),
            target: format!("<= {MEMORY} MiB"),
            verdict: Verdict::sure(mib(peak) <= MEMORY),
            data: json!({ "kib_peak": peak }),
        },
    ])
}

#[derive(Default)]
struct Counted {
    begun: AtomicU64,
    refused: AtomicU64,
    garbage: AtomicU64,
    guesses: AtomicU64,
    unread: AtomicU64,
    peak_kib: AtomicU64,
    over: AtomicBool,
}

impl Counted {
    fn figures(&self) -> [u64; 5] {
        [
            &self.begun,
            &self.refused,
            &self.garbage,
            &self.guesses,
            &self.unread,
        ]
        .map(|count| count.load(Ordering::Relaxed))
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

fn count(one: &AtomicU64) -> u64 {
    one.fetch_add(1, Ordering::Relaxed)
}

/// All of it, until it is ended.
struct Attack {
    counted: Arc<Counted>,
    tasks: JoinSet<Result<()>>,
}

impl Attack {
    async fn begin(world: &World, client: &mut Client, log: String, calls: u64) -> Result<Self> {
        let counted = Arc::new(Counted::default());
        let mut attack = Self {
            counted: Arc::clone(&counted),
            tasks: JoinSet::new(),
        };
        let target = world.targets().pop().context("no replica")?;
        let address = target.url.trim_start_matches("https://").to_owned();
        let pids: Vec<u32> = world
            .replicas
            .iter()
            .map(super::serve::Serve::pid)
            .collect();
        attack.tasks.spawn(peak(pids, Arc::clone(&counted)));
        for _ in 0..SILENT {
            attack.spawn(|counted| silent(address.clone(), counted));
        }
        for _ in 0..STRANGERS {
            attack.spawn(|counted| garbage(address.clone(), counted));
            attack.spawn(|counted| guess(target.clone(), counted));
        }
        let token = CreateTokenRequest {
            name: "unread".to_owned(),
            owner: "unread".to_owned(),
            role: "admin".to_owned(),
        };
        let token = client.management.create_token(token).await?.into_inner();
        attack.spawn(|counted| reads_nothing(target.clone(), token.token, log, counted));
        let key = CreateKeyRequest {
            name: "hostile".to_owned(),
            ..CreateKeyRequest::default()
        };
        let key = client.management.create_key(key).await?.into_inner().key;
        for number in 0..CONNECTIONS {
            let daemon = SimDaemon::over(target.channel()?, &key, &format!("hostile-{number}"))?;
            attack.spawn(|counted| calls_and_calls(daemon, calls, counted));
        }
        Ok(attack)
    }

    fn spawn<F>(&mut self, task: impl FnOnce(Arc<Counted>) -> F)
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        self.tasks.spawn(task(Arc::clone(&self.counted)));
    }

    async fn end(mut self) -> Result<()> {
        self.counted.over.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended??;
        }
        Ok(())
    }
}

async fn peak(pids: Vec<u32>, counted: Arc<Counted>) -> Result<()> {
    while !counted.is_over() {
        let now = pids.iter().map(|pid| anonymous_kib(*pid)).sum();
        counted.peak_kib.fetch_max(now, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// A pause that ends early when all is over.
async fn pause(counted: &Counted, time: Duration) {
    let end = tokio::time::Instant::now() + time;
    while !counted.is_over() && tokio::time::Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn silent(address: String, counted: Arc<Counted>) -> Result<()> {
    while !counted.is_over() {
        let mut stream = TcpStream::connect(&address).await?;
        let mut first = [0];
        tokio::select! {
            _shown_out = stream.read(&mut first) => {}
            () = pause(&counted, Duration::from_secs(3_600)) => {}
        }
    }
    Ok(())
}

async fn garbage(address: String, counted: Arc<Counted>) -> Result<()> {
    while !counted.is_over() {
        let mut stream = TcpStream::connect(&address).await?;
        count(&counted.garbage);
        let bytes: Vec<u8> = (0..10_000).map(|_| rand::random()).collect();
        let _closed = stream.write_all(&bytes).await;
        let mut rest = Vec::new();
        let _closed = stream.read_to_end(&mut rest).await;
        pause(&counted, Duration::from_millis(20)).await;
    }
    Ok(())
}

async fn guess(target: Target, counted: Arc<Counted>) -> Result<()> {
    while !counted.is_over() {
        let mut client = Client::over(target.channel()?, "pt-guessed")?;
        loop {
            count(&counted.guesses);
            let guessed = client.management.get_info(GetInfoRequest {}).await;
            ensure!(guessed.is_err(), "a guess was good");
            // Without a word of the queue the connection was ended.
            let said = guessed.is_err_and(|error| error.metadata().contains_key("x-error-code"));
            if !said || counted.is_over() {
                break;
            }
            pause(&counted, Duration::from_millis(5)).await;
        }
    }
    Ok(())
}

/// A job with a long log, in the hands of a daemon that has gone.
async fn log(world: &World, client: &mut Client) -> Result<String> {
    let jobs = logs::take(world, client, 1).await?;
    let (daemon, job) = jobs.first().context("a job")?;
    for turn in 0..LOG {
        logs::append(daemon, job, turn + 2, 1 + turn * logs::BATCH, logs::BATCH).await?;
    }
    Ok(job.id.clone())
}

/// Opens its log as often as it may, and reads none of them.
async fn reads_nothing(
    target: Target,
    token: String,
    job: String,
    counted: Arc<Counted>,
) -> Result<()> {
    let mut client = Client::over(target.channel()?, &token)?;
    let mut open = Vec::new();
    while !counted.is_over() {
        let request = StreamLogsRequest {
            job_id: job.clone(),
            follow: true,
            ..StreamLogsRequest::default()
        };
        match client.management.stream_logs(request).await {
            Ok(stream) => {
                count(&counted.unread);
                open.push(stream);
            }
            // Some were cut, and their places are free again.
            Err(_) => pause(&counted, Duration::from_secs(1)).await,
        }
        // The oldest ones were cut.
        let over = open.len().saturating_sub(limits::FOLLOWED_PER_CREDENTIAL);
        drop(open.drain(..over));
    }
    Ok(())
}

/// Keeps as many calls open as its connection has streams, and begins others that it gives
/// up at once, until all together have begun so many.
async fn calls_and_calls(mut daemon: SimDaemon, calls: u64, counted: Arc<Counted>) -> Result<()> {
    let most = limits::STREAMS as usize - 1;
    let mut open = Vec::new();
    while count(&counted.begun) < calls {
        match daemon.acquire().await {
            Ok(waiting) if open.len() < most => open.push(waiting),
            Ok(waiting) => drop(waiting),
            Err(_) => {
                count(&counted.refused);
            }
        }
    }
    counted.over.store(true, Ordering::Relaxed);
    Ok(())
}
