//! The signals that a long-running role answers to, as one stream.

use tokio::signal::unix::{self, SignalKind};

use crate::failure::Failure;

/// A signal that asks us to end, or, at a queue, SIGHUP to read files again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    Terminate,
    Hangup,
    Interrupt,
    Quit,
}

impl Signal {
    /// Its usual name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Terminate => "SIGTERM",
            Self::Hangup => "SIGHUP",
            Self::Interrupt => "SIGINT",
            Self::Quit => "SIGQUIT",
        }
    }
}

/// Listens from its making on: a signal before the first [`Signals::next`] is not lost.
pub struct Signals {
    terminate: unix::Signal,
    hangup: unix::Signal,
    interrupt: unix::Signal,
    quit: unix::Signal,
}

impl Signals {
    /// # Errors
    /// The system refuses a handler.
    pub fn listen() -> Result<Self, Failure> {
        let on = |kind| {
            unix::signal(kind).map_err(|error| {
                Failure::internal("SIGNALS", format!("cannot listen for signals: {error}"))
            })
        };
        Ok(Self {
            terminate: on(SignalKind::terminate())?,
            hangup: on(SignalKind::hangup())?,
            interrupt: on(SignalKind::interrupt())?,
            quit: on(SignalKind::quit())?,
        })
    }

    /// The next signal. Cancel safe.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Terminate,
            _ = self.hangup.recv() => Signal::Hangup,
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.quit.recv() => Signal::Quit,
        }
    }
}
