use std::sync::atomic::Ordering;

use proto::ids::Digest;
use proto::v1::{BlobRef, Checkpoint, LogSource};

use super::*;
use crate::daemon::scripted::{self, Bench, bench, until};
use crate::daemon::{blobs, collect};

/// A finished job with a state in `keep/`.
async fn parcel(bench: &Bench, state: &[u8]) -> Parcel {
    let job = scripted::job();
    let dir = bench.context.data.create_job(&job.id).expect("dir");
    std::fs::write(dir.keep().join("state-1"), state).expect("state");
    let journal = Journal::create(&dir.journal()).expect("journal");
    journal.append(Record::Job(job.clone())).expect("record");
    let checkpoint = Checkpoint {
        blob: Some(BlobRef {
            sha256: Digest::of(state).as_bytes().to_vec(),
            size: u64::try_from(state.len()).expect("small"),
        }),
        ..Checkpoint::default()
    };
    let lease = Lease::of(&job);
    let mut finish = FinishJobRequest {
        job_id: lease.job_id.clone(),
        lease_id: lease.lease_id.clone(),
        attempt: 1,
        state: Some(checkpoint.clone()),
        ..FinishJobRequest::default()
    };
    finish.set_outcome(Outcome::Succeeded);
    let parcel = Parcel {
        context: bench.context.clone(),
        lease,
        dir,
        journal,
        finish,
        kept: Some(LocalCheckpoint {
            file: "state-1".into(),
            checkpoint: Some(checkpoint),
        }),
        heartbeat: 3,
        fate: Fate::default(),
    };
    parcel.commit().await.expect("commit");
    parcel
}

fn leftovers(bench: &Bench) -> usize {
    bench.context.data.leftovers().expect("list").len()
}

#[tokio::test]
async fn a_finish_is_repeated_until_the_queue_has_it() {
    let bench = bench(1).await;
    bench.script.outages.store(4, Ordering::SeqCst);
    parcel(&bench, b"state")
        .await
        .deliver()
        .await
        .clean_up()
        .await;
    assert_eq!(bench.script.finishes.lock().expect("finishes").len(), 1);
    assert_eq!(
        *bench.script.puts.lock().expect("puts"),
        [b"state".to_vec()]
    );
    assert_eq!(bench.context.counts.finished.load(Ordering::Relaxed), 1);
    assert_eq!(leftovers(&bench), 0);
}

#[tokio::test]
async fn a_queue_that_has_lost_the_state_since_gets_it_again() {
    let bench = bench(1).await;
    bench.script.misses.store(2, Ordering::SeqCst);
    let sent = parcel(&bench, b"state").await.deliver().await;
    sent.clean_up().await;
    let puts = bench.script.puts.lock().expect("puts").clone();
    assert_eq!(puts, vec![b"state".to_vec(); 3]);
    let finishes = bench.script.finishes.lock().expect("finishes");
    assert_eq!(finishes[0].outcome(), Outcome::Succeeded);
    assert_eq!(leftovers(&bench), 0);
}

#[tokio::test]
async fn a_finish_for_which_there_is_no_room_is_kept_and_repeated() {
    let bench = bench(1).await;
    bench.script.full.store(u32::MAX, Ordering::SeqCst);
    let delivering = tokio::spawn(parcel(&bench, b"state").await.deliver());
    let tries = || u32::MAX - bench.script.full.load(Ordering::SeqCst);
    until("two tries", || tries() >= 2).await;
    assert_eq!(leftovers(&bench), 1, "its journal stays");
    bench.script.full.store(0, Ordering::SeqCst);
    delivering.await.expect("delivery").clean_up().await;
    let finishes = bench.script.finishes.lock().expect("finishes");
    assert_eq!(finishes.len(), 1);
    assert_eq!(finishes[0].outcome(), Outcome::Succeeded);
    assert_eq!(leftovers(&bench), 0);
}

/// What the reply to an update says.
fn hear(bench: &Bench, encodings: &'static str, brings: &'static str) {
    let mut metadata = tonic::metadata::MetadataMap::new();
    for (what, known) in [("x-blob-encodings", encodings), ("x-finish-brings", brings)] {
        metadata.insert(what, known.parse().expect("metadata"));
    }
    bench.context.hear(&metadata);
}

