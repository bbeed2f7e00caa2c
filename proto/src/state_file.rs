//! The header of a state file: which format, which lineage, which serial, and whether
//! anything is in it. The whole text is checked to be one JSON document, so an empty
//! or torn file (engines truncate and rewrite in place) is never taken for a state;
//! nothing of the resources is kept, so 50 MiB cost one pass and no memory.

use std::io::Read;

use serde::Deserialize;
use serde::de::{SeqAccess, Visitor};

/// The only format that Terraform since 0.12 and OpenTofu write.
const FORMAT: u64 = 4;

/// What identifies a state and orders it among its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Given once when a state is born; states of different lineage never replace
    /// each other.
    pub lineage: String,
    /// Grows with each change.
    pub serial: u64,
    /// Managed resources (not instances) in it; 0 = nothing exists.
    pub managed: u64,
    /// Version of the engine that wrote it, empty when unknown.
    pub engine_version: String,
}

/// The bytes are no state that may be kept or given to an engine.
#[derive(Debug, thiserror::Error)]
pub enum Invalid {
    /// Nothing, or only white space. An engine would take it for "nothing exists".
    #[error("the state file is empty")]
    Empty,
    /// Cut off, overwritten half way, or no JSON at all.
    #[error("the state file is torn or no state")]
    Torn(#[from] serde_json::Error),
    /// A format that this release does not know.
    #[error("the state file has format version {0}, expected {FORMAT}")]
    Format(u64),
    /// Nothing says what it belongs to.
    #[error("the state file has no lineage")]
    NoLineage,
}

/// Reads the header of a whole state file.
///
/// # Errors
/// The bytes are empty, torn or of an unknown format.
pub fn header(bytes: &[u8]) -> Result<Header, Invalid> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Invalid::Empty);
    }
    checked(serde_json::from_slice(bytes)?)
}

/// The same of a state that is read piece by piece.
///
/// # Errors
/// As [`header`]; a reader that fails is [`Invalid::Torn`] with an I/O error in it.
pub fn header_from(reader: impl Read) -> Result<Header, Invalid> {
    let mut noting = Noting {
        reader,
        blank: true,
    };
    match serde_json::from_reader(&mut noting) {
        Ok(file) => checked(file),
        Err(error) if error.is_eof() && noting.blank => Err(Invalid::Empty),
        Err(error) => Err(error.into()),
    }
}

/// Notes whether anything but white space was read.
struct Noting<R> {
    reader: R,
    blank: bool,
}

impl<R: Read> Read for Noting<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let count = self.reader.read(into)?;
        self.blank &= into[..count].iter().all(u8::is_ascii_whitespace);
        Ok(count)
    }
}

fn checked(file: File) -> Result<Header, Invalid> {
    if file.version != FORMAT {
        return Err(Invalid::Format(file.version));
    }
    if file.lineage.is_empty() {
        return Err(Invalid::NoLineage);
    }
    Ok(Header {
        lineage: file.lineage,
        serial: file.serial,
        managed: file.resources.0,
        engine_version: file.terraform_version,
    })
}

#[derive(Deserialize)]
struct File {
    version: u64,
    #[serde(default)]
    serial: u64,
    #[serde(default)]
    lineage: String,
    #[serde(default)]
    terraform_version: String,
    #[serde(default)]
    resources: Managed,
}

/// Counts the managed resources of a list without keeping them.
#[derive(Default)]
struct Managed(u64);

#[derive(Deserialize)]
struct Mode {
    #[serde(default)]
    mode: String,
}

impl<'de> Deserialize<'de> for Managed {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ManagedVisitor)
    }
}

struct ManagedVisitor;

impl<'de> Visitor<'de> for ManagedVisitor {
    type Value = Managed;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of resources")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Managed, A::Error> {
        let mut managed = 0;
        while let Some(Mode { mode }) = list.next_element()? {
            managed += u64::from(mode == "managed");
        }
        Ok(Managed(managed))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Managed, E> {
        Ok(Managed(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: &str = r#"{
  "version": 4,
  "terraform_version": "1.11.4",
  "serial": 7,
  "lineage": "35c00092-4333-873f-8e49-6e280ba32940",
  "outputs": {},
  "resources": [
    {"mode": "data", "type": "coder_workspace", "name": "me", "instances": []},
    {"mode": "managed", "type": "terraform_data", "name": "a", "instances": [{"attributes": {"id": "1"}}]}
  ],
  "check_results": null
}
"#;

    #[test]
    fn the_header_counts_managed_resources_only() {
        let header = header(STATE.as_bytes()).expect("state");
        assert_eq!(header.serial, 7);
        assert_eq!(header.lineage, "35c00092-4333-873f-8e49-6e280ba32940");
        assert_eq!(header.managed, 1);
        assert_eq!(header.engine_version, "1.11.4");
    }

    #[test]
    fn a_state_read_piece_by_piece_has_the_same_header() {
        let pieces = STATE.as_bytes().chunks(7);
        let mut reader: Box<dyn Read> = Box::new(std::io::empty());
        for piece in pieces {
            reader = Box::new(reader.chain(piece));
        }
        let whole = header(STATE.as_bytes()).expect("state");
        assert_eq!(header_from(reader).expect("state"), whole);
        assert!(matches!(header_from(&b" \n"[..]), Err(Invalid::Empty)));
        let cut = &STATE.as_bytes()[..STATE.len() / 2];
        assert!(matches!(header_from(cut), Err(Invalid::Torn(_))));
    }

    #[test]
    fn an_empty_file_is_no_state() {
        assert!(matches!(header(b""), Err(Invalid::Empty)));
        assert!(matches!(header(b" \n"), Err(Invalid::Empty)));
    }

    #[test]
    fn a_file_torn_at_any_byte_is_no_state() {
        let whole = STATE.trim_end();
        for cut in 1..whole.len() {
            assert!(header(&whole.as_bytes()[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn other_formats_and_missing_lineage_are_named() {
        assert!(matches!(
            header(br#"{"version":3,"serial":1,"lineage":"x"}"#),
            Err(Invalid::Format(3))
        ));
        assert!(matches!(
            header(br#"{"version":4,"serial":1}"#),
            Err(Invalid::NoLineage)
        ));
    }

    #[test]
    fn a_state_without_resources_holds_nothing() {
        let empty = br#"{"version":4,"serial":1,"lineage":"x","resources":null}"#;
        assert_eq!(header(empty).expect("state").managed, 0);
    }
}
