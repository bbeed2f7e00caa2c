//! What people and programs see: JSON documents whose fields are a contract, tables,
//! errors, and the view of a running job. Nothing here asks the queue.

pub mod details;
pub mod entities;
pub mod error;
pub mod extraction;
pub mod job;
pub mod live;
pub mod logged;
pub mod outcome;
pub mod paint;
#[cfg(test)]
mod screen;
pub mod tables;
pub mod template;
pub mod time;
pub mod transfer;
pub mod words;

use std::io::Write;

use crate::failure::Failure;

pub use error::failure;

/// What stdout gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// Tables and text for people.
    Table,
    /// One JSON document.
    Json,
}

/// Writes to stdout; a reader that has gone away is no failure.
///
/// # Errors
/// Stdout cannot be written, for example because a disk is full.
pub fn write_stdout(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::file(
            "write to",
            std::path::Path::new("standard output"),
            &error,
        )),
    }
}

/// One JSON document with a line end.
///
/// # Errors
/// See [`write_stdout`].
pub fn write_json(document: &serde_json::Value) -> Result<(), Failure> {
    let mut text = format!("{document:#}");
    text.push('\n');
    write_stdout(text.as_bytes())
}