#[tokio::test]
async fn a_small_state_travels_with_its_finish_to_a_queue_that_says_that_it_takes_it() {
    let small = vec![b's'; limits::BLOB_INLINE];
    let large = vec![b'l'; limits::BLOB_INLINE + 1];
    for (state, encodings, brings, with) in [
        (
            &small,
            "gzip",
            "state",
            Some(Brought::StateData(small.clone())),
        ),
        (&small, "gzip", "", None),
        (&small, "gzip", "plan", None),
        (&large, "gzip", "state", None),
    ] {
        let bench = bench(1).await;
        hear(&bench, encodings, brings);
        let sent = parcel(&bench, state).await.deliver().await;
        sent.clean_up().await;
        let finishes = bench.script.finishes.lock().expect("finishes").clone();
        assert_eq!(finishes.len(), 1);
        let puts = bench.script.puts.lock().expect("puts").clone();
        match with {
            Some(_) => assert_eq!(puts, Vec::<Vec<u8>>::new()),
            None => assert_eq!(puts, std::slice::from_ref(state)),
        }
        assert_eq!(finishes[0].brought, with, "{brings}");
        assert_eq!(leftovers(&bench), 0);
    }
    let bench = bench(1).await;
    hear(&bench, "zstd", "state");
    parcel(&bench, &small)
        .await
        .deliver()
        .await
        .clean_up()
        .await;
    let finishes = bench.script.finishes.lock().expect("finishes").clone();
    let Some(Brought::StateZstd(frame)) = &finishes[0].brought else {
        panic!("not packed: {:?}", finishes[0].brought);
    };
    assert!(frame.len() < small.len() / 10);
    let unpacked = zstd::bulk::decompress(frame, small.len());
    assert_eq!(unpacked.expect("a frame"), small);
}

#[tokio::test]
async fn a_replica_that_does_not_see_the_state_with_the_finish_gets_it_by_itself() {
    let bench = bench(1).await;
    hear(&bench, "gzip", "state");
    bench.script.old.store(true, Ordering::SeqCst);
    let sent = parcel(&bench, b"state").await.deliver().await;
    sent.clean_up().await;
    assert_eq!(
        *bench.script.puts.lock().expect("puts"),
        [b"state".to_vec()]
    );
    let finishes = bench.script.finishes.lock().expect("finishes").clone();
    assert_eq!((finishes.len(), &finishes[0].brought), (1, &None));
    assert_eq!(finishes[0].outcome(), Outcome::Succeeded);
    assert_eq!(leftovers(&bench), 0);
}

#[tokio::test]
async fn a_state_that_cannot_be_read_is_not_brought_and_an_older_copy_is_sent() {
    let bench = bench(1).await;
    hear(&bench, "gzip", "state");
    let parcel = parcel(&bench, b"state").await;
    std::fs::write(parcel.dir.keep().join("state-1"), "cut").expect("damage");
    parcel.deliver().await.clean_up().await;
    let finishes = bench.script.finishes.lock().expect("finishes").clone();
    assert_eq!((finishes.len(), &finishes[0].brought), (1, &None));
    assert_eq!(finishes[0].state, None);
    assert_eq!(finishes[0].outcome(), Outcome::Failed);
}

#[tokio::test]
async fn a_refused_finish_stays_on_disk_and_is_tried_at_the_next_start() {
    let bench = bench(1).await;
    bench.script.refuses.store(true, Ordering::SeqCst);
    parcel(&bench, b"state")
        .await
        .deliver()
        .await
        .clean_up()
        .await;
    assert_eq!(bench.context.counts.unsent.load(Ordering::Relaxed), 1);
    assert_eq!(leftovers(&bench), 1);
    bench.script.refuses.store(false, Ordering::SeqCst);
    collect::start(&bench.context);
    until("the finish of an earlier daemon", || leftovers(&bench) == 0).await;
    let finishes = bench.script.finishes.lock().expect("finishes");
    assert_eq!(finishes.len(), 1);
    assert_eq!(finishes[0].outcome(), Outcome::Succeeded);
}

#[tokio::test]
async fn a_daemon_that_ends_meanwhile_loses_nothing() {
    let bench = bench(1).await;
    bench.script.outages.store(u32::MAX, Ordering::SeqCst);
    let delivering = tokio::spawn(parcel(&bench, b"state").await.deliver());
    until("a try", || {
        bench.script.outages.load(Ordering::SeqCst) < u32::MAX
    })
    .await;
    bench.context.closing.cancel();
    delivering.await.expect("delivery").clean_up().await;
    assert_eq!(bench.context.counts.unsent.load(Ordering::Relaxed), 1);
    assert_eq!(leftovers(&bench), 1);
}

/// A copy in `keep/` that the journal tells of.
fn told(parcel: &Parcel, file: &str, state: &[u8], serial: u64) -> LocalCheckpoint {
    std::fs::write(parcel.dir.keep().join(file), state).expect("copy");
    let kept = LocalCheckpoint {
        file: file.into(),
        checkpoint: Some(Checkpoint {
            serial,
            blob: Some(BlobRef {
                sha256: Digest::of(state).as_bytes().to_vec(),
                size: u64::try_from(state.len()).expect("small"),
            }),
            ..Checkpoint::default()
        }),
    };
    let record = Record::Checkpoint(kept.clone());
    parcel.journal.append(record).expect("record");
    kept
}

