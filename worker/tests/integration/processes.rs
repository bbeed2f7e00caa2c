//! `PROCESSES.md`, sentence by sentence.

mod deaths;
mod jails;
mod pressure;
mod rig;
mod starts;
