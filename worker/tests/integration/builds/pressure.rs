//! Memory and disk that run short while a real engine changes the world.

use std::fs;
use std::path::Path;

use proto::limits::STATE_RESERVE;
use proto::v1::{ErrorClass, Outcome, Transition};

use super::rig::{Done, Plan, Rig};
use crate::skip::skip;

/// One resource that is made at once, and one whose maker waits for the test's word.
fn template(script: &str) -> String {
    format!(
        r#"
resource "terraform_data" "kept" {{
  input = "worth keeping"
}}

resource "terraform_data" "greedy" {{
  depends_on = [terraform_data.kept]
  provisioner "local-exec" {{
    command = "while [ ! -e go ]; do sleep 0.05; done; {script}"
  }}
}}
"#
    )
}

/// Begins, lets the maker go once the first resource is in a checkpoint, and takes the end.
async fn run(plan: Plan, when: impl FnOnce(&Rig)) -> Done {
    let mut rig = Rig::begin(plan).await;
    let early = rig.until(|seen| !seen.checkpoints.is_empty()).await;
    assert!(early.is_none(), "{early:?}");
    when(&rig);
    fs::write(rig.dir.work().join("go"), "").expect("go");
    rig.finish().await
}

fn assert_kept(done: &Done) {
    let resources = done.state()["resources"].clone();
    let names: Vec<&str> = resources
        .as_array()
        .expect("resources")
        .iter()
        .filter_map(|resource| resource["name"].as_str())
        .collect();
    assert!(names.contains(&"kept"), "{names:?}\n{}", done.seen.text());
}

#[tokio::test]
async fn an_engine_whose_child_eats_memory_is_interrupted_and_its_state_kept() {
    let eats = "x=$(head -c 500000000 /dev/zero | tr '\\\\0' x); sleep 600";
    let mut plan = Plan::build(Transition::Start, &template(eats));
    plan.memory_limit = 400_000_000;
    let done = run(plan, |_| ()).await;
    assert_eq!(done.outcome.outcome(), Outcome::Failed);
    assert_eq!(done.code(), "MEMORY_PRESSURE", "{}", done.message());
    assert!(
        done.message().contains("limit of 381 MiB"),
        "{}",
        done.message()
    );
    assert_eq!(
        done.outcome.error.as_ref().expect("error").class(),
        ErrorClass::Capacity
    );
    assert_kept(&done);
}

#[tokio::test]
async fn an_engine_on_a_disk_that_fills_up_is_interrupted_and_its_state_kept() {
    let Some(disk) = Tmpfs::mount("64m") else {
        return skip("disk pressure", "this user may not mount");
    };
    let fills = "cat /dev/zero > fill; exec sleep 600";
    let mut plan = Plan::build(Transition::Start, &template(fills));
    plan.place = Some(disk.path().to_owned());
    let done = run(plan, |rig| {
        // As the daemon does before it opens the gate.
        let reserve = fs::File::create(rig.dir.reserve()).expect("reserve");
        let flags = rustix::fs::FallocateFlags::empty();
        rustix::fs::fallocate(&reserve, flags, 0, STATE_RESERVE).expect("space");
    })
    .await;
    assert_eq!(done.outcome.outcome(), Outcome::Failed);
    assert_eq!(done.code(), "DISK_PRESSURE", "{}", done.message());
    assert!(
        done.message().contains("limit of 16 MiB"),
        "{}",
        done.message()
    );
    assert!(!disk.path().join("build/reserve").exists(), "given back");
    assert_kept(&done);
}

/// A small disk, gone with the test.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn mount(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().expect("dir");
        let options = format!("size={size},mode=0700");
        let mounted = nix::mount::mount(
            Some("tmpfs"),
            dir.path(),
            Some("tmpfs"),
            nix::mount::MsFlags::empty(),
            Some(options.as_str()),
        );
        mounted.is_ok().then(|| Self(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(self.path(), nix::mount::MntFlags::MNT_DETACH);
    }
}
