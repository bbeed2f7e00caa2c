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
            .go_on(&bench.context.bulk, &lease)
            .await
            .expect_err("cut");
        assert_eq!(error.retry(), Retry::Later, "break {broken}");
        assert!(!target.exists());
    }
    fetch
        .go_on(&bench.context.bulk, &lease)
        .await
        .expect("whole");
    assert_eq!(std::fs::read(&target).expect("read"), content);
    assert_eq!(
        *bench.script.offsets.lock().expect("offsets"),
        [0, 400, 800]
    );
}

#[tokio::test]
async fn what_arrives_damaged_never_gets_its_name() {
    let bench = bench(1).await;
    *bench.script.blob.lock().expect("blob") = (vec![1; 100], 100);
    let target = bench.dir.path().join("archive");
    let mut fetch = Fetch::begin(&blob(100), &target).await.expect("begin");
    let error = fetch.go_on(&bench.context.bulk, &Lease::of(&job())).await;
    assert!(matches!(error, Err(Error::Damaged { .. })), "{error:?}");
    assert!(!target.exists());
}

#[tokio::test]
async fn a_blob_over_the_limit_is_refused_before_a_byte_of_it() {
    let refused = Fetch::begin(&blob(limits::BLOB + 1), Path::new("/nowhere")).await;
    assert!(matches!(refused, Err(Error::TooLarge { .. })));
}
