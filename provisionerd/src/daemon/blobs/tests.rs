use std::path::Path;

use proto::ids::Digest;
use rustix::fs::Mode;

use super::*;
use crate::daemon::scripted::{bench, job};

fn blob(size: u64) -> BlobRef {
    BlobRef {
        sha256: vec![0; 32],
        size,
    }
}

#[test]
fn only_a_regular_file_of_the_announced_size_below_keep_is_opened() {
    let jobs = tempfile::tempdir().expect("dir");
    let dir = JobDir::create(jobs.path(), "a").expect("job");
    std::fs::write(dir.keep().join("good"), "12345").expect("write");
    std::fs::write(dir.journal(), "12345").expect("write");
    std::os::unix::fs::symlink(dir.journal(), dir.keep().join("link")).expect("link");
    std::fs::create_dir(dir.keep().join("dir")).expect("dir");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        dir.keep().join("fifo"),
        rustix::fs::FileType::Fifo,
        Mode::RWXU,
        0,
    )
    .expect("fifo");
    assert!(open_kept(&dir, "good", &blob(5)).is_ok());
    assert!(open_kept(&dir, "keep/good", &blob(5)).is_ok());
    assert!(open_kept(&dir, "good", &blob(6)).is_err(), "another size");
    for name in [
        "link",
        "dir",
        "fifo",
        "../journal",
        "missing",
        "",
        "/etc/hosts",
    ] {
        assert!(open_kept(&dir, name, &blob(5)).is_err(), "{name}");
    }
}

#[test]
fn chunks_are_cut_at_the_limit_whatever_the_reads_are() {
    let data = vec![7; limits::BLOB_CHUNK * 2 + 3];
    let mut sizes = Vec::new();
    read_chunks(&mut data.as_slice(), |chunk| {
        sizes.push(chunk.len());
        true
    })
    .expect("read");
    assert_eq!(sizes, [limits::BLOB_CHUNK, limits::BLOB_CHUNK, 3]);
}

#[tokio::test]
async fn a_broken_transfer_goes_on_where_it_stopped() {
    let bench = bench(1).await;
    let content: Vec<u8> = (0..=255).cycle().take(1_000).collect();
    *bench.script.blob.lock().expect("blob") = (content.clone(), 400);
    let target = bench.dir.path().join("archive");
    let blob = BlobRef {
        sha256: Digest::of(&content).as_bytes().to_vec(),
        size: 1_000,
    };
    let mut fetch = Fetch::begin(&blob, &target).await.expect("begin");
    let lease = Lease::of(&job());
    for broken in 0..2 {
        let error = fetch
            .go_on(&bench.context.bulk, &lease, Transport::Streams)
            .await
            .expect_err("cut");
        assert_eq!(error.retry(), Retry::Later, "break {broken}");
        assert!(!target.exists());
    }
    fetch
        .go_on(&bench.context.bulk, &lease, Transport::Streams)
        .await
        .expect("whole");
    assert_eq!(std::fs::read(&target).expect("read"), content);
    assert_eq!(
        *bench.script.offsets.lock().expect("offsets"),
        [0, 400, 800]
    );
}

#[tokio::test]
async fn a_transfer_that_streams_broke_is_ended_by_parts() {
    let bench = bench(1).await;
    let content: Vec<u8> = (0..=255).cycle().take(1_000).collect();
    *bench.script.blob.lock().expect("blob") = (content.clone(), 400);
    let target = bench.dir.path().join("archive");
    let blob = BlobRef {
        sha256: Digest::of(&content).as_bytes().to_vec(),
        size: 1_000,
    };
    let mut fetch = Fetch::begin(&blob, &target).await.expect("begin");
    let (client, lease) = (&bench.context.bulk, Lease::of(&job()));
    let cut = fetch.go_on(client, &lease, Transport::Streams).await;
    assert_eq!(cut.expect_err("cut").retry(), Retry::Later);
    fetch
        .go_on(client, &lease, Transport::Unary)
        .await
        .expect("whole");
    assert_eq!(std::fs::read(&target).expect("read"), content);
    let offsets = bench.script.offsets.lock().expect("offsets").clone();
    assert_eq!(offsets, [0, 400, 800]);
}

/// A file of several parts that is kept, and how it is told.
fn several_parts(dir: &JobDir) -> (LocalCheckpoint, Vec<u8>) {
    let state: Vec<u8> = (0..2 * limits::BLOB_PART + 9)
        .map(|n| (n / 3 % 251) as u8)
        .collect();
    std::fs::write(dir.keep().join("state"), &state).expect("state");
    let checkpoint = proto::v1::Checkpoint {
        blob: Some(BlobRef {
            sha256: Digest::of(&state).as_bytes().to_vec(),
            size: state.len() as u64,
        }),
        ..proto::v1::Checkpoint::default()
    };
    let kept = LocalCheckpoint {
        file: "state".into(),
        checkpoint: Some(checkpoint),
    };
    (kept, state)
}

#[tokio::test]
async fn a_state_is_put_in_parts_from_where_the_queue_has_it() {
    let part = limits::BLOB_PART as u64;
    for (there, asked) in [
        (0, vec![0, 0, part, 2 * part]),
        (limits::BLOB_PART + 1, vec![0, part + 1, 2 * part + 1]),
    ] {
        let bench = bench(1).await;
        let job = job();
        let dir = bench.context.data.create_job(&job.id).expect("dir");
        let (kept, state) = several_parts(&dir);
        *bench.script.parts.lock().expect("parts") = state[..there].to_vec();
        let how = How {
            encoding: Encoding::Zstd,
            transport: Transport::Unary,
        };
        ship(&bench.context.bulk, &Lease::of(&job), &dir, (&kept, how))
            .await
            .expect("shipped");
        let puts = bench.script.puts.lock().expect("puts").clone();
        assert!(puts == [state], "it arrived whole");
        let offsets = bench.script.offsets.lock().expect("offsets").clone();
        assert_eq!(offsets, asked);
    }
}

