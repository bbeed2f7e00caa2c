//! Moves what the write-ahead log holds into the database file, on a thread of its own, so
//! that no COMMIT waits for it.
//!
//! ```text
//! pages in the log     0 ─────── MOVE ─────────────── ANEW ───────────────── MOST
//!                                 │ the thread moves    │ almost all is moved:  │ the writer
//!                                 │ them, again and     │ the writer moves the  │ moves them
//!                                 │ again               │ rest between two      │ all, and
//!                                 ▼                     ▼ transactions          ▼ waits a bit
//! ```
//!
//! A log whose pages are all moved begins anew with the next transaction. Only the writer
//! can see to that: while it writes there is always a page more. Readers that began before
//! keep a log from beginning anew, for as long as they read; what is read here is short, a
//! backup may take long.

use std::cell::Cell;
use std::ffi::c_int;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::hooks::Wal;

use super::BUSY;
use crate::store::{Error, Result};

/// At how many pages what is done; a page is 4 KiB.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// More than at the last move: the thread moves them.
    pub moving: u32,
    /// The writer moves the last ones, once they are few.
    pub anew: u32,
    /// What is few: it takes a few milliseconds.
    pub few: u32,
    /// The writer moves them all.
    pub most: u32,
}

impl Limits {
    /// 8, 32, 1 and 64 MiB.
    pub(super) const OWN: Self = Self {
        moving: 2_000,
        anew: 8_000,
        few: 250,
        most: 16_000,
    };
}

/// How long the writer waits, at most, for readers of a log that is too long.
const READERS: Duration = Duration::from_millis(100);

/// The log as the writer sees it.
#[derive(Debug)]
pub(super) struct Log {
    limits: Limits,
    /// In the log, after the last transaction.
    pages: Arc<AtomicU32>,
    /// Of these in the file, after the last move.
    moved: Arc<AtomicU32>,
    /// How many there were when the thread was woken.
    woken_at: Cell<u32>,
    /// The writer does not try again before there are so many.
    not_before: Cell<u32>,
    /// Held while pages are moved: two at once would be in each other's way.
    moving: Arc<Mutex<()>>,
    wake: SyncSender<()>,
}

impl Log {
    /// Watches the log of the writer's connection, and starts the thread, which ends with
    /// this handle.
    pub(super) fn watch(writer: &mut Connection, path: &Path, limits: Limits) -> Result<Self> {
        let pages = Arc::new(AtomicU32::new(0));
        let counted = pages.clone();
        // This takes the place of the automatic checkpoint, which COMMIT would wait for.
        writer.wal_hook(Some(move |_: &mut Wal, pages: c_int| {
            counted.store(u32::try_from(pages).unwrap_or(0), Ordering::Relaxed);
            Ok(())
        }))?;
        let (wake, woken) = sync_channel(1);
        let mover = Mover {
            conn: connect(path)?,
            moved: Arc::default(),
            moving: Arc::default(),
        };
        let (moved, moving) = (mover.moved.clone(), mover.moving.clone());
        thread::Builder::new()
            .name("store-log".to_owned())
            .spawn(move || mover.run(&woken))
            .map_err(|source| Error::Backend {
                doing: "started the thread that moves its log",
                source: Box::new(source),
            })?;
        Ok(Self {
            limits,
            pages,
            moved,
            woken_at: Cell::new(0),
            not_before: Cell::new(0),
            moving,
            wake,
        })
    }

    /// To be called between transactions.
    pub(super) fn look(&self, writer: &Connection) {
        let pages = self.pages.load(Ordering::Relaxed);
        if pages < self.woken_at.get() {
            // It has begun anew.
            self.woken_at.set(0);
            self.not_before.set(0);
            self.moved.store(0, Ordering::Relaxed);
        }
        let left = pages.saturating_sub(self.moved.load(Ordering::Relaxed));
        let (may_try, few) = (pages >= self.not_before.get(), left <= self.limits.few);
        if pages >= self.limits.most && may_try {
            let _moving = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
            self.move_all(writer, pages, Patience::Some);
        } else if pages >= self.limits.anew && may_try && few {
            // Else the thread is at it, and this is looked at again.
            if let Ok(_moving) = self.moving.try_lock() {
                self.move_all(writer, pages, Patience::None);
            }
        } else if pages - self.woken_at.get() >= self.limits.moving
            || (pages >= self.limits.anew && !few)
        {
            self.woken_at.set(pages);
            // One that is awake looks again.
            let _awake = self.wake.try_send(());
        }
    }

