//! The product from outside: the real binary with real engines and plugins, every role a
//! process of its own. Tests wait for conditions and end only what they started.

mod accounts;
mod backups;
mod builds;
mod cancels;
mod carry;
mod cli_answers;
mod cli_waiting;
mod coder;
mod crash;
mod crowd;
mod cut;
mod deaths;
mod descriptors;
mod edge;
mod full_disk;
mod gate;
mod harness;
mod keys;
mod kubernetes;
mod leaving;
mod logs;
mod lossy;
mod phases;
mod placement;
mod power;
mod proofs;
mod quickstart;
mod replicas;
mod secrets;
mod simulated;
mod sizes;
mod traces;
mod unary;