#[tokio::test]
async fn parts_that_a_power_cut_tore_at_the_queue_are_sent_again() {
    let bench = bench(1).await;
    let job = job();
    let dir = bench.context.data.create_job(&job.id).expect("dir");
    let (kept, state) = several_parts(&dir);
    *bench.script.parts.lock().expect("parts") = vec![0; limits::BLOB_PART];
    let how = How {
        encoding: Encoding::Plain,
        transport: Transport::Unary,
    };
    ship(&bench.context.bulk, &Lease::of(&job), &dir, (&kept, how))
        .await
        .expect("shipped");
    assert!(*bench.script.puts.lock().expect("puts") == [state]);
}

#[tokio::test]
async fn what_arrives_damaged_never_gets_its_name() {
    let bench = bench(1).await;
    *bench.script.blob.lock().expect("blob") = (vec![1; 100], 100);
    let target = bench.dir.path().join("archive");
    let mut fetch = Fetch::begin(&blob(100), &target).await.expect("begin");
    let lease = Lease::of(&job());
    let fetching = fetch.go_on(&bench.context.bulk, &lease, Transport::Streams);
    let error = fetching.await;
    assert!(matches!(error, Err(Error::Damaged { .. })), "{error:?}");
    assert!(!target.exists());
}

#[tokio::test]
async fn a_blob_over_the_limit_is_refused_before_a_byte_of_it() {
    let refused = Fetch::begin(&blob(limits::BLOB + 1), Path::new("/nowhere")).await;
    assert!(matches!(refused, Err(Error::TooLarge { .. })));
}

/// A state as engines write it: many resources that differ in their ids.
fn large_state(resources: u32) -> Vec<u8> {
    let instance = |n: u32| {
        let id = Digest::of(&n.to_le_bytes());
        format!(
            r#"    {{
      "mode": "managed", "type": "terraform_data", "name": "r{n}",
      "provider": "provider[\"terraform.io/builtin/terraform\"]",
      "instances": [{{"schema_version": 0, "attributes": {{"id": "{id}", "input": null}}}}]
    }}"#
        )
    };
    let all: Vec<String> = (0..resources).map(instance).collect();
    format!(r#"{{"version": 4, "resources": [{}]}}"#, all.join(",\n")).into_bytes()
}

#[tokio::test]
async fn a_state_travels_packed_only_to_a_queue_that_says_that_it_unpacks() {
    use std::sync::atomic::Ordering::SeqCst;
    let state = large_state(4_000);
    let checkpoint = proto::v1::Checkpoint {
        blob: Some(BlobRef {
            sha256: Digest::of(&state).as_bytes().to_vec(),
            size: state.len() as u64,
        }),
        ..proto::v1::Checkpoint::default()
    };
    let kept = LocalCheckpoint {
        file: "state".into(),
        checkpoint: Some(checkpoint),
    };
    let chunks = u32::try_from(state.len().div_ceil(limits::BLOB_CHUNK)).expect("few");
    for (encodings, understands, packed) in [
        (None, true, 0),
        (Some("gzip"), true, 0),
        (Some("gzip, zstd"), true, chunks),
        // Another replica, which is older than the one that spoke.
        (Some("zstd"), false, 0),
    ] {
        let bench = bench(1).await;
        bench.script.old.store(!understands, SeqCst);
        let mut metadata = tonic::metadata::MetadataMap::new();
        if let Some(known) = encodings {
            metadata.insert("x-blob-encodings", known.parse().expect("metadata"));
        }
        bench.context.hear(&metadata);
        let job = job();
        let dir = bench.context.data.create_job(&job.id).expect("dir");
        std::fs::write(dir.keep().join("state"), &state).expect("state");
        let lease = Lease::of(&job);
        let how = (&kept, bench.context.how());
        ship(&bench.context.bulk, &lease, &dir, how)
            .await
            .expect("shipped");
        assert_eq!(
            *bench.script.puts.lock().expect("puts"),
            std::slice::from_ref(&state)
        );
        assert_eq!(bench.script.packed.load(SeqCst), packed, "{encodings:?}");
    }
}

#[test]
fn a_packed_chunk_is_small_and_one_that_does_not_shrink_goes_as_it_is() {
    let state = large_state(4_000);
    let mut packer = Encoding::Zstd.packer().expect("packer");
    let mut on_the_wire = 0;
    read_chunks(&mut state.as_slice(), |chunk| {
        match packed(packer.as_mut(), chunk) {
            Message::Zstd(frame) => on_the_wire += frame.len(),
            other => panic!("not packed: {other:?}"),
        }
        true
    })
    .expect("read");
    eprintln!(
        "measured: a state of {} bytes is {on_the_wire} packed",
        state.len()
    );
    assert!(on_the_wire * 3 < state.len());
    let noise: Vec<u8> = (0..1_000_u32)
        .flat_map(|n| *Digest::of(&n.to_le_bytes()).as_bytes())
        .collect();
    assert_eq!(
        packed(packer.as_mut(), noise.clone()),
        Message::Data(noise.into())
    );
}
