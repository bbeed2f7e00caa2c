//! The same row changes as a whole cycle, without a queue: a loop of prepared statements
//! around `FOR UPDATE SKIP LOCKED`, in the transactions that a cycle has (submit, acquire,
//! confirm, update, finish with its state), with as many connections as serve it best.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures_util::future::try_join_all;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls, Statement};

use super::report::{Row, Verdict};
use super::store::{Backend, Postgres, Statements};
use super::usage::Look;

/// Tried one after another; the best one is the baseline.
const CONNECTIONS: [usize; 3] = [16, 32, 64];
/// Packed, as the queue stores them: 20 lines, and a state of 8 KiB.
const LINES: usize = 400;
const STATE: usize = 4_200;

const SCHEMA: &str = include_str!("bare.sql");

/// What it reached.
pub struct Bare {
    /// Whole cycles a second.
    pub per_s: f64,
    connections: usize,
    cpu_ms: f64,
    tried: Vec<(usize, f64)>,
}

impl Bare {
    /// As a figure.
    pub fn row(&self) -> Row {
        Row {
            store: Backend::Postgres,
            what: "bare loop of the same row changes".to_owned(),
            figure: format!(
                "{:.0} cycles/s with {} connections, {:.2} ms of the database's CPU each",
                self.per_s, self.connections, self.cpu_ms
            ),
            target: String::new(),
            verdict: Verdict::Shown,
            data: json!({ "cycles_per_s": self.per_s, "cpu_ms": self.cpu_ms, "tried": self.tried }),
        }
    }
}

/// The best of [`CONNECTIONS`].
pub async fn measure(window: Duration) -> Result<Bare> {
    let postgres = tokio::task::block_in_place(|| Postgres::start(Statements::Uncounted))?;
    let (client, connection) = tokio_postgres::connect(&postgres.url(), NoTls).await?;
    let connection = tokio::spawn(connection);
    client.batch_execute(SCHEMA).await?;
    let mut best: Option<Bare> = None;
    let mut tried = Vec::new();
    for connections in CONNECTIONS {
        let (per_s, cpu_ms) = run(&postgres, connections, window).await?;
        tried.push((connections, per_s.round()));
        if best.as_ref().is_none_or(|best| per_s > best.per_s) {
            best = Some(Bare {
                per_s,
                connections,
                cpu_ms,
                tried: Vec::new(),
            });
        }
    }
    drop(client);
    connection.await??;
    let best = best.context("nothing was tried")?;
    Ok(Bare { tried, ..best })
}

