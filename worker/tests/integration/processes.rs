//! `PROCESSES.md`, sentence by sentence.

mod deaths;
mod jails;
mod rig;
mod starts;
