//! What every command needs to answer: how it was asked to print, and a client.

use std::io::IsTerminal as _;

use serde_json::{Value, json};

use super::{Common, Connection};
use crate::client::Client;
use crate::connect::{ClientTls, Target};
use crate::failure::Failure;
use crate::logging::Format;
use crate::render::live::View;
use crate::render::logged::{self, Level};
use crate::render::paint::Paint;
use crate::render::transfer::Transfers;
use crate::render::{self, Output};

/// The common flags, resolved.
pub struct Context {
    output: Output,
    quiet: bool,
    /// Filter of our own log lines.
    pub log: Option<String>,
    /// How they look, and with them what is said on stderr.
    lines: Format,
    /// Colours of stdout.
    pub paint: Paint,
}

impl Context {
    pub fn new(common: &Common, lines: Format) -> Self {
        Self {
            lines,
            output: common.output,
            quiet: common.quiet,
            log: common.log.clone(),
            paint: Paint::stdout(),
        }
    }

    /// Whether stdout gets a JSON document.
    pub fn is_json(&self) -> bool {
        match self.output {
            Output::Json => true,
            Output::Table => false,
        }
    }

    /// A client of the queue that `connection` names.
    ///
    /// # Errors
    /// Unusable settings, or a token file that cannot be read.
    pub fn connect(&self, connection: &Connection) -> Result<Client, Failure> {
        let target = Target {
            url: connection.url.clone(),
            tls: ClientTls::from(&connection.tls),
        };
        let token = connection.credential()?;
        Client::new(&target, token.as_ref(), &connection.organization)
    }

    /// Prints one document, or its table.
    ///
    /// # Errors
    /// Stdout cannot be written.
    pub fn document(
        &self,
        document: &Value,
        table: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        match self.output {
            Output::Json => render::write_json(document),
            Output::Table => render::write_stdout(table().as_bytes()),
        }
    }

    /// Prints an array of documents, or their table.
    ///
    /// # Errors
    /// Stdout cannot be written.
    pub fn documents<T>(
        &self,
        items: &[T],
        document: impl Fn(&T) -> Value,
        table: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        self.document(&items.iter().map(document).collect(), table)
    }

    /// Prints a secret that is shown once: alone on stdout, so that a file can take it, with
    /// what is to be known of it on stderr.
    ///
    /// # Errors
    /// Stdout cannot be written.
    pub fn secret(&self, document: &Value, secret: &str, note: &str) -> Result<(), Failure> {
        self.document(document, || format!("{secret}\n"))?;
        match self.output {
            Output::Json => {}
            Output::Table => self.say(note),
        }
        Ok(())
    }

    /// Says that something is gone.
    ///
    /// # Errors
    /// Stdout cannot be written.
    pub fn deleted(&self, what: &str, name: &str) -> Result<(), Failure> {
        self.document(&json!({ "deleted": name }), || {
            format!("{what} {name} is deleted\n")
        })
    }

    /// A line on stderr that `-q` silences.
    pub fn say(&self, line: &str) {
        if self.quiet {
            return;
        }
        match self.lines {
            Format::Text => eprintln!("{line}"),
            Format::Json => eprintln!("{}", logged::line(Level::Info, line)),
        }
    }

    /// A warning on stderr that `-q` silences.
    pub fn warn(&self, line: &str) {
        if self.quiet {
            return;
        }
        match self.lines {
            Format::Text => eprintln!("{} {line}", Paint::stderr().yellow("warning:")),
            Format::Json => eprintln!("{}", logged::line(Level::Warn, line)),
        }
    }

    /// Whether a line on stderr may move while long work goes on.
    pub fn shows_progress(&self) -> bool {
        !self.quiet && std::io::stderr().is_terminal()
    }

    /// How a running job is shown on stderr.
    pub fn view(&self) -> View {
        if self.quiet {
            View::silent()
        } else {
            View::for_stderr()
        }
    }

    /// Whether bytes on their way are shown on stderr.
    pub fn transfers(&self) -> Transfers {
        if self.quiet {
            Transfers::Hidden
        } else {
            Transfers::for_stderr()
        }
    }

    /// Prints why the command failed.
    pub fn fail(&self, failure: &Failure) {
        match self.lines {
            Format::Text => render::failure(failure, self.is_json()),
            Format::Json => {
                if self.is_json() {
                    // The exit code says that it failed even if stdout cannot be written.
                    let _ = render::write_json(&render::error::document(failure));
                }
                eprintln!("{}", logged::failure(failure));
            }
        }
    }
}

impl From<&super::Tls> for ClientTls {
    fn from(tls: &super::Tls) -> Self {
        Self {
            ca_file: tls.ca.clone(),
            cert_file: tls.cert.clone(),
            key_file: tls.key.clone(),
        }
    }
}