    fn move_all(&self, writer: &Connection, pages: u32, patience: Patience) {
        // A reader may keep it from beginning anew: not tried with each transaction.
        self.not_before.set(pages + self.limits.moving / 4);
        self.woken_at.set(pages);
        let moved = match patience {
            Patience::None => checkpoint(writer, "PASSIVE"),
            Patience::Some => {
                let shorter = writer.busy_timeout(READERS);
                let moved = shorter.and_then(|()| checkpoint(writer, "RESTART"));
                writer.busy_timeout(BUSY).and(moved)
            }
        };
        note(&self.moved, moved);
    }
}

/// Whether readers of the log are waited for.
#[derive(Debug, Clone, Copy)]
enum Patience {
    None,
    Some,
}

struct Mover {
    conn: Connection,
    moved: Arc<AtomicU32>,
    moving: Arc<Mutex<()>>,
}

impl Mover {
    fn run(self, woken: &Receiver<()>) {
        while woken.recv().is_ok() {
            let _moving = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
            note(&self.moved, checkpoint(&self.conn, "PASSIVE"));
        }
    }
}

fn connect(path: &Path) -> Result<Connection> {
    let conn = Connection::open(path)?;
    conn.busy_timeout(BUSY)?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    Ok(conn)
}

/// How many pages of the log are in the file now; `None` when another process, a backup or
/// a shell, is at it.
fn checkpoint(conn: &Connection, how: &str) -> rusqlite::Result<Option<u32>> {
    let sql = format!("PRAGMA wal_checkpoint({how})");
    // Busy, pages in the log, moved; -1 where there is no log.
    conn.query_row(&sql, [], |row| row.get::<_, i64>(2))
        .map(|moved| u32::try_from(moved).ok())
}

/// A log that cannot be moved grows until it can; the writer would fail before anything is
/// lost.
fn note(known: &AtomicU32, moved: rusqlite::Result<Option<u32>>) {
    match moved {
        Ok(Some(moved)) => known.store(moved, Ordering::Relaxed),
        Ok(None) => {}
        Err(error) => tracing::error!(
            error = &error as &dyn std::error::Error,
            "the database's log could not be moved into its file"
        ),
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    const SMALL: Limits = Limits {
        moving: 20,
        anew: 80,
        few: 5,
        most: 160,
    };

    struct Written {
        dir: TempDir,
        conn: Connection,
        log: Log,
    }

    impl Written {
        fn new() -> Self {
            let dir = TempDir::new().expect("a directory");
            let path = dir.path().join("queue.db");
            let mut conn = Connection::open(&path).expect("opened");
            super::super::configure(&conn).expect("configured");
            conn.execute_batch("CREATE TABLE t (bytes BLOB)")
                .expect("a table");
            let log = Log::watch(&mut conn, &path, SMALL).expect("watched");
            Self { dir, conn, log }
        }

        /// A few pages; how many there are in the log then.
        fn write(&self) -> u32 {
            self.conn
                .execute("INSERT INTO t VALUES (zeroblob(9000))", [])
                .expect("written");
            self.log.look(&self.conn);
            self.log.pages.load(Ordering::Relaxed)
        }

        fn reader(&self) -> Connection {
            let reader = Connection::open(self.dir.path().join("queue.db")).expect("opened");
            reader.execute_batch("BEGIN").expect("begun");
            let count = "SELECT COUNT(*) FROM t";
            let _: i64 = reader.query_row(count, [], |row| row.get(0)).expect("read");
            reader
        }
    }

    #[test]
    fn a_log_that_is_written_to_without_end_stays_short() {
        let written = Written::new();
        let longest = (0..1_000).map(|_| written.write()).max();
        // A transaction or two more than the most.
        assert!(
            longest.is_some_and(|pages| pages < SMALL.most + 20),
            "{longest:?}"
        );
    }

    #[test]
    fn a_reader_holds_a_log_and_lets_it_go() {
        let written = Written::new();
        let reader = written.reader();
        while written.write() < 2 * SMALL.most {}
        drop(reader);
        let again = (0..200).map(|_| written.write()).min();
        assert!(again.is_some_and(|pages| pages < SMALL.moving), "{again:?}");
    }

    #[test]
    fn what_is_moved_beside_the_writer_is_in_the_file() {
        let written = Written::new();
        while written.write() < SMALL.moving {}
        // The thread was woken, and has moved something at some time.
        let until = std::time::Instant::now() + Duration::from_secs(10);
        while written.log.moved.load(Ordering::Relaxed) == 0 {
            assert!(std::time::Instant::now() < until, "nothing was moved");
            thread::yield_now();
        }
    }
}
