//! The central service: what is asked of the fleet, who does it, what came of it.
//!
//! It never runs an engine and never parses a template. Everything it knows is in the
//! [`store`], whose methods are whole transitions; the pure rules stand beside it:
//! [`lifecycle`] (the states of a job), [`lease`] (who may write and for how long),
//! [`matching`] (which daemon may take which job), [`unconfirmed`] (what a lost job may
//! have left in the world) and [`swap`] (which state becomes the current one).

pub mod lease;
pub mod lifecycle;
pub mod matching;
pub mod store;
pub mod swap;
pub mod unconfirmed;
pub mod words;
