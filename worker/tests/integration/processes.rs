//! `PROCESSES.md`, sentence by sentence.

mod deaths;
mod jails;
mod pressure;
mod records;
mod rig;
mod starts;