async fn run(postgres: &Postgres, connections: usize, window: Duration) -> Result<(f64, f64)> {
    let over = Arc::new(AtomicBool::new(false));
    let cycles = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    // All are there before the first begins.
    let mut loops = Vec::new();
    for number in 0..connections {
        let (client, connection) = tokio_postgres::connect(&postgres.url(), NoTls).await?;
        tokio::spawn(connection);
        loops.push(Loop::prepare(client, &format!("{connections}-{number}")).await?);
    }
    for mut bare in loops {
        let (over, cycles) = (over.clone(), cycles.clone());
        tasks.spawn(async move {
            while !over.load(Ordering::Relaxed) {
                bare.cycle().await?;
                cycles.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (look, from) = (look(postgres), cycles.load(Ordering::Relaxed));
    tokio::time::sleep(window).await;
    let spent = self::look(postgres).since(look);
    let done = cycles.load(Ordering::Relaxed) - from;
    over.store(true, Ordering::Relaxed);
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    #[allow(clippy::cast_precision_loss)]
    let done = done as f64;
    let cpu = spent.store.as_secs_f64() * 1e3 / done.max(1.0);
    Ok((done / spent.wall.as_secs_f64(), cpu))
}

fn look(postgres: &Postgres) -> Look {
    Look::at(&[], Some(postgres.postmaster))
}

/// The statements of a cycle, in the order in which it uses them.
const STATEMENTS: [&str; 15] = [
    // submit
    "INSERT INTO jobs (id, organization, kind, owner, priority, tagset, version, workspace,
         parameters, trace, created_at, state, attempt, cancel)
     VALUES ($1, 'default', 'workspace_build', $2, 'interactive', 1, $3, $4, '', '{}', $5,
         'pending', 1, 'none') RETURNING row",
    "INSERT INTO builds VALUES ($1, $2, $3, $4, $5)",
    "INSERT INTO audit (at, organization, actor, call, object)
     VALUES ($1, 'default', 'admin', 'build_workspace', $2)",
    // acquire
    "UPDATE jobs SET state = 'offered', lease = $1, daemon = $2, expires_at = $3
     WHERE row = (SELECT row FROM jobs WHERE state = 'pending' AND organization = 'default'
         AND tagset = 1 AND kind = 'workspace_build' AND priority = 'interactive'
         ORDER BY row LIMIT 1 FOR UPDATE SKIP LOCKED)
     RETURNING row, workspace",
    "INSERT INTO attempts (job, attempt, lease, daemon, offered_at) VALUES ($1, 1, $2, $3, $4)",
    // confirm
    "UPDATE jobs SET state = 'running', started_at = $2, last_update_at = $2, expires_at = $2
     WHERE row = $1",
    "UPDATE attempts SET confirmed_at = $2 WHERE job = $1 AND attempt = 1",
    // update
    "INSERT INTO log_chunks (job, attempt, first_seq, last_seq, lines)
     VALUES ($1, 1, 1, 20, $2)",
    "UPDATE jobs SET update_counter = 1, last_update_at = $2, expires_at = $2, phase = 'apply',
         gate_open_at = $2, log_end = 20 WHERE row = $1",
    "UPDATE attempts SET gate_open_at = $2, stored_seq = 20 WHERE job = $1 AND attempt = 1",
    // finish, whose audit entry is that of the submit's form
    "INSERT INTO blobs VALUES ($1, 8192, $2, $3)",
    "UPDATE jobs SET state = 'succeeded', completed_at = $2, phases = $3 WHERE row = $1",
    "UPDATE attempts SET ended_at = $2, ending = 'finished' WHERE job = $1 AND attempt = 1",
    "INSERT INTO states VALUES ($1, $2, $3, $4, $2, $5, $6)",
    "UPDATE workspaces SET current_state = $2 WHERE id = $1",
];

struct Loop {
    client: Client,
    statements: Vec<Statement>,
    name: String,
    workspace: String,
    turn: i64,
    began: Instant,
}

impl Loop {
    async fn prepare(client: Client, name: &str) -> Result<Self> {
        let mut statements = Vec::new();
        for text in STATEMENTS {
            statements.push(client.prepare(text).await?);
        }
        let workspace = format!("00000000-0000-4000-8000-{name:>12}");
        let insert = "INSERT INTO workspaces VALUES ($1, 'default', $2, $2)";
        client.execute(insert, &[&workspace, &name]).await?;
        Ok(Self {
            client,
            statements,
            name: name.to_owned(),
            workspace,
            turn: 0,
            began: Instant::now(),
        })
    }

    /// One of each; what is taken may be another connection's.
    async fn cycle(&mut self) -> Result<()> {
        self.turn += 1;
        let now = i64::try_from(self.began.elapsed().as_millis())?;
        let id = format!("{:08x}-0000-7000-8000-{:>12}", self.turn, self.name);
        let (client, all) = (&self.client, &self.statements);
        let bytes = |size: usize| -> Vec<u8> { (0..size).map(|_| rand::random()).collect() };
        let digest = bytes(32);
        let lease = bytes(16);

        let version = "00000000-0000-4000-8000-000000000001";
        let new: Parameters<'_> = &[&id, &self.name, &version, &self.workspace, &now];
        client.batch_execute("BEGIN").await?;
        let made: i64 = client.query_one(&all[0], new).await?.get(0);
        self.pipelined(&[
            (1, &[&id, &self.workspace, &self.turn, &made, &now]),
            (2, &[&now, &id]),
        ])
        .await?;
        client.batch_execute("BEGIN").await?;
        let taking: Parameters<'_> = &[&lease, &self.name, &now];
        let Some(taken) = client.query_opt(&all[3], taking).await? else {
            // All pending ones are being taken by others.
            client.batch_execute("COMMIT").await?;
            return Ok(());
        };
        let (row, workspace): (i64, String) = (taken.get(0), taken.get(1));
        self.pipelined(&[(4, &[&row, &lease, &self.name, &now])])
            .await?;
        self.transaction(&[(5, &[&row, &now]), (6, &[&row, &now])])
            .await?;
        let (lines, state) = (bytes(LINES), bytes(STATE));
        self.transaction(&[(7, &[&row, &lines]), (8, &[&row, &now]), (9, &[&row, &now])])
            .await?;
        self.transaction(&[
            (10, &[&digest, &state, &now]),
            (11, &[&row, &now, &lease]),
            (12, &[&row, &now]),
            (13, &[&id, &workspace, &digest, &self.turn, &row, &now]),
            (14, &[&workspace, &id]),
            (2, &[&now, &id]),
        ])
        .await
    }

    async fn transaction(&self, parts: &[(usize, Parameters<'_>)]) -> Result<()> {
        self.client.batch_execute("BEGIN").await?;
        self.pipelined(parts).await
    }

    /// These statements and COMMIT, without a wait between them.
    async fn pipelined(&self, parts: &[(usize, Parameters<'_>)]) -> Result<()> {
        let mut sent: Vec<Sent<'_>> = Vec::new();
        for (statement, parameters) in parts {
            let statement = &self.statements[*statement];
            sent.push(Box::pin(async move {
                self.client.execute(statement, parameters).await.map(|_| ())
            }));
        }
        sent.push(Box::pin(self.client.batch_execute("COMMIT")));
        // Each is sent when it is first polled, in this order.
        try_join_all(sent).await?;
        Ok(())
    }
}

type Parameters<'a> = &'a [&'a (dyn tokio_postgres::types::ToSql + Sync)];
type Sent<'a> =
    std::pin::Pin<Box<dyn Future<Output = Result<(), tokio_postgres::Error>> + Send + 'a>>;
