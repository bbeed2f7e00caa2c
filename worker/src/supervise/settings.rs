//! What the daemon configured, parsed once.

use proto::limits;
use proto::timings::Timings;
use proto::v1::{Configure, EnvPair};

/// See [`Configure`].
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub timings: Timings,
    pub mode: Mode,
    pub engine_path: String,
    pub engine_env: Vec<EnvPair>,
    pub read_paths: Vec<String>,
    pub write_paths: Vec<String>,
    pub sandbox: String,
    pub nofile: u64,
    /// Of engines and what they started, in bytes.
    pub memory_limit: Option<u64>,
}

/// What this supervisor is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// A job: a worker, and engines on its request.
    Job,
    /// The engine's version and nothing else.
    Probe,
    /// A worker that reads what a dead one left; no engine.
    Collector,
}

/// The daemon's configuration makes no sense.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Invalid {
    #[error("the engine's path `{0}` is not absolute")]
    EnginePath(String),
    #[error("a supervisor cannot probe and collect at once")]
    Mode,
    #[error("environment variable `{0}` of the daemon's configuration holds `=` or NUL")]
    EnvText(String),
    #[error("environment variable `{0}` of the daemon's configuration is over the limit of {1}")]
    EnvTooLong(String, usize),
}

impl Settings {
    /// Checks `configure`.
    pub(super) fn parse(configure: Configure) -> Result<Self, Invalid> {
        let mode = match (configure.probe, configure.collector) {
            (false, false) => Mode::Job,
            (true, false) => Mode::Probe,
            (false, true) => Mode::Collector,
            (true, true) => return Err(Invalid::Mode),
        };
        if mode != Mode::Collector && !configure.engine_path.starts_with('/') {
            return Err(Invalid::EnginePath(configure.engine_path));
        }
        for EnvPair { name, value } in &configure.engine_env {
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                return Err(Invalid::EnvText(name.clone()));
            }
            if name.len() + 1 + value.len() > limits::ENV_STRING {
                return Err(Invalid::EnvTooLong(name.clone(), limits::ENV_STRING));
            }
        }
        let timings = configure.timings.as_ref().map(Timings::from);
        Ok(Self {
            timings: timings.unwrap_or_default(),
            mode,
            engine_path: configure.engine_path,
            engine_env: configure.engine_env,
            read_paths: configure.read_paths,
            write_paths: configure.write_paths,
            sandbox: configure.sandbox,
            memory_limit: Some(configure.memory_limit_bytes).filter(|limit| *limit > 0),
            nofile: if configure.nofile == 0 {
                limits::ENGINE_NOFILE
            } else {
                configure.nofile
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_without_sense_is_refused() {
        let engine = Configure {
            engine_path: "/usr/bin/terraform".to_owned(),
            ..Configure::default()
        };
        assert!(Settings::parse(engine.clone()).is_ok());
        let relative = Settings::parse(Configure::default()).expect_err("no engine");
        assert_eq!(relative, Invalid::EnginePath(String::new()));
        let both = Configure {
            probe: true,
            collector: true,
            ..engine.clone()
        };
        assert_eq!(Settings::parse(both).expect_err("both"), Invalid::Mode);
        for (name, value) in [("", "v"), ("A=B", "v"), ("A", "\0")] {
            let pair = EnvPair {
                name: name.to_owned(),
                value: value.to_owned(),
            };
            let configure = Configure {
                engine_env: vec![pair],
                ..engine.clone()
            };
            assert!(Settings::parse(configure).is_err(), "{name}");
        }
    }
}
