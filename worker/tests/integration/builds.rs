//! Whole jobs with the real engine on templates without providers.

mod failures;
mod kinds;
mod rig;
mod sizes;
