//! What `start` needs to know. Built by the command line; nothing here is read from
//! the environment.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use proto::limits;
use proto::timings::{self, Timings};

use crate::analysis::Analyzer;
use crate::store::model::Retention;
use crate::store::postgres;

/// How to run a queue.
#[derive(Debug, Clone)]
pub struct Options {
    /// Data directory; the queue keeps to `queue/` and `admin.token` in it.
    pub data_dir: PathBuf,
    /// Where rows are kept.
    pub database: Database,
    /// Where blobs too large for a row are kept; by default in the data directory.
    /// Replicas of one database must share it.
    pub blob_dir: Option<PathBuf>,
    /// Where gRPC listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where health, readiness and metrics listen; none without an address.
    pub http_listen: Option<SocketAddr>,
    /// What workspaces call the deployment (`CODER_WORKSPACE_ACCESS_URL` of agents);
    /// by default the gRPC address.
    pub access_url: Option<String>,
    /// TLS, and with a client CA mutual TLS, for gRPC.
    pub tls: Option<TlsFiles>,
    /// Whether plain HTTP may leave this machine.
    pub plain_http: PlainHttp,
    /// What a peer may do before it is known, and how much of it.
    pub edge: Edge,
    /// Reads templates before their import; without one only the tags given with a push
    /// say where it runs.
    pub analyzer: Option<Arc<dyn Analyzer>>,
    /// All waits.
    pub timings: Timings,
    /// How long what has come to its end is kept.
    pub retention: Retention,
}

/// Where a queue keeps its rows.
#[derive(Debug, Clone)]
pub enum Database {
    /// In the data directory, for this process alone.
    Embedded,
    /// On a server, shared with other replicas.
    Postgres(postgres::Options),
}

/// PEM files of the server side.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// Certificate chain.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
    /// When set, only clients with a certificate of this CA may connect.
    pub client_ca: Option<PathBuf>,
}

/// Limits of the gRPC port, most of them towards peers that nobody knows yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// Connections at once; fewer when the process may not open so many files.
    pub connections: u32,
    /// Connections of one address at once.
    pub connections_per_address: u32,
    /// Wrong credentials of one address in a minute.
    pub wrong_credentials: u32,
    /// Calls of one key or token at once, streams included.
    pub calls_per_credential: u32,
    /// For the TLS handshake and the HTTP/2 preface of a connection.
    pub handshake: Duration,
    /// For the first call with a good credential on a connection.
    pub introduction: Duration,
    /// In which a transfer of a blob has to get on.
    pub stall: Duration,
}

impl Default for Edge {
    fn default() -> Self {
        Self {
            connections: limits::CONNECTIONS,
            connections_per_address: limits::CONNECTIONS_PER_ADDRESS,
            wrong_credentials: limits::WRONG_CREDENTIALS,
            calls_per_credential: limits::CALLS_PER_CREDENTIAL,
            handshake: timings::HANDSHAKE,
            introduction: timings::INTRODUCTION,
            stall: timings::TRANSFER_STALL,
        }
    }
}

/// Where a listener without TLS may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlainHttp {
    /// Only on a loopback address.
    Loopback,
    /// Anywhere: the operator has said `--insecure`.
    Anywhere,
}

impl Options {
    /// A queue in `data_dir` that listens on `listen` and nothing else.
    #[must_use]
    pub fn new(data_dir: PathBuf, listen: SocketAddr) -> Self {
        Self {
            data_dir,
            database: Database::Embedded,
            blob_dir: None,
            listen,
            http_listen: None,
            access_url: None,
            tls: None,
            plain_http: PlainHttp::Loopback,
            edge: Edge::default(),
            analyzer: None,
            timings: Timings::default(),
            retention: Retention::default(),
        }
    }
}