#[tokio::test]
async fn a_state_that_is_gone_never_holds_up_the_ending_and_the_files_are_kept() {
    let bench = bench(1).await;
    let mut parcel = parcel(&bench, b"gone").await;
    std::fs::remove_file(parcel.dir.keep().join("state-1")).expect("removed");
    told(&parcel, "old", b"older and whole", 2);
    let torn = told(&parcel, "torn", b"newer", 3);
    std::fs::write(parcel.dir.keep().join("torn"), b"wrong").expect("damage");
    let newest = told(&parcel, "newest", b"newest", 4);
    std::fs::remove_file(parcel.dir.keep().join("newest")).expect("removed");
    assert!(blobs::check_kept(&parcel.dir, &torn).is_err());
    parcel.finish.state.clone_from(&newest.checkpoint);
    parcel.kept = Some(newest);
    parcel.deliver().await.clean_up().await;
    let finishes = bench.script.finishes.lock().expect("finishes");
    let finish = &finishes[0];
    assert_eq!(finish.state.as_ref().expect("a state").serial, 2);
    assert_eq!(finish.outcome(), Outcome::Failed);
    let error = finish.error.as_ref().expect("an error");
    assert_eq!(error.code, "STATE_UNSENT");
    let puts = bench.script.puts.lock().expect("puts");
    assert_eq!(*puts, [b"older and whole".to_vec()]);
    assert_eq!(leftovers(&bench), 0);
    let retained = bench
        .dir
        .path()
        .canonicalize()
        .expect("path")
        .join("retained");
    let kept = std::fs::read_dir(retained).expect("retained").next();
    let kept = kept.expect("a directory").expect("entry").path();
    assert!(error.hint.contains(&*kept.to_string_lossy()), "{error:?}");
    assert!(kept.join("keep/old").exists());
}

#[tokio::test]
async fn a_finish_without_any_whole_state_is_still_told() {
    let bench = bench(1).await;
    let parcel = parcel(&bench, b"gone").await;
    std::fs::remove_file(parcel.dir.keep().join("state-1")).expect("removed");
    parcel.deliver().await.clean_up().await;
    let finishes = bench.script.finishes.lock().expect("finishes");
    assert_eq!((finishes.len(), &finishes[0].state), (1, &None));
}

#[tokio::test]
async fn a_refused_key_delays_a_finish_and_does_not_end_it() {
    let bench = bench(1).await;
    bench.script.locked_out.store(1, Ordering::SeqCst);
    parcel(&bench, b"state")
        .await
        .deliver()
        .await
        .clean_up()
        .await;
    assert_eq!(bench.script.finishes.lock().expect("finishes").len(), 1);
    assert_eq!(leftovers(&bench), 0);
}

#[tokio::test]
async fn lines_that_do_not_fit_go_first() {
    let bench = bench(1).await;
    let mut parcel = parcel(&bench, b"state").await;
    parcel.finish.lines = lines(4_500);
    parcel.deliver().await.clean_up().await;
    let updates = bench.script.updates.lock().expect("updates");
    let finishes = bench.script.finishes.lock().expect("finishes");
    let seqs: Vec<u64> = updates
        .iter()
        .flat_map(|update| &update.lines)
        .chain(&finishes[0].lines)
        .map(|line| line.seq)
        .collect();
    assert_eq!(seqs, (1..=4_500).collect::<Vec<_>>());
}

#[tokio::test]
async fn lines_that_a_queue_without_the_job_does_not_take_are_counted_in_their_place() {
    let bench = bench(1).await;
    bench.script.knows_nothing.store(true, Ordering::SeqCst);
    let mut parcel = parcel(&bench, b"state").await;
    parcel.finish.lines = lines(4_500);
    parcel.deliver().await.clean_up().await;
    let finishes = bench.script.finishes.lock().expect("finishes");
    let [gap, rest @ ..] = finishes[0].lines.as_slice() else {
        panic!("no lines");
    };
    let lost = 4_500 - u64::try_from(rest.len()).expect("few");
    assert_eq!(rest[0].seq, lost + 1);
    assert_eq!((gap.seq, gap.source()), (lost, LogSource::Gap));
    let told = format!("{lost} lines ({} bytes) are left out", lost * 1_500);
    assert!(gap.text.contains(&told), "{}", gap.text);
}

/// A job of an earlier daemon that was behind its gate.
fn left_behind_the_gate(bench: &Bench) -> JobDir {
    let job = scripted::job();
    let dir = bench.context.data.create_job(&job.id).expect("dir");
    let journal = Journal::create(&dir.journal()).expect("journal");
    journal.append(Record::Job(job)).expect("record");
    let asked = proto::v1::GateAsked {
        intended: vec![proto::v1::IntendedChange {
            address: "a.b".into(),
            ..proto::v1::IntendedChange::default()
        }],
        ..proto::v1::GateAsked::default()
    };
    journal.append(Record::GateAsked(asked)).expect("record");
    dir
}

