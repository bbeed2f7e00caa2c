use super::*;
use proto::v1::{Credit, GateAsked, Job};

fn records() -> Vec<JournalRecord> {
    let job = Job {
        id: "job".into(),
        template: "t".repeat(200),
        ..Job::default()
    };
    [
        Record::Job(job),
        Record::GateAsked(GateAsked::default()),
        Record::Cursor(Credit {
            line_seq: 7,
            ledger_seq: 3,
        }),
    ]
    .into_iter()
    .map(|record| JournalRecord {
        record: Some(record),
        time_ms: 1,
    })
    .collect()
}

fn bytes(records: &[JournalRecord]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for record in records {
        encode(record, &mut bytes);
    }
    bytes
}

#[test]
fn a_tail_torn_at_any_byte_leaves_the_records_before_it() {
    let records = records();
    let whole = bytes(&records);
    for end in 0..=whole.len() {
        let (read, sound) = decode(&whole[..end]);
        assert_eq!(read, records[..read.len()], "torn at {end}");
        assert_eq!(bytes(&read).len(), sound);
        assert!(end < whole.len() || read.len() == records.len());
    }
}

#[test]
fn damage_at_any_byte_never_makes_another_record() {
    let records = records();
    let whole = bytes(&records);
    for at in 0..whole.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = whole.clone();
            damaged[at] ^= flip;
            let (read, _) = decode(&damaged);
            assert!(read.len() < records.len(), "byte {at} unnoticed");
            assert_eq!(read, records[..read.len()], "byte {at}");
        }
    }
}

#[test]
fn a_journal_goes_on_after_its_torn_tail() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("journal");
    let journal = Journal::create(&path).expect("create");
    journal
        .append(Record::GateAsked(GateAsked::default()))
        .expect("append");
    let mut file = OpenOptions::new().append(true).open(&path).expect("open");
    file.write_all(&[200, 1, 2]).expect("tear");
    let (journal, past) = Journal::open(&path).expect("open");
    assert!(past.gate_asked && past.job.is_none());
    let job = Job {
        id: "later".into(),
        ..Job::default()
    };
    journal.append(Record::Job(job)).expect("append");
    let (_, past) = Journal::open(&path).expect("open");
    assert_eq!(past.job.expect("job").id, "later");
    assert!(past.gate_asked);
}

#[test]
fn a_write_that_stops_half_way_costs_no_other_record() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("journal");
    let journal = Journal::create(&path).expect("create");
    let gate = || Record::GateAsked(GateAsked::default());
    journal.append(gate()).expect("append");
    let half = journal.add(b"half a record", |mut file, bytes| {
        file.write_all(&bytes[..5])?;
        Err(io::ErrorKind::StorageFull.into())
    });
    assert_eq!(half.expect_err("full").kind(), io::ErrorKind::StorageFull);
    let job = Job {
        id: "later".into(),
        ..Job::default()
    };
    journal.append(Record::Job(job)).expect("append");
    let past = Journal::read(&path).expect("read");
    assert!(past.gate_asked);
    assert_eq!(past.job.expect("the later record").id, "later");
}

#[tokio::test]
async fn a_journal_that_cannot_be_mended_takes_no_more() {
    let full = OpenOptions::new().append(true).open("/dev/full");
    let journal = Journal::over(full.expect("device"), 0);
    let gate = || Record::GateAsked(GateAsked::default());
    let first = journal.commit(gate()).await.expect_err("full");
    assert_eq!(first.kind(), io::ErrorKind::StorageFull);
    let second = journal.commit(gate()).await.expect_err("torn");
    assert!(second.to_string().contains("torn"), "{second}");
}

#[test]
fn a_journal_is_private_and_made_once() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("journal");
    Journal::create(&path).expect("create");
    let mode = std::fs::metadata(&path).expect("made").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(Journal::create(&path).is_err());
}
