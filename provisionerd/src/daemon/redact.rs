//! Takes the secrets of a job out of what its worker says, also where a secret is cut
//! in two by the pieces of a long line.
//!
//! This is the one place that knows every secret of a job. A line never grows: a mask
//! is no longer than the shortest secret. Secrets under [`SHORTEST`] bytes, and the
//! words `true`, `false` and `null`, are left alone: masking them would blank ordinary
//! text and give them away by where the masks stand.

use std::collections::{BTreeSet, VecDeque};

use aho_corasick::AhoCorasick;
use proto::secret::Secret;
use proto::v1::LogLine;

/// Shorter secrets are not masked; see the module.
pub const SHORTEST: usize = 4;
/// Stands for a secret of any length.
const MASK: &[u8; 3] = b"***";

/// The pattern set of one job is too large to build.
#[derive(Debug, thiserror::Error)]
#[error("the secrets of the job cannot be searched for")]
pub struct Error(#[from] aho_corasick::BuildError);

/// Masks the secrets of one job. Pieces of a line that could end inside a secret wait
/// here for the next piece.
#[derive(Debug)]
pub struct Redactor {
    secrets: Vec<Secret>,
    patterns: Option<AhoCorasick>,
    longest: usize,
    held: VecDeque<LogLine>,
    /// For each byte of `held`, whether it belongs to a secret.
    covered: Vec<bool>,
    /// How the piece before the first of `held` ended.
    before: Before,
}

impl Redactor {
    /// Searches for all of `secrets`: as they are, line by line, and as JSON and HCL
    /// would escape them.
    ///
    /// # Errors
    /// The secrets are too large together.
    pub fn new(secrets: Vec<Secret>) -> Result<Self, Error> {
        let mut redactor = Self {
            secrets: Vec::new(),
            patterns: None,
            longest: 0,
            held: VecDeque::new(),
            covered: Vec::new(),
            before: Before::Clear,
        };
        redactor.learn(secrets)?;
        Ok(redactor)
    }

    /// Searches for these too, also in what still waits.
    ///
    /// # Errors
    /// The secrets are too large together; nothing was learnt.
    pub fn learn(&mut self, secrets: Vec<Secret>) -> Result<(), Error> {
        let patterns: BTreeSet<String> = self
            .secrets
            .iter()
            .chain(&secrets)
            .flat_map(|secret| forms(secret.expose()))
            .collect();
        let longest = patterns.iter().map(String::len).max().unwrap_or(0);
        self.patterns = match longest {
            0 => None,
            _ => Some(AhoCorasick::new(&patterns)?),
        };
        self.longest = longest;
        self.secrets.extend(secrets);
        self.search(0);
        Ok(())
    }

    /// Masks a whole text.
    #[must_use]
    pub fn text(&self, text: &str) -> String {
        let mut covered = vec![false; text.len()];
        self.cover(text.as_bytes(), &mut covered);
        masked(text, &covered, Before::Clear)
    }

    /// Takes the next line or piece and gives back, in order, those that are safe to
    /// show.
    pub fn line(&mut self, line: LogLine) -> Vec<LogLine> {
        if self.patterns.is_none() {
            return vec![line];
        }
        let ends = !line.more;
        self.held.push_back(line);
        let overlap = self.longest - 1;
        self.search(self.covered.len().saturating_sub(overlap));
        self.release(if ends { 0 } else { self.longest - 1 })
    }

    /// The pieces that still wait, when no more will come.
    pub fn rest(&mut self) -> Vec<LogLine> {
        self.release(0)
    }

    /// Covers secrets in what is held, from this byte on. What is covered stays so: it
    /// may be the end of a secret that began in a piece that is gone.
    fn search(&mut self, from: usize) {
        let held: Vec<u8> = self
            .held
            .iter()
            .flat_map(|line| line.text.bytes())
            .collect();
        self.covered.resize(held.len(), false);
        let mut covered = std::mem::take(&mut self.covered);
        self.cover(&held[from..], &mut covered[from..]);
        self.covered = covered;
    }

    fn cover(&self, text: &[u8], covered: &mut [bool]) {
        for found in self
            .patterns
            .iter()
            .flat_map(|patterns| patterns.find_overlapping_iter(text))
        {
            covered[found.range()].fill(true);
        }
    }

    /// Gives out the pieces that end at least `open` bytes before the end of what is
    /// held: no secret that begins in them can still be unfinished.
    fn release(&mut self, open: usize) -> Vec<LogLine> {
        let mut safe = self.covered.len().saturating_sub(open);
        let mut out = Vec::new();
        while let Some(mut line) = self.held.pop_front_if(|line| line.text.len() <= safe) {
            safe -= line.text.len();
            let covered: Vec<bool> = self.covered.drain(..line.text.len()).collect();
            line.text = masked(&line.text, &covered, self.before);
            self.before = match covered.last() {
                _ if !line.more => Before::Clear,
                Some(true) => Before::Masked,
                Some(false) => Before::Clear,
                None => self.before,
            };
            out.push(line);
        }
        out
    }
}

/// Whether the text before this one ended inside a secret that has its mask already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Clear,
    Masked,
}

/// `text` with each covered run replaced by one mask.
fn masked(text: &str, covered: &[bool], before: Before) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    for run in covered.chunk_by(|a, b| a == b) {
        let bytes = &text.as_bytes()[at..at + run.len()];
        match run[0] {
            false => out.extend_from_slice(bytes),
            true if at == 0 && before == Before::Masked => {}
            true => out.extend_from_slice(&MASK[..MASK.len().min(run.len())]),
        }
        at += run.len();
    }
    // Secrets are whole characters, so only a hostile mix of overlapping ones could
    // leave a broken character behind.
    String::from_utf8(out)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// The ways a secret can show up in a log.
fn forms(secret: &str) -> BTreeSet<String> {
    let mut forms: BTreeSet<String> = secret.lines().map(|line| line.trim().to_owned()).collect();
    forms.insert(secret.to_owned());
    for form in forms.clone() {
        let json = serde_json::Value::from(form).to_string();
        forms.insert(json[1..json.len() - 1].to_owned());
    }
    forms.retain(|form| {
        form.len() >= SHORTEST && !matches!(form.as_str(), "true" | "false" | "null")
    });
    forms
}

#[cfg(test)]
mod tests;
