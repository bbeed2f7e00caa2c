//! What the queue keeps its data in, and what can be asked of it from outside.

use std::fmt;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, anyhow};
use serde_json::{Value, json};

#[allow(dead_code, reason = "the tests of the queue use the rest of it")]
#[path = "../../../testdata/postgres.rs"]
mod postgres;

use postgres::{Database, Durability, Server};

/// Which store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// Embedded, in the data directory.
    Sqlite,
    /// A server that this run makes.
    Postgres,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        })
    }
}

impl Backend {
    /// The one of two that is this store's.
    pub fn pick<T>(self, sqlite: T, postgres: T) -> T {
        match self {
            Self::Sqlite => sqlite,
            Self::Postgres => postgres,
        }
    }
}

/// Whether the server counts statements, which costs a little.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statements {
    /// By `pg_stat_statements`.
    Counted,
    /// Not.
    Uncounted,
}

/// A database of a scenario's own on the server of this run.
pub struct Postgres {
    server: &'static Server,
    database: Database<'static>,
    /// The server's first process.
    pub postmaster: u32,
    statements: Statements,
}

impl Postgres {
    /// Makes it, and the server where there is none yet.
    pub fn start(statements: Statements) -> Result<Self> {
        static PLAIN: OnceLock<Result<Server, String>> = OnceLock::new();
        static COUNTING: OnceLock<Result<Server, String>> = OnceLock::new();
        let server = match statements {
            Statements::Uncounted => PLAIN.get_or_init(|| Server::start(Durability::Full)),
            Statements::Counted => COUNTING.get_or_init(counting),
        };
        let server = server.as_ref().map_err(|why| anyhow!("{why}"))?;
        let database = server.database();
        if statements == Statements::Counted {
            server.sql(database.name(), "CREATE EXTENSION pg_stat_statements");
        }
        let data = server.sql("postgres", "SHOW data_directory");
        let pid = std::fs::read_to_string(format!("{}/postmaster.pid", data.trim()))?;
        let pid = pid.lines().next().context("no pid")?;
        Ok(Self {
            server,
            database,
            postmaster: pid.trim().parse()?,
            statements,
        })
    }

    /// Where it is.
    pub fn url(&self) -> String {
        self.database.url()
    }

    /// Where pgbench and its like are.
    pub fn programs() -> Result<std::path::PathBuf> {
        postgres::find().map_err(|why| anyhow!("{why}"))
    }

    /// What one statement prints.
    pub fn sql(&self, statement: &str) -> String {
        let printed = self.server.sql(self.database.name(), statement);
        printed.trim().to_owned()
    }

    /// Transactions and, where they are counted, statements up to now, BEGIN and COMMIT
    /// included.
    pub fn counts(&self) -> Result<Counts> {
        // What a backend did shows once it was idle for a moment.
        let transactions = self.sql(
            "SELECT xact_commit + xact_rollback FROM pg_stat_database
             WHERE datname = current_database()",
        );
        let statements = match self.statements {
            Statements::Uncounted => None,
            Statements::Counted => {
                let calls = self.sql(
                    "SELECT COALESCE(SUM(calls), 0)::bigint FROM pg_stat_statements
                     WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())",
                );
                Some(calls.parse()?)
            }
        };
        Ok(Counts {
            transactions: transactions.parse()?,
            statements,
        })
    }

    /// Forgets what was counted.
    pub fn count_from_here(&self) {
        if self.statements == Statements::Counted {
            self.sql("SELECT pg_stat_statements_reset()");
        }
    }

    /// The statements that cost most, where they are counted.
    pub fn costly(&self) -> Value {
        if self.statements == Statements::Uncounted {
            return Value::Null;
        }
        let rows = self.sql(
            "SELECT json_agg(t) FROM (
                 SELECT calls, round(total_exec_time::numeric, 1) AS total_ms,
                     round(mean_exec_time::numeric * 1000, 1) AS mean_us,
                     round(total_plan_time::numeric, 1) AS plan_ms, rows,
                     left(regexp_replace(query, '\\s+', ' ', 'g'), 160) AS query
                 FROM pg_stat_statements
                 WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
                 ORDER BY total_exec_time + total_plan_time DESC LIMIT 60) t",
        );
        serde_json::from_str(&rows).unwrap_or_else(|_| json!(rows))
    }
}

/// What the server has counted.
#[derive(Debug, Clone, Copy)]
pub struct Counts {
    /// Committed and rolled back.
    pub transactions: u64,
    /// Of any kind.
    pub statements: Option<u64>,
}

fn counting() -> Result<Server, String> {
    let server = Server::start(Durability::Full)?;
    for setting in [
        "shared_preload_libraries = 'pg_stat_statements'",
        "pg_stat_statements.track_planning = on",
    ] {
        server.sql("postgres", &format!("ALTER SYSTEM SET {setting}"));
        server.crash_and_restart();
    }
    Ok(server)
}
