//! The name of an entry, parsed once: relative, normalised, valid UTF-8, no `..`.

use proto::limits::ARCHIVE_PATH;

use super::Error;

/// Longest single component; more than this no Linux file system takes.
const COMPONENT: usize = 255;

/// A normalised relative path. Empty for the directory itself (`./`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name(String);

impl Name {
    /// Parses the bytes of an archive.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let invalid = |reason: String| Error::NameInvalid {
            name: shown(bytes),
            reason,
        };
        if bytes.is_empty() {
            return Err(invalid("it is empty".to_owned()));
        }
        if bytes.contains(&0) {
            return Err(invalid("it contains a NUL byte".to_owned()));
        }
        if bytes.len() > ARCHIVE_PATH {
            return Err(invalid(format!("longer than {ARCHIVE_PATH} bytes")));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| invalid("it is not UTF-8".to_owned()))?;
        if text.starts_with('/') || text.split('/').any(|part| part == "..") {
            return Err(Error::PathEscapes { name: shown(bytes) });
        }
        let parts: Vec<&str> = text
            .split('/')
            .filter(|part| !matches!(*part, "" | "."))
            .collect();
        if parts.iter().any(|part| part.len() > COMPONENT) {
            return Err(invalid(format!("a part is longer than {COMPONENT} bytes")));
        }
        Ok(Self(parts.join("/")))
    }

    /// The normalised path, without `./` and doubled or trailing slashes.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Is it the directory itself?
    pub(super) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// For messages: quoted, control characters escaped.
    pub(super) fn shown(&self) -> String {
        shown(self.0.as_bytes())
    }
}

/// Any bytes for a message: quoted, escaped, at most 200 characters of them.
pub(super) fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let short: String = text.chars().take(200).collect();
    let more = if short.len() < text.len() { "…" } else { "" };
    format!("{short:?}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_and_doubled_slashes_are_normalised_away() {
        for text in ["./a//b/", "a/./b", "a/b"] {
            assert_eq!(Name::parse(text.as_bytes()).unwrap().as_str(), "a/b");
        }
        assert!(Name::parse(b"./").unwrap().is_root());
    }

    #[test]
    fn names_that_leave_or_cannot_be_written_are_refused() {
        let long = "x".repeat(ARCHIVE_PATH + 1);
        let part = "x".repeat(COMPONENT + 1);
        for (name, code) in [
            (&b"../a"[..], "ARCHIVE_PATH_ESCAPES"),
            (b"a/../b", "ARCHIVE_PATH_ESCAPES"),
            (b"/etc/passwd", "ARCHIVE_PATH_ESCAPES"),
            (b"", "ARCHIVE_NAME_INVALID"),
            (b"a\0b", "ARCHIVE_NAME_INVALID"),
            (b"\xff", "ARCHIVE_NAME_INVALID"),
            (long.as_bytes(), "ARCHIVE_NAME_INVALID"),
            (part.as_bytes(), "ARCHIVE_NAME_INVALID"),
        ] {
            assert_eq!(Name::parse(name).unwrap_err().code(), code, "{name:?}");
        }
    }

    #[test]
    fn a_shown_name_cannot_write_to_a_terminal() {
        assert_eq!(shown(b"a\x1b[2J"), "\"a\\u{1b}[2J\"");
    }
}
