//! Bytes on their way, on stderr: archives and states may be large and networks slow.
//! Only a terminal sees it, and nothing of it stays there.

use std::io::{self, IsTerminal, Read};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use proto::limits::MIB;

/// What is smaller is done before anybody can read about it.
const WORTH_SHOWING: u64 = 4 * MIB;

/// Between two turns of the spinner, while no byte moves.
const TURN: Duration = Duration::from_millis(100);

/// Whether transfers are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transfers {
    /// On the terminal that stderr is.
    Shown,
    /// Not at all.
    Hidden,
}

impl Transfers {
    /// What suits stderr.
    pub fn for_stderr() -> Self {
        match io::stderr().is_terminal() {
            true => Self::Shown,
            false => Self::Hidden,
        }
    }

    /// Begins one: `what` is a verb such as `upload`; the total is not always known.
    pub fn begin(self, what: &'static str, total: Option<u64>) -> Transfer {
        let small = total.is_some_and(|total| total < WORTH_SHOWING);
        match self {
            Self::Shown if !small => Transfer::on(ProgressDrawTarget::stderr(), what, total),
            Self::Shown | Self::Hidden => Transfer(None),
        }
    }
}

/// One transfer; its line goes with it.
#[derive(Debug)]
pub struct Transfer(Option<ProgressBar>);

impl Transfer {
    /// One that nobody sees.
    pub fn hidden() -> Self {
        Self(None)
    }

    fn on(target: ProgressDrawTarget, what: &'static str, total: Option<u64>) -> Self {
        let bar = ProgressBar::with_draw_target(total, target);
        let template = match total {
            Some(_) => "{spinner} {msg:<8} {bytes} of {total_bytes}  {bytes_per_sec}  {eta} left",
            None => "{spinner} {msg:<8} {bytes}  {bytes_per_sec}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what);
        bar.enable_steady_tick(TURN);
        Self(Some(bar))
    }

    /// So many more bytes have moved.
    pub fn advance(&self, bytes: usize) {
        if let Some(bar) = &self.0 {
            bar.inc(bytes as u64);
        }
    }

    /// What is read from `inner` has moved.
    pub fn reading<R>(&self, inner: R) -> Reading<'_, R> {
        Reading {
            transfer: self,
            inner,
        }
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// A reader that tells its transfer.
pub struct Reading<'a, R> {
    transfer: &'a Transfer,
    inner: R,
}

impl<R: Read> Read for Reading<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.transfer.advance(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::screen::Screen;

    #[test]
    fn bytes_are_counted_against_the_total_and_nothing_stays() {
        let screen = Screen::default();
        let transfer = Transfer::on(screen.target(), "upload", Some(8 * MIB));
        let sent = vec![0; 3 * 1024 * 1024];
        let read = io::copy(&mut transfer.reading(&sent[..]), &mut io::sink());
        assert_eq!(read.expect("read"), 3 * MIB);
        transfer.0.as_ref().expect("shown").force_draw();
        let drawn = screen.last();
        assert!(drawn.contains("upload   3.00 MiB of 8.00 MiB"), "{drawn:?}");
        drop(transfer);
        assert_eq!(screen.last(), "", "the line is cleared");
    }

    #[test]
    fn a_total_that_nobody_knows_is_left_out() {
        let screen = Screen::default();
        let transfer = Transfer::on(screen.target(), "download", None);
        transfer.advance(1 << 20);
        transfer.0.as_ref().expect("shown").force_draw();
        let drawn = screen.last();
        assert!(drawn.contains("download 1.00 MiB  "), "{drawn:?}");
    }

    #[test]
    fn what_is_small_or_hidden_shows_nothing() {
        assert!(Transfers::Shown.begin("upload", Some(MIB)).0.is_none());
        assert!(Transfers::Hidden.begin("upload", None).0.is_none());
    }
}
