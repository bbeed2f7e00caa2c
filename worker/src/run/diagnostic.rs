//! A diagnostic of an engine, rendered the way the engine shows it to a person:
//! severity, summary, place, the offending lines with a marker, values, detail.

use std::fmt::Write as _;

use proto::v1::LogLevel;
use serde::Deserialize;

/// What an engine has to say about a configuration or a resource.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Diagnostic {
    pub(super) severity: String,
    pub(super) summary: String,
    pub(super) detail: String,
    /// The resource a provider was working on; empty when the configuration is to blame.
    pub(super) address: String,
    pub(super) range: Option<Range>,
    pub(super) snippet: Option<Snippet>,
}

/// Where in the template.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Range {
    pub(super) filename: String,
    pub(super) start: Position,
}

/// Line and column count from 1.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Position {
    pub(super) line: u64,
    pub(super) column: u64,
}

/// The lines themselves.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Snippet {
    context: Option<String>,
    code: String,
    start_line: u64,
    highlight_start_offset: usize,
    highlight_end_offset: usize,
    values: Vec<SnippetValue>,
}

/// The value of a reference at that moment, in the engine's words.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct SnippetValue {
    traversal: String,
    statement: String,
}

impl Diagnostic {
    /// Whether it stops the engine.
    pub(super) fn is_error(&self) -> bool {
        self.severity == "error"
    }

    /// Errors stay errors; everything else is a warning.
    pub(super) fn level(&self) -> LogLevel {
        if self.is_error() {
            LogLevel::Error
        } else {
            LogLevel::Warn
        }
    }

    /// `main.tf:16`, where the diagnostic has a place.
    pub(super) fn place(&self) -> Option<String> {
        let range = self.range.as_ref()?;
        Some(format!("{}:{}", range.filename, range.start.line))
    }

    /// Several lines, without a trailing line feed.
    pub(super) fn render(&self) -> String {
        let word = if self.is_error() { "Error" } else { "Warning" };
        let mut out = format!("{word}: {}\n", self.summary);
        self.render_place(&mut out);
        if !self.detail.is_empty() {
            out.push('\n');
            out.push_str(self.detail.trim_end());
            out.push('\n');
        }
        out.truncate(out.trim_end().len());
        out
    }

    fn render_place(&self, out: &mut String) {
        if !self.address.is_empty() {
            let _ = writeln!(out, "\n  with {},", self.address);
        }
        let Some(range) = &self.range else { return };
        if self.address.is_empty() {
            out.push('\n');
        }
        let _ = write!(out, "  on {} line {}", range.filename, range.start.line);
        let Some(snippet) = &self.snippet else {
            out.push_str(":\n");
            return;
        };
        match &snippet.context {
            Some(context) => {
                let _ = writeln!(out, ", in {context}:");
            }
            None => out.push_str(":\n"),
        }
        snippet.render(out);
    }
}

impl Snippet {
    fn render(&self, out: &mut String) {
        let mut offset = 0;
        for (line, number) in self.code.split('\n').zip(self.start_line..) {
            let _ = writeln!(out, "{number:>4}: {line}");
            self.mark(out, line, offset);
            offset += line.len() + 1;
        }
        if self.values.is_empty() {
            return;
        }
        for value in &self.values {
            let _ = writeln!(out, "      {} {}", value.traversal, value.statement);
        }
    }

    /// Draws `^` under the offending part of the line that starts at byte `offset`.
    fn mark(&self, out: &mut String, line: &str, offset: usize) {
        let start = self.highlight_start_offset.max(offset) - offset;
        let end = self
            .highlight_end_offset
            .max(self.highlight_start_offset + 1)
            .saturating_sub(offset)
            .min(line.len());
        if start >= end || self.highlight_start_offset >= offset + line.len() {
            return;
        }
        let (Some(before), Some(part)) = (line.get(..start), line.get(start..end)) else {
            return;
        };
        let pad: String = before
            .chars()
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        let marker = "^".repeat(part.chars().count());
        let _ = writeln!(out, "      {pad}{marker}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Diagnostic {
        serde_json::from_str(json).expect("diagnostic")
    }

    #[test]
    fn file_line_and_the_offending_part_are_shown() {
        let diagnostic = parse(
            r#"{"severity":"error","summary":"Reference to undeclared input variable",
                "detail":"An input variable with the name \"nope\" has not been declared.",
                "range":{"filename":"main.tf","start":{"line":2,"column":11},"end":{"line":2,"column":19}},
                "snippet":{"context":"resource \"terraform_data\" \"a\"","code":"  input = var.nope",
                "start_line":2,"highlight_start_offset":10,"highlight_end_offset":18,"values":[]}}"#,
        );
        assert_eq!(
            diagnostic.render(),
            "Error: Reference to undeclared input variable\n\n  on main.tf line 2, in resource \
             \"terraform_data\" \"a\":\n   2:   input = var.nope\n                ^^^^^^^^\n\n\
             An input variable with the name \"nope\" has not been declared."
        );
        assert_eq!(diagnostic.place().as_deref(), Some("main.tf:2"));
    }

    #[test]
    fn a_highlight_over_several_lines_marks_each() {
        let diagnostic = parse(
            r#"{"severity":"warning","summary":"s","range":{"filename":"a.tf","start":{"line":1}},
                "snippet":{"code":"ab\ncd","start_line":1,"highlight_start_offset":1,"highlight_end_offset":4}}"#,
        );
        let text = diagnostic.render();
        assert!(text.starts_with("Warning: s\n"));
        assert!(
            text.contains("   1: ab\n       ^\n   2: cd\n      ^"),
            "{text}"
        );
    }

    #[test]
    fn offsets_outside_the_code_or_inside_a_character_draw_nothing() {
        for (start, end) in [(900, 901), (1, 2), (5, 2)] {
            let mut diagnostic = parse(
                r#"{"severity":"error","summary":"s","range":{"filename":"a.tf","start":{"line":1}},
                    "snippet":{"code":"éé","start_line":1}}"#,
            );
            let snippet = diagnostic.snippet.as_mut().expect("snippet");
            snippet.highlight_start_offset = start;
            snippet.highlight_end_offset = end;
            assert!(!diagnostic.render().contains('^'), "{start} {end}");
        }
    }

    #[test]
    fn values_of_references_are_listed() {
        let diagnostic = parse(
            r#"{"severity":"error","summary":"s","range":{"filename":"a.tf","start":{"line":1}},
                "snippet":{"code":"x","start_line":1,"highlight_start_offset":0,"highlight_end_offset":1,
                "values":[{"traversal":"var.n","statement":"is \"x\""}]}}"#,
        );
        assert!(diagnostic.render().contains("var.n is \"x\""));
    }
}
