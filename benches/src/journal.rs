//! What a daemon's journal of a job says, read while the daemon writes it.

use std::path::Path;

use prost::Message as _;
use proto::v1::JournalRecord;
use proto::v1::journal_record::Record;

/// Bytes that stand behind each record.
const CHECK: usize = 8;

/// Whether it says that the gate is asked for.
#[must_use]
pub fn asks(journal: &Path) -> bool {
    let bytes = std::fs::read(journal).unwrap_or_default();
    let mut rest = &bytes[..];
    // A record that is not whole is the last one.
    while !rest.is_empty() {
        let Ok(record) = JournalRecord::decode_length_delimited(&mut rest) else {
            return false;
        };
        if matches!(record.record, Some(Record::GateAsked(_))) {
            return true;
        }
        rest = rest.get(CHECK..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::v1::{Credit, GateAsked};

    #[test]
    fn the_record_is_found_and_a_torn_one_is_none() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("journal");
        let mut bytes = Vec::new();
        for record in [
            Record::Cursor(Credit::default()),
            Record::GateAsked(GateAsked::default()),
        ] {
            let record = JournalRecord {
                record: Some(record),
                time_ms: 1,
            };
            record.encode_length_delimited(&mut bytes).expect("room");
            bytes.extend([0; CHECK]);
        }
        std::fs::write(&path, &bytes).expect("file");
        assert!(asks(&path));
        std::fs::write(&path, &bytes[..bytes.len() - CHECK - 1]).expect("file");
        assert!(!asks(&path));
        assert!(!asks(&dir.path().join("none")));
    }
}
