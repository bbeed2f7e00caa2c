//! Memory that runs short, and who goes first when the kernel has to choose.

use std::fs;
use std::time::Duration;

use proto::v1::from_supervisor::Message as FromSupervisorMessage;
use proto::v1::{Configure, InterruptReason, Process};

use super::rig::{Rig, request};

/// Counts SIGINTs and survives them, beside a child that holds 60 MB.
const GREEDY: &str = "trap 'echo int >> ints' INT; \
                      { x=$(head -c 60000000 /dev/zero | tr '\\0' x); sleep 600; } & \
                      while :; do sleep 0.02; done";

fn limited(configure: &mut Configure, bytes: u64) {
    configure.memory_limit_bytes = bytes;
    let timings = configure.timings.as_mut().expect("timings");
    timings.pressure_ms = 20;
    // Time for a shell to count its signal.
    timings.pressure_grace_ms = 3_000;
}

#[test]
fn over_its_memory_limit_an_engine_gets_one_sigint_and_after_the_grace_it_is_killed() {
    let mut rig = Rig::with(GREEDY, |configure| limited(configure, 30_000_000));
    fs::write(rig.dir.reserve(), "held").expect("reserve");
    rig.open_gate(Duration::from_secs(600));
    rig.start(request(1, Process::Apply));
    let interrupted = rig.expect("interrupt", |message| match message {
        FromSupervisorMessage::Interrupted(interrupted) => Some(interrupted),
        _ => None,
    });
    assert_eq!(interrupted.reason(), InterruptReason::Memory);
    assert_eq!(interrupted.limit_bytes, 30_000_000);
    assert!(interrupted.found_bytes > 30_000_000);
    let exited = rig.exited();
    assert_eq!(exited.signal, Some(9));
    assert_eq!(exited.interrupted(), InterruptReason::Memory);
    let ints = fs::read_to_string(rig.dir.work().join("ints")).expect("ints");
    assert_eq!(ints, "int\n");
    assert!(rig.dir.reserve().exists(), "disk was not short");
}

#[test]
fn below_its_limit_an_engine_is_left_alone() {
    let script = "x=$(head -c 10000000 /dev/zero | tr '\\0' x); sleep 0.3";
    let mut rig = Rig::with(script, |configure| limited(configure, 200_000_000));
    rig.start(request(1, Process::Plan));
    let exited = rig.exited();
    assert_eq!(
        (exited.code, exited.interrupted()),
        (Some(0), InterruptReason::Unspecified)
    );
}

#[test]
fn when_memory_is_gone_engines_go_first_and_then_workers() {
    let mut rig = Rig::new("cat /proc/self/oom_score_adj");
    rig.start(request(1, Process::Init));
    rig.exited();
    assert_eq!(rig.stdout(1, Process::Init), "500\n");
    let score = |pid: i32| fs::read_to_string(format!("/proc/{pid}/oom_score_adj"));
    assert_eq!(score(rig.worker_pid()).expect("worker"), "200\n");
    let own = score(std::process::id().cast_signed()).expect("own");
    assert_eq!(score(rig.process.pid()).expect("supervisor"), own);
}
