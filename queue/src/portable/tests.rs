//! Backups of large rows, from either database to either, with the bounds scaled down.

use std::io::Read as _;

use super::archive::{self, Writer};
use super::row::{Cell, Column, Content, Kind};
use super::source::{BATCH, Batch, Source};
use super::target::Target;
use super::*;
use crate::store::postgres;
use crate::store::postgres::tests::shared;

/// As a batch is: 4 MiB here are 4,000 bytes.
const SMALL: Batch = Batch {
    rows: 200,
    bytes: 4_000,
};

/// As the largest entry is: 256 MiB here are 256,000 bytes.
const LARGEST: u64 = 256_000;

fn place(dir: &tempfile::TempDir, database: Database) -> Place {
    Place {
        data_dir: dir.path().to_owned(),
        database,
        blob_dir: None,
    }
}

fn cell(column: &Column, number: usize) -> Cell {
    let content = match (column.name.as_str(), column.kind) {
        ("row", _) => Some(Content::Int(i64::try_from(number).expect("small"))),
        ("disposition", _) => Some(Content::Text("unclaimed".to_owned())),
        ("report", _) => {
            // Most are more than a batch; now and then one is as small as most rows are.
            let length = if number.is_multiple_of(7) {
                3
            } else {
                5_000 + number
            };
            let byte = u8::try_from(number % 251).expect("a byte");
            Some(Content::Blob(vec![byte; length]))
        }
        // Left out by an older release.
        ("organization", _) if number.is_multiple_of(2) => None,
        (_, Kind::Int) => Some(Content::Int(7)),
        (name, Kind::Text) => Some(Content::Text(format!("{name} {number} ä"))),
        (name, Kind::Blob) => Some(Content::Blob(format!("{name} {number}").into_bytes())),
    };
    Cell { content }
}

/// 180 endings, of about 800,000 bytes.
fn endings(table: &Table) -> Vec<Row> {
    let row = |number| Row {
        cells: table.columns.iter().map(|it| cell(it, number)).collect(),
    };
    (1..=180).map(row).collect()
}

/// What a sink was given of `finishes`, batch by batch.
#[derive(Default)]
struct Seen {
    tables: Vec<Table>,
    batches: Vec<Vec<Row>>,
}

impl Seen {
    fn table(&self) -> Table {
        let found = self.tables.iter().find(|table| table.name == "finishes");
        found.expect("such a table").clone()
    }

    fn in_order(self) -> Vec<Row> {
        let number = self.table().columns.iter().position(|it| it.name == "row");
        let number = number.expect("such a column");
        let mut rows: Vec<Row> = self.batches.into_iter().flatten().collect();
        rows.sort_by_key(|row| match row.cells[number].content {
            Some(Content::Int(number)) => number,
            _ => panic!("no number"),
        });
        rows
    }
}

impl Sink for Seen {
    fn begin(&mut self, header: &Header) -> Result<()> {
        self.tables.clone_from(&header.tables);
        Ok(())
    }

    fn blob(&mut self, _: Digest, _: u64, _: &mut dyn Read) -> Result<()> {
        Ok(())
    }

    fn rows(&mut self, table: &Table, rows: Vec<Row>) -> Result<()> {
        if table.name == "finishes" {
            self.batches.push(rows);
        }
        Ok(())
    }

    fn end(&mut self, _: &Totals) -> Result<()> {
        Ok(())
    }
}

fn look(at: &Place, batch: Batch) -> Seen {
    let mut seen = Seen::default();
    let source = Source::open(at, batch).expect("a source");
    source.pour(&mut seen, &mut |_| {}).expect("poured");
    seen
}

/// Makes a queue that has these endings and nothing else.
fn filled(at: &Place) -> (Table, Vec<Row>) {
    // The names of the tables, from an empty queue that is not committed.
    let scratch = tempfile::tempdir().expect("tempdir");
    let empty = place(&scratch, Database::Embedded);
    let mut target = Target::open(&empty).expect("empty");
    target.end(&Totals::default()).expect("made");
    drop(target);
    let tables = look(&empty, BATCH).tables;
    let mut seen = Seen::default();
    let header = Header {
        format: FORMAT,
        release: String::new(),
        now_ms: 1,
        tables,
    };
    seen.begin(&header).expect("kept");
    let table = seen.table();
    let rows = endings(&table);
    let mut target = Target::open(at).expect("empty");
    target.begin(&header).expect("the same tables");
    target.rows(&table, rows.clone()).expect("taken");
    let totals = Totals {
        rows: rows.len() as u64,
        ..Totals::default()
    };
    target.end(&totals).expect("made");
    (table, rows)
}