#[tokio::test]
async fn what_cannot_be_collected_is_tried_again_and_its_lease_kept() {
    let bench = bench(1).await;
    let dir = left_behind_the_gate(&bench);
    // Cannot be read, as on a disk that fails.
    std::fs::create_dir(dir.exits()).expect("in the way");
    collect::start(&bench.context);
    // The lease is kept: nobody else may have the job.
    until("an update of a try", || {
        let updates = bench.script.updates.lock().expect("updates");
        let begun = Journal::read(&dir.journal()).expect("journal").counter;
        updates
            .iter()
            .any(|update| update.counter > begun && begun > 0)
    })
    .await;
    assert_eq!(bench.script.finishes.lock().expect("finishes").len(), 0);
    std::fs::remove_dir(dir.exits()).expect("out of the way");
    until("the finish", || leftovers(&bench) == 0).await;
    let finishes = bench.script.finishes.lock().expect("finishes");
    let error = finishes[0].error.as_ref().expect("an error");
    assert_eq!(error.code, "DAEMON_RESTARTED");
}

#[tokio::test]
async fn an_apply_that_cannot_be_read_names_what_was_announced_and_keeps_its_files() {
    let bench = bench(1).await;
    let dir = left_behind_the_gate(&bench);
    let started = proto::v1::ProcessStarted {
        number: 3,
        process: proto::v1::Process::Apply.into(),
        pid: 0,
    };
    let record = proto::v1::ExitRecord {
        record: Some(proto::v1::exit_record::Record::Started(started)),
        time_ms: 1,
    };
    let mut bytes = Vec::new();
    proto::frame::encode(&record, &mut bytes);
    std::fs::write(dir.exits(), bytes).expect("exits");
    // The scripted daemon can start no collector.
    collect::start(&bench.context);
    until("the finish", || leftovers(&bench) == 0).await;
    let finishes = bench.script.finishes.lock().expect("finishes");
    let unconfirmed = &finishes[0].unconfirmed;
    let addresses: Vec<&str> = unconfirmed.iter().map(|it| it.address.as_str()).collect();
    assert_eq!(addresses, ["a.b"]);
    let hint = &finishes[0].error.as_ref().expect("an error").hint;
    assert!(hint.contains("/retained/"), "{hint}");
}

#[tokio::test]
async fn a_journal_whose_first_record_is_damaged_is_kept_for_a_person() {
    let bench = bench(1).await;
    let job = scripted::job();
    let dir = bench.context.data.create_job(&job.id).expect("dir");
    std::fs::write(dir.journal(), b"\x05noise and no record").expect("journal");
    std::fs::write(dir.keep().join("checkpoint-1.tfstate"), b"{}").expect("state");
    let never_begun = bench
        .context
        .data
        .create_job(&scripted::job().id)
        .expect("dir");
    std::fs::write(never_begun.journal(), b"").expect("journal");
    collect::start(&bench.context);
    until("both are seen to", || leftovers(&bench) == 0).await;
    let data = bench.dir.path().canonicalize().expect("path");
    let kept = std::fs::read_dir(data.join("retained")).expect("retained");
    let kept: Vec<_> = kept.map(|entry| entry.expect("entry").path()).collect();
    let [kept] = kept.as_slice() else {
        panic!("{kept:?}");
    };
    assert!(kept.join("keep/checkpoint-1.tfstate").exists());
}

#[tokio::test]
async fn a_job_without_a_gate_goes_back_after_a_restart() {
    let bench = bench(1).await;
    let job = scripted::job();
    let dir = bench.context.data.create_job(&job.id).expect("dir");
    let journal = Journal::create(&dir.journal()).expect("journal");
    journal.append(Record::Job(job)).expect("record");
    drop(journal);
    collect::start(&bench.context);
    until("the release", || leftovers(&bench) == 0).await;
    let finishes = bench.script.finishes.lock().expect("finishes");
    assert_eq!(finishes[0].outcome(), Outcome::Released);
    assert_eq!(finishes[0].release_reason(), ReleaseReason::DaemonRestarted);
}

fn lines(count: u64) -> Vec<LogLine> {
    (1..=count)
        .map(|seq| LogLine {
            seq,
            text: "x".repeat(1_500),
            ..LogLine::default()
        })
        .collect()
}

#[test]
fn each_part_of_many_lines_keeps_to_the_limits() {
    let mut lines = lines(4_500);
    while let Some(part) = excess(&mut lines) {
        let bytes: usize = part.iter().map(|line| line.text.len()).sum();
        assert!(part.len() <= limits::UPDATE_LINES && bytes <= limits::UPDATE_BYTES);
    }
    assert!(excess(&mut vec![LogLine::default(); 10]).is_none());
}
