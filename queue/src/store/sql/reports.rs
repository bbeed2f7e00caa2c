//! The reports of all finishes that are kept, of which few are held at once: one may have
//! 64 MiB, and they may be many.

use proto::v1;

use super::Snapshot;
use super::codec::message;
use super::rows::{More, values};
use crate::store::Result;

/// Bytes of reports that are held at once, unless one alone has more.
const PAGE_BYTES: u64 = 4 * 1024 * 1024;

/// Reports whose sizes are looked at, at once.
const SIZES: u32 = 1_000;

impl Snapshot<'_> {
    /// Shows each report.
    pub(super) fn each_report(self, mut show: impl FnMut(v1::FinishJobRequest)) -> Result<()> {
        let sizes = self.db.prepare(
            "SELECT row, LENGTH(report) FROM finishes WHERE row > ?1 ORDER BY row LIMIT ?2",
        );
        let page = self
            .db
            .prepare("SELECT report FROM finishes WHERE row > ?1 AND row <= ?2");
        let mut after = 0;
        loop {
            let found = sizes.all(values![after, SIZES], |row| {
                Ok((row.get::<i64>(0)?, row.get::<u64>(1)?))
            })?;
            if found.is_empty() {
                return Ok(());
            }
            for end in ends(&found, PAGE_BYTES) {
                page.each(values![after, end], |row| {
                    // What does not read names nothing.
                    show(message(row, 0).unwrap_or_default());
                    Ok(More::Yes)
                })?;
                after = end;
            }
        }
    }
}

/// The last row of each page of rows with these sizes.
fn ends(sizes: &[(i64, u64)], most: u64) -> Vec<i64> {
    let (mut ends, mut bytes) = (Vec::new(), 0);
    for (number, (row, size)) in sizes.iter().enumerate() {
        bytes += size;
        let next = sizes.get(number + 1);
        if next.is_none_or(|(_, size)| bytes + size > most) {
            ends.push(*row);
            bytes = 0;
        }
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_ends_before_it_has_too_many_bytes() {
        let sizes = [(1, 4), (3, 6), (4, 1), (9, 30), (10, 5), (12, 5)];
        assert_eq!(ends(&sizes, 10), [3, 4, 9, 12]);
        assert_eq!(ends(&sizes, 1), [1, 3, 4, 9, 10, 12]);
        assert_eq!(ends(&sizes, 51), [12]);
        assert_eq!(ends(&[], 10), Vec::<i64>::new());
    }
}
