//! Colours, only where a terminal shows them and nobody has said `NO_COLOR`.

use std::io::IsTerminal;

use owo_colors::{AnsiColors, OwoColorize};

/// Whether and how to colour one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// ANSI colours.
    Colours,
    /// Text only.
    Plain,
}

impl Paint {
    /// For stdout.
    pub fn stdout() -> Self {
        Self::of(std::io::stdout().is_terminal())
    }

    /// For stderr.
    pub fn stderr() -> Self {
        Self::of(std::io::stderr().is_terminal())
    }

    fn of(terminal: bool) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        if terminal && !refused && !dumb {
            Self::Colours
        } else {
            Self::Plain
        }
    }

    pub fn red(self, text: &str) -> String {
        self.colour(text, AnsiColors::Red)
    }

    pub fn green(self, text: &str) -> String {
        self.colour(text, AnsiColors::Green)
    }

    pub fn yellow(self, text: &str) -> String {
        self.colour(text, AnsiColors::Yellow)
    }

    pub fn cyan(self, text: &str) -> String {
        self.colour(text, AnsiColors::Cyan)
    }

    pub fn bold(self, text: &str) -> String {
        match self {
            Self::Colours => text.bold().to_string(),
            Self::Plain => text.to_owned(),
        }
    }

    pub fn dim(self, text: &str) -> String {
        match self {
            Self::Colours => text.dimmed().to_string(),
            Self::Plain => text.to_owned(),
        }
    }

    fn colour(self, text: &str, colour: AnsiColors) -> String {
        match self {
            Self::Colours => text.color(colour).to_string(),
            Self::Plain => text.to_owned(),
        }
    }
}

/// Text from a template, an engine or a cloud without the control characters that
/// would move a terminal's cursor or change its title.
pub fn harmless(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' && chars.peek() == Some(&'[') {
            // A colour of the engine: dropped whole, not only its first byte.
            let end = |c: &char| ('\u{40}'..='\u{7e}').contains(c) && *c != '[';
            for c in chars.by_ref() {
                if end(&c) {
                    break;
                }
            }
        } else if c == '\n' || c == '\t' || !c.is_control() {
            clean.push(c);
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_paint_leaves_text_as_it_is() {
        assert_eq!(Paint::Plain.red("x"), "x");
        assert_ne!(Paint::Colours.red("x"), "x");
    }

    #[test]
    fn what_a_cloud_prints_cannot_steer_the_terminal() {
        assert_eq!(harmless("a\u{1b}[31mred\u{1b}[0m b"), "ared b");
        assert_eq!(harmless("a\u{1b}]0;title\u{7}b"), "a]0;titleb");
        assert_eq!(harmless("tab\there\nnext\r"), "tab\there\nnext");
    }
}
