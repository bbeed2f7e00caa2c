//! Whole jobs with the real engine and, where the test environment names a mirror, the real
//! `coder` provider.

mod coder;
mod failures;
mod intended;
mod kinds;
mod pressure;
mod rig;
mod sizes;

pub use rig::Engine;
