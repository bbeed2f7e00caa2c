//! What tests of whole processes are written with. [`Fleet`] is a queue in a directory of
//! its own; it starts daemons and runs commands against itself.

mod cli;
mod fleet;
mod left;
mod lossy;
#[allow(dead_code, reason = "the tests of the store use the rest")]
#[path = "../../../../testdata/postgres.rs"]
mod postgres;
mod power;
mod process;
mod replicas;
mod scripted;
mod simulated;
#[path = "../../../../testdata/skip.rs"]
mod skip;
#[path = "../../../../testdata/small_disk.rs"]
mod small_disk;
mod strict;
mod tools;
mod wait;

pub use cli::Ran;
pub use fleet::{Daemon, Fleet, Waits, printed};
pub use left::{descendants, wait_for_ends};
pub use lossy::{Fault, Lossy};
pub use power::on_disk;
pub use process::{Process, binary, command};
pub use replicas::{Replicas, database};
pub use scripted::{Scripted, fake_engine};
pub use simulated::{Simulated, Weather};
pub use skip::skip;
pub use small_disk::on_small_disk;
pub use strict::{Lets, Strict};
pub use tools::{Tools, template, testdata};
pub use wait::{LONG, wait_for};
