//! What came out: rows with a target and a verdict, as a table and as a document.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::Scenario;
use super::probes::Probes;
use super::store::Backend;

/// Whether a promise was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It was.
    Kept,
    /// It was not.
    Broken,
    /// Nobody can say: why.
    Void(String),
    /// Nothing was promised.
    Shown,
}

impl Verdict {
    /// Of a comparison, on a machine that had this else to do.
    pub fn of(kept: bool, void: Option<&String>) -> Self {
        match (void, kept) {
            (Some(why), _) => Self::Void(why.clone()),
            (None, true) => Self::Kept,
            (None, false) => Self::Broken,
        }
    }

    /// Of what no other process can change.
    pub fn sure(kept: bool) -> Self {
        if kept { Self::Kept } else { Self::Broken }
    }

    fn word(&self) -> &str {
        match self {
            Self::Kept => "kept",
            Self::Broken => "BROKEN",
            Self::Void(_) => "void",
            Self::Shown => "-",
        }
    }
}

/// One figure.
pub struct Row {
    /// Which store.
    pub store: Backend,
    /// What was measured.
    pub what: String,
    /// In words.
    pub figure: String,
    /// In words.
    pub target: String,
    /// The comparison.
    pub verdict: Verdict,
    /// Everything about it.
    pub data: Value,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All promises were kept.
    Kept,
    /// One was not, or a scenario failed.
    Broken,
    /// None was broken, but something was void.
    Void,
}

/// All rows.
pub struct Report {
    divide: usize,
    quiet: Value,
    load_before: String,
    rows: Vec<Row>,
    failures: Vec<String>,
}

impl Report {
    /// Of a run on this machine.
    pub fn new(divide: usize, probes: &Probes) -> Self {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Self {
            divide,
            quiet: probes.json(),
            load_before: load.trim().to_owned(),
            rows: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// Adds what a scenario measured.
    pub fn add(&mut self, rows: Vec<Row>) {
        for row in &rows {
            eprintln!("load: {}", text(row));
        }
        self.rows.extend(rows);
    }

    /// A scenario that could not be measured.
    pub fn failed(&mut self, scenario: Scenario, store: Backend, why: &str) {
        let line = format!("{scenario:?} on {store} failed: {why}");
        eprintln!("load: {line}");
        self.failures.push(line);
    }

    /// See [`Ending`].
    pub fn ending(&self) -> Ending {
        let broken = self.rows.iter().any(|row| row.verdict == Verdict::Broken);
        let void = |row: &Row| matches!(row.verdict, Verdict::Void(_));
        if broken || !self.failures.is_empty() {
            Ending::Broken
        } else if self.rows.iter().any(void) {
            Ending::Void
        } else {
            Ending::Kept
        }
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut table = String::from("\n");
        if self.divide > 1 {
            let _ = writeln!(table, "a trial: all numbers are divided by {}", self.divide);
        }
        for row in &self.rows {
            let _ = writeln!(table, "{}", text(row));
        }
        for failure in &self.failures {
            let _ = writeln!(table, "FAILED   {failure}");
        }
        table
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let why = match &row.verdict {
                Verdict::Void(why) => Some(why),
                Verdict::Kept | Verdict::Broken | Verdict::Shown => None,
            };
            json!({
                "what": row.what, "store": row.store.to_string(), "figure": row.figure,
                "target": row.target, "verdict": row.verdict.word().to_lowercase(),
                "void_because": why, "data": row.data,
            })
        });
        json!({
            "bench": "load",
            "divided_by": self.divide,
            "cores": std::thread::available_parallelism().map(usize::from).unwrap_or(0),
            "load_average_before": self.load_before,
            "probes_quiet": self.quiet,
            "rows": rows.collect::<Vec<_>>(),
            "failures": self.failures,
        })
    }
}

fn text(row: &Row) -> String {
    let mut line = format!(
        "{:<7} {:<8} {}: {}",
        row.verdict.word(),
        row.store.to_string(),
        row.what,
        row.figure
    );
    if !row.target.is_empty() {
        let _ = write!(line, "; promised {}", row.target);
    }
    if let Verdict::Void(why) = &row.verdict {
        let _ = write!(line, "; void: {why}");
    }
    line
}
