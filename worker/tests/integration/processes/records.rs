//! An apply runs only when the disk knows of it.

use std::fs;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use proto::v1::exit_record::Record;
use proto::v1::from_supervisor::Message as FromSupervisorMessage;
use proto::v1::to_supervisor::Message as ToSupervisorMessage;
use proto::v1::{InterruptReason, Process};
use worker::launch::{self, Namespace};

use super::rig::{PATIENCE, Rig, configure, request};

/// A file system of one MiB that only this thread and what it starts see.
fn small_disk(at: &Path) -> nix::Result<()> {
    const NONE: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    let size = Some("size=1m");
    mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), size)
}

/// A job directory on a disk that has no byte left.
fn on_full_disk(disk: &Path) {
    let jobs = tempfile::tempdir_in(disk).expect("directory");
    let mut rig = Rig::launch_at(jobs, "echo ran > ran", Namespace::Best);
    rig.send(ToSupervisorMessage::Configure(configure(&rig.engine)));
    rig.expect("ready", |message| match message {
        FromSupervisorMessage::Ready(ready) => Some(ready),
        _ => None,
    });
    rig.open_gate(PATIENCE);
    let filler = disk.join("filler");
    let fill = || fs::write(&filler, vec![0; 2 << 20]);
    fill().expect_err("it is full");
    let (layer, message) = rig.refused(request(1, Process::Apply));
    assert_eq!(layer, "record", "{message}");
    assert!(!rig.dir.work().join("ran").exists());
    fs::remove_file(&filler).expect("room again");
    rig.start(request(2, Process::Apply));
    // It runs now. A disk as small as this one is always short of room, so it may be
    // interrupted for that at once.
    let exited = rig.exited();
    let short = exited.interrupted() == InterruptReason::Disk;
    assert!(exited.code == Some(0) || short, "{exited:?}");
    let records = launch::read_exits(&rig.dir.exits()).expect("exits");
    let numbers: Vec<u32> = records
        .iter()
        .filter_map(|record| match &record.record {
            Some(Record::Started(started)) => Some(started.number),
            _ => None,
        })
        .collect();
    assert_eq!(numbers, [2, 2], "before it ran and when it did");
}

#[test]
fn an_apply_that_no_record_can_tell_of_does_not_run() {
    let outside = tempfile::tempdir().expect("directory");
    let disk = outside.path().to_owned();
    // A thread of its own: the namespace goes with it.
    let ran = std::thread::spawn(move || match small_disk(&disk) {
        Ok(()) => on_full_disk(&disk),
        Err(errno) => eprintln!("skipped: a tmpfs cannot be mounted: {errno}"),
    });
    if let Err(panic) = ran.join() {
        std::panic::resume_unwind(panic);
    }
}
