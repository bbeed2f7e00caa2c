//! A command that ran to its end.

use std::process::Output;

use serde_json::Value;

/// What it printed and how it ended.
#[derive(Debug)]
pub struct Ran {
    /// The command line, for messages.
    pub line: String,
    /// Exit code.
    pub code: i32,
    /// Standard output: the document.
    pub stdout: String,
    /// Standard error: progress and complaints.
    pub stderr: String,
}

impl Ran {
    /// Reads what the process left.
    pub fn new(line: String, output: &Output) -> Self {
        Self {
            line,
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Itself, when the exit code is this one.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(
            self.code, code,
            "{}\n{}{}",
            self.line, self.stdout, self.stderr
        );
        self
    }

    /// Itself, when stderr ends with one error line that has this code, names what it is
    /// about, and says what to do.
    #[track_caller]
    pub fn one_error(self, code: &str, about: &str) -> Self {
        let errors: Vec<&str> = self
            .stderr
            .lines()
            .filter(|line| line.starts_with("error: "))
            .collect();
        let [error] = errors[..] else {
            panic!("not one error: {}", self.stderr);
        };
        assert!(error.contains(&format!("[{code}]")), "{error}");
        assert!(error.contains(about), "{error}");
        assert!(error.contains("; "), "no next step: {error}");
        assert!(self.stderr.trim_end().ends_with(error), "{}", self.stderr);
        self
    }

    /// The document on standard output.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{}: {error}\n{}", self.line, self.stdout))
    }
}
