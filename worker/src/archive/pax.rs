//! Extended headers: `length key=value\n` records that describe the next entry.

use super::Error;

/// Largest extended header or long name; real ones hold one path and some times.
pub(super) const EXTENSION: u64 = 64 * 1024;

/// What of an extended header matters here. Times, owners and attributes do not.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Extended {
    pub(super) path: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    /// The entry is stored with holes, which templates never are.
    pub(super) sparse: bool,
}

impl Extended {
    /// Parses the body of a `x` or `g` entry.
    pub(super) fn parse(mut body: &[u8]) -> Result<Self, Error> {
        let mut extended = Self::default();
        while !body.is_empty() {
            let (key, value, rest) = record(body).ok_or_else(|| Error::Corrupt {
                reason: "an extended header cannot be read".to_owned(),
            })?;
            match key {
                b"path" => extended.path = Some(value.to_vec()),
                b"size" => {
                    let size = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok());
                    extended.size = Some(size.ok_or_else(|| Error::Corrupt {
                        reason: "an extended header names no valid size".to_owned(),
                    })?);
                }
                _ if key.starts_with(b"GNU.sparse.") => extended.sparse = true,
                _ => {}
            }
            body = rest;
        }
        Ok(extended)
    }

    /// Does it change what an entry is, rather than only its times and owners?
    pub(super) fn describes_content(&self) -> bool {
        self.path.is_some() || self.size.is_some() || self.sparse
    }
}

/// Splits off the first record: its key, its value and what follows.
fn record(body: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = body.iter().position(|b| *b == b' ')?;
    let digits = std::str::from_utf8(&body[..space]).ok()?;
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let length: usize = digits.parse().ok()?;
    let text = body.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = text.iter().position(|b| *b == b'=')?;
    Some((&text[..equals], &text[equals + 1..], &body[length..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_may_hold_newlines_and_equal_signs() {
        let extended = Extended::parse(b"13 path=a=\nb\n21 mtime=1.000000000\n").unwrap();
        assert_eq!(extended.path.as_deref(), Some(&b"a=\nb"[..]));
    }

    #[test]
    fn lengths_that_do_not_fit_are_damage() {
        for body in [
            &b"99 path=a\n"[..],
            b"3 p=\n",
            b"path=a\n",
            b"+9 path=a\n",
            b"9 path=abc",
        ] {
            assert_eq!(
                Extended::parse(body).unwrap_err().code(),
                "ARCHIVE_CORRUPT",
                "{}",
                String::from_utf8_lossy(body)
            );
        }
    }
}
