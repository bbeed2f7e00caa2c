//! A terminal for tests: it keeps what was drawn on it, each drawing for itself.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{ProgressDrawTarget, TermLike};

/// Shared with the draw target that was made from it.
#[derive(Debug, Default, Clone)]
pub struct Screen(Arc<Mutex<Drawn>>);

#[derive(Debug, Default)]
struct Drawn {
    now: String,
    last: String,
    all: String,
}

impl Screen {
    /// Where bars are drawn as often as they change.
    pub fn target(&self) -> ProgressDrawTarget {
        ProgressDrawTarget::term_like_with_hz(Box::new(self.clone()), 255)
    }

    /// What the last drawing left, blanks at its end taken off.
    pub fn last(&self) -> String {
        self.with(|drawn| drawn.last.trim_end().to_owned())
    }

    /// All that was ever drawn.
    pub fn all(&self) -> String {
        self.with(|drawn| drawn.all.clone())
    }

    fn with<T>(&self, look: impl FnOnce(&mut Drawn) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn moved(&self) -> io::Result<()> {
        Ok(())
    }
}

impl TermLike for Screen {
    fn width(&self) -> u16 {
        200
    }

    fn move_cursor_up(&self, _lines: usize) -> io::Result<()> {
        self.moved()
    }

    fn move_cursor_down(&self, _lines: usize) -> io::Result<()> {
        self.moved()
    }

    fn move_cursor_right(&self, _columns: usize) -> io::Result<()> {
        self.moved()
    }

    fn move_cursor_left(&self, _columns: usize) -> io::Result<()> {
        self.moved()
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.with(|drawn| drawn.now.extend([text, "\n"]));
        Ok(())
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.with(|drawn| drawn.now.push_str(text));
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        self.moved()
    }

    fn flush(&self) -> io::Result<()> {
        self.with(|drawn| {
            drawn.last = std::mem::take(&mut drawn.now);
            drawn.all.push_str(&drawn.last);
        });
        Ok(())
    }
}
