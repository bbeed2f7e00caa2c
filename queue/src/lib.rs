//! The central service: what is asked of the fleet, who does it, what came of it.
//!
//! It never runs an engine and never parses a template. Everything it knows is in the
//! [`store`], whose methods are whole transitions; the pure rules stand beside it:
//! [`lifecycle`] (the states of a job), [`lease`] (who may write and for how long),
//! [`matching`] (which daemon may take which job), [`limit`] (how many may run at once), [`forecast`] (when a pending one may start), [`swap`] (which state becomes the
//! current one), [`allowance`] (what a daemon may store for leases that nobody remembers)
//! and [`proto::unconfirmed`] (what a lost job may have left in the world).

pub mod allowance;
pub mod analysis;
mod audit;
mod auth;
mod background;
mod blobs;
mod credentials;
mod data_dir;
mod error;
pub mod exposition;
mod fleet;
pub mod forecast;
mod forecasts;
mod guard;
mod handing;
mod http;
pub mod http_port;
mod lanes;
pub mod lease;
pub mod lifecycle;
pub mod limit;
mod line;
mod listen;
mod management;
pub mod matching;
mod metrics;
mod names;
mod options;
pub mod portable;
mod pulse;
mod recent;
mod refusal;
mod router;
mod service;
mod settle;
mod shared;
pub mod store;
pub mod swap;
mod trace;
mod transfer;
mod waiters;
pub mod words;

pub use error::Error;
pub use options::{Database, Edge, Options, PlainHttp, TlsFiles};
pub use service::files::raise as raise_file_limit;
pub use service::{Service, start};
pub use store::model::{KeepStates, Retention};
