//! The queue as its peers see it: real gRPC over loopback, a real store on disk.
//! Daemons and clients are played by the tests, through the generated clients.

mod access;
mod audit;
mod blobs;
mod builds;
mod control;
mod credentials;
mod dispatch;
mod harness;
mod hostile;
mod leases;
mod logs;
mod on_postgres;
mod operator;
mod placement;
mod repeats;
mod revocation;
mod seen;
mod serve;
mod settling;
#[path = "../../../testdata/skip.rs"]
mod skip;
#[path = "../../../testdata/small_disk.rs"]
mod small_disk;
mod unary;
