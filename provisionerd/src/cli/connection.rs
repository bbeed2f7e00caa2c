//! Where the queue is and who asks.

use std::path::{Path, PathBuf};

use clap::{ArgMatches, Command, FromArgMatches};
use proto::secret::Secret;

use super::exclusive::{self, Counts};
use crate::failure::Failure;

const HEADING: &str = "Connection";

/// Flags of every command that asks the queue something.
#[derive(Debug, Clone, clap::Args)]
pub struct Connection {
    /// The queue's gRPC address.
    #[arg(long, global = true, default_value = "http://127.0.0.1:7080", help_heading = HEADING)]
    pub url: String,
    #[command(flatten)]
    pub token: TokenFrom,
    /// Organization to work in.
    #[arg(long, global = true, default_value = "default", help_heading = HEADING)]
    pub organization: String,
    /// Where a queue on this machine keeps its data, to find its admin token.
    #[arg(long, global = true, value_name = "DIR", help_heading = HEADING)]
    pub data_dir: Option<PathBuf>,
    #[command(flatten)]
    pub tls: Tls,
}

/// The client token that was given, if any.
#[derive(Debug, Clone)]
pub enum TokenFrom {
    /// By `--token`.
    Given(Secret),
    /// By `--token-file`.
    File(PathBuf),
    /// Not at all.
    Nowhere,
}

/// The flags behind [`TokenFrom`].
#[derive(clap::Args)]
struct TokenFlags {
    /// Client token; without one the admin token of a queue on this machine is used.
    #[arg(long, global = true, help_heading = HEADING)]
    token: Option<String>,
    /// File that holds the client token.
    #[arg(long, global = true, value_name = "FILE", help_heading = HEADING)]
    token_file: Option<PathBuf>,
}

impl clap::Args for TokenFrom {
    fn augment_args(command: Command) -> Command {
        TokenFlags::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        TokenFlags::augment_args_for_update(command)
    }
}

impl FromArgMatches for TokenFrom {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let flags = TokenFlags::from_arg_matches(matches)?;
        let token = ("--token", exclusive::source(matches, "token"));
        let file = ("--token-file", exclusive::source(matches, "token_file"));
        let from = match exclusive::stronger(token, file)? {
            Counts::Neither => None,
            Counts::First => flags
                .token
                .map(|token| Self::Given(Secret::new(token.trim().to_owned()))),
            Counts::Second => flags.token_file.map(Self::File),
        };
        Ok(from.unwrap_or(Self::Nowhere))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Certificates of the connection to the queue.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Tls {
    /// Certificate authority that signed the queue's certificate, as PEM.
    #[arg(long = "tls-ca-file", global = true, value_name = "FILE", help_heading = HEADING)]
    pub ca: Option<PathBuf>,
    /// Own certificate, as PEM.
    #[arg(long = "tls-cert-file", global = true, value_name = "FILE", help_heading = HEADING)]
    pub cert: Option<PathBuf>,
    /// Key of the own certificate, as PEM.
    #[arg(long = "tls-key-file", global = true, value_name = "FILE", help_heading = HEADING)]
    pub key: Option<PathBuf>,
}

impl Connection {
    /// The credential to use: the flag, the file, or the admin token of a local queue,
    /// which is never sent elsewhere. Without any of them the queue is asked without one.
    ///
    /// # Errors
    /// A file that is there cannot be read.
    pub fn credential(&self) -> Result<Option<Secret>, Failure> {
        match &self.token {
            TokenFrom::Given(token) => return Ok(Some(token.clone())),
            TokenFrom::File(file) => return read_token(file).map(Some),
            TokenFrom::Nowhere => {}
        }
        if !is_local(&self.url) {
            return Ok(None);
        }
        let mut unreadable = None;
        for path in self.token_places() {
            match read_token(&path) {
                Ok(token) => return Ok(Some(token)),
                Err(failure) if failure.code == "FILE_NOT_FOUND" => {}
                Err(failure) => unreadable = unreadable.or(Some(failure)),
            }
        }
        unreadable.map_or(Ok(None), Err)
    }

    fn token_places(&self) -> Vec<PathBuf> {
        let data = self.data_dir.clone().or_else(default_data_dir);
        let service = PathBuf::from("/var/lib/provisionerd");
        data.into_iter()
            .chain([service])
            .flat_map(|dir| [dir.join("queue/admin.token"), dir.join("admin.token")])
            .collect()
    }
}

/// `$XDG_DATA_HOME/provisionerd`, or `~/.local/share/provisionerd`.
#[must_use]
pub fn default_data_dir() -> Option<PathBuf> {
    let own = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
    let own = own.filter(|path| path.is_absolute());
    let home = || std::env::home_dir().map(|home| home.join(".local/share"));
    own.or_else(home).map(|dir| dir.join("provisionerd"))
}

/// The data directory that was asked for, or the usual one.
///
/// # Errors
/// Neither `HOME` nor `XDG_DATA_HOME` says where the usual one is.
pub fn data_dir(asked: Option<PathBuf>) -> Result<PathBuf, Failure> {
    asked.or_else(default_data_dir).ok_or_else(|| {
        Failure::usage("no data directory: neither HOME nor XDG_DATA_HOME is set")
            .hint("pass --data-dir")
    })
}

fn read_token(path: &Path) -> Result<Secret, Failure> {
    let text = std::fs::read_to_string(path).map_err(|e| Failure::file("read", path, &e))?;
    let token = text.trim();
    if token.is_empty() {
        let message = format!("{} is empty", path.display());
        return Err(Failure::user("TOKEN_MISSING", message)
            .hint("write a token to it, as `provisionerd tokens create` prints one"));
    }
    Ok(Secret::new(token.to_owned()))
}

/// Whether `url` names this machine by a loopback address.
fn is_local(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or(rest);
    let host = match authority.strip_prefix('[') {
        Some(inner) => inner.split(']').next().unwrap_or(inner),
        None => authority
            .rsplit_once(':')
            .map_or(authority, |(host, _)| host),
    };
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(url: &str, data_dir: &Path) -> Connection {
        Connection {
            url: url.to_owned(),
            token: TokenFrom::Nowhere,
            organization: "default".to_owned(),
            data_dir: Some(data_dir.to_owned()),
            tls: Tls::default(),
        }
    }

    #[test]
    fn loopback_addresses_are_local_and_names_that_look_like_them_are_not() {
        assert!(is_local("http://127.0.0.1:7080"));
        assert!(is_local("http://localhost"));
        assert!(is_local("https://[::1]:7080/"));
        assert!(!is_local("http://127.0.0.1.example.org:7080"));
        assert!(!is_local("https://queue.example.org"));
        assert!(!is_local("http://localhost@example.org"));
    }

    #[test]
    fn the_admin_token_is_found_for_a_local_queue_and_never_sent_elsewhere() {
        let dir = tempfile::tempdir().expect("tempdir");
        std::fs::create_dir(dir.path().join("queue")).expect("queue");
        std::fs::write(dir.path().join("queue/admin.token"), "secret\n").expect("token");
        let local = connection("http://127.0.0.1:7080", dir.path());
        let found = local.credential().expect("readable").expect("found");
        assert_eq!(found.expose(), "secret");
        let remote = connection("https://queue.example.org", dir.path());
        assert_eq!(remote.credential().expect("readable"), None);
    }
}
