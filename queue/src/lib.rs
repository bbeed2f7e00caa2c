//! The central service: what is asked of the fleet, who does it, what came of it.
//!
//! It never runs an engine and never parses a template. Everything it knows is in the
//! [`store`], whose methods are whole transitions; the pure rules stand beside it:
//! [`lifecycle`] (the states of a job), [`lease`] (who may write and for how long),
//! [`matching`] (which daemon may take which job) and [`unconfirmed`] (what a lost job
//! may have left in the world).

mod error;
pub mod lease;
pub mod lifecycle;
pub mod matching;
mod options;
mod service;
pub mod store;
pub mod unconfirmed;
pub mod words;

pub use error::Error;
pub use options::{Options, PlainHttp, TlsFiles};
pub use service::{Service, start};