fn carried(from: &Place, to: &Place) {
    let (table, rows) = filled(from);
    assert!(
        rows.iter().map(prost::Message::encoded_len).sum::<usize>() as u64 > 3 * LARGEST,
        "they do not fit in one entry"
    );
    let seen = look(from, SMALL);
    for batch in &seen.batches {
        let before: usize = batch[1..].iter().map(prost::Message::encoded_len).sum();
        assert!(before < 6_000, "a batch of {} rows", batch.len());
    }
    assert_eq!(seen.table(), table);
    assert_eq!(seen.in_order(), rows);

    // Also when all of them come at once, as from a source that does not look at bytes.
    let careless = Batch {
        rows: 200,
        bytes: usize::MAX,
    };
    for batch in [SMALL, careless] {
        let mut archive = Vec::new();
        let source = Source::open(from, batch).expect("a source");
        let mut writer = Writer::new(&mut archive, LARGEST);
        source.pour(&mut writer, &mut |_| {}).expect("a backup");
        drop(writer);
        let mut seen = Seen::default();
        archive::read(archive.as_slice(), LARGEST, &mut seen, &mut |_| {}).expect("whole");
        assert_eq!(seen.in_order(), rows);
        if batch.bytes == SMALL.bytes {
            let mut target = Target::open(to).expect("empty");
            let restored = archive::read(archive.as_slice(), LARGEST, &mut target, &mut |_| {});
            assert_eq!(restored.expect("a restore").rows, 180);
        }
    }
    assert_eq!(look(to, SMALL).in_order(), rows);
}

#[test]
fn large_rows_of_sqlite_come_back_from_a_backup() {
    let (from, to) = (tempfile::tempdir(), tempfile::tempdir());
    let (from, to) = (from.expect("tempdir"), to.expect("tempdir"));
    carried(
        &place(&from, Database::Embedded),
        &place(&to, Database::Embedded),
    );
}

#[test]
fn large_rows_of_postgresql_come_back_from_a_backup() {
    let Some(server) = shared() else { return };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let _inside = runtime.enter();
    let (here, there) = (server.database(), server.database());
    let on = |url| Database::Postgres(postgres::Options::new(url));
    let (from, to) = (tempfile::tempdir(), tempfile::tempdir());
    let (from, to) = (from.expect("tempdir"), to.expect("tempdir"));
    carried(&place(&from, on(here.url())), &place(&to, on(there.url())));
}

#[test]
fn a_row_that_no_restore_would_take_is_refused_by_the_backup() {
    let table = Table {
        name: "finishes".to_owned(),
        columns: Vec::new(),
    };
    let row = |length: usize| Row {
        cells: vec![Cell {
            content: Some(Content::Blob(vec![1; length])),
        }],
    };
    let mut archive = Vec::new();
    let mut writer = Writer::new(&mut archive, 1_000);
    // 2 bytes of length, and before the row's one cell and its bytes 3 each.
    writer.rows(&table, vec![row(992)]).expect("it fits");
    let refused = writer.rows(&table, vec![row(1), row(993)]);
    let refused = refused.expect_err("too large");
    let said = refused.to_string();
    assert!(said.contains("finishes") && said.contains("1000"), "{said}");
    assert_eq!(refused.code(), "BACKUP_ROW_TOO_LARGE");
    drop(writer);

    let mut entries = tar::Archive::new(archive.as_slice());
    let mut entry = entries.entries().expect("entries").next().expect("one");
    let mut packed = Vec::new();
    let read = entry.as_mut().expect("whole").read_to_end(&mut packed);
    read.expect("read");
    let plain = zstd::decode_all(packed.as_slice()).expect("a frame");
    assert_eq!(plain.len(), 1_000, "the largest that is taken");
}
