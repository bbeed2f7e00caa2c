//! Who ends when whom: the tables of deadlines, deaths and graces.

use std::fs;
use std::time::Duration;

use proto::v1::exit_record::Record;
use proto::v1::from_supervisor::Message as FromSupervisorMessage;
use proto::v1::to_worker_from_supervisor::Message as ToWorkerMessage;
use proto::v1::{Configure, InterruptReason, Process, ProcessExited};
use worker::launch::{self, Ending, Namespace};

use super::rig::{PATIENCE, Rig, lives, pid_in, request, until};
use crate::skip::skip;

const LONG: Duration = Duration::from_secs(600);

/// Counts SIGINTs in `work/ints`, survives them, and says when it listens.
const STUBBORN: &str = "trap 'echo int >> ints' INT; echo $$ > pid; \
                        while :; do sleep 0.02; done";

/// Ends at the first SIGINT as engines do: exit code 1 after the state is written.
const OBEDIENT: &str = "trap 'echo saved > state; exit 1' INT; echo $$ > pid; \
                        while :; do sleep 0.02; done";

/// Leaves a process in a session of its own.
const LEAVES: &str = "setsid sh -c 'echo $$ > stray; exec sleep 600' & \
                      while [ ! -s stray ]; do sleep 0.01; done;";

/// Leaves a process without a parent of the job, in a session of its own.
const FORKS_TWICE: &str = "(setsid sh -c '(setsid sh -c \"echo \\$\\$ > twice; exec sleep 600\" &)' &); \
                           while [ ! -s twice ]; do sleep 0.01; done;";

const BOTH: [Namespace; 2] = [Namespace::Best, Namespace::Shared];

/// Whether this user may make pid namespaces here.
fn namespaces() -> bool {
    let own = launch::own_namespace();
    own.inspect_err(|why| skip("pid namespaces", why)).is_ok()
}

/// With the whole grace for engines that obey.
fn quick(configure: &mut Configure) {
    let timings = configure.timings.as_mut().expect("timings");
    timings.lease_kill_ms = 200;
    timings.heartbeat_ms = 20;
}

fn applying(script: &str) -> Rig {
    applying_in(script, Namespace::Best)
}

fn applying_in(script: &str, namespace: Namespace) -> Rig {
    applying_with(script, namespace, quick)
}

fn applying_with(script: &str, namespace: Namespace, change: impl FnOnce(&mut Configure)) -> Rig {
    let mut rig = Rig::with_in(script, namespace, change);
    rig.open_gate(LONG);
    rig.start(request(next(), Process::Apply));
    pid_in(&rig, "pid");
    rig
}

/// Numbers above all that were used.
fn next() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn recorded_exit(rig: &Rig) -> ProcessExited {
    let records = launch::read_exits(&rig.dir.exits()).expect("exits");
    let exits = records
        .into_iter()
        .filter_map(|record| match record.record {
            Some(Record::Exited(exited)) => Some(exited),
            _ => None,
        });
    exits.fold(None, |_, exited| Some(exited)).expect("an exit")
}

fn kill(pid: i32, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).expect("kill");
}

#[test]
fn an_engine_gets_one_sigint_and_after_the_grace_it_is_killed() {
    let mut rig = applying(STUBBORN);
    rig.interrupt(InterruptReason::Cancel, LONG);
    let ints = rig.dir.work().join("ints");
    until("the signal", || {
        (fs::read_to_string(&ints).ok()? == "int\n").then_some(())
    });
    rig.interrupt(InterruptReason::Cancel, LONG);
    rig.interrupt(InterruptReason::Force, Duration::from_millis(200));
    let exited = rig.exited();
    assert_eq!(exited.signal, Some(9));
    assert_eq!(exited.interrupted(), InterruptReason::Cancel);
    assert_eq!(fs::read_to_string(&ints).expect("ints"), "int\n");
    assert_eq!(
        rig.puppet("sandbox").split(' ').next(),
        Some("ok"),
        "the worker stays"
    );
}

#[test]
fn nothing_starts_after_an_interrupt() {
    let mut rig = Rig::new("true");
    rig.interrupt(InterruptReason::Cancel, LONG);
    let interrupted = rig.hear();
    assert!(matches!(interrupted, ToWorkerMessage::Interrupted(_)));
    assert_eq!(rig.refused(request(1, Process::Init)).0, "interrupted");
}

#[test]
fn an_engine_that_answers_the_signal_keeps_its_exit_code() {
    let mut rig = applying(OBEDIENT);
    rig.interrupt(InterruptReason::Cancel, LONG);
    let exited = rig.exited();
    assert_eq!(exited.code, Some(1));
    assert_eq!(exited.interrupted(), InterruptReason::Cancel);
    assert_eq!(recorded_exit(&rig), exited);
}

#[test]
fn what_an_engine_leaves_behind_is_gone_before_its_exit_is_told() {
    for namespace in BOTH {
        let mut rig = Rig::with_in(&format!("{LEAVES} exit 3"), namespace, |_| {});
        rig.start(request(1, Process::Init));
        assert_eq!(rig.exited().code, Some(3));
        assert!(!lives(pid_in(&rig, "stray")));
        assert_eq!(
            rig.puppet("sandbox").split(' ').next(),
            Some("ok"),
            "the worker stays"
        );
    }
}

#[test]
fn a_kill_reaches_what_left_the_engines_session() {
    let mut rig = applying(&format!("{LEAVES} {STUBBORN}"));
    let stray = pid_in(&rig, "stray");
    assert!(lives(stray));
    rig.interrupt(InterruptReason::Force, Duration::from_millis(50));
    assert_eq!(rig.exited().signal, Some(9));
    assert!(!lives(stray));
}

#[test]
fn before_the_gate_a_lost_daemon_ends_everything_at_once() {
    for namespace in BOTH {
        let mut rig = Rig::with_in(&format!("{LEAVES} {STUBBORN}"), namespace, |_| {});
        let engine = rig.start(request(1, Process::Plan));
        pid_in(&rig, "pid");
        let (stray, worker) = (pid_in(&rig, "stray"), rig.worker_pid());
        rig.supervisor = None;
        assert_eq!(rig.ended(), Ending::Exited(0));
        for pid in [engine, stray, worker] {
            assert!(!lives(pid));
        }
        assert!(!rig.dir.work().join("ints").exists(), "no signal to answer");
    }
}

#[test]
fn after_the_gate_a_lost_daemon_interrupts_and_the_exit_is_on_record() {
    for namespace in BOTH {
        let mut rig = applying_in(OBEDIENT, namespace);
        let worker = rig.worker_pid();
        rig.supervisor = None;
        rig.worker = None;
        assert_eq!(rig.ended(), Ending::Exited(0));
        let exited = recorded_exit(&rig);
        assert_eq!(exited.code, Some(1));
        assert_eq!(exited.interrupted(), InterruptReason::DaemonLost);
        assert!(rig.dir.work().join("state").exists());
        assert!(!lives(worker));
    }
}

#[test]
fn after_the_gate_a_lost_daemon_does_not_leave_a_stubborn_engine() {
    let mut rig = applying_with(STUBBORN, Namespace::Best, |configure| {
        let timings = configure.timings.as_mut().expect("timings");
        timings.lost_grace_ms = 400;
    });
    rig.supervisor = None;
    assert_eq!(rig.ended(), Ending::Exited(0));
    assert_eq!(recorded_exit(&rig).signal, Some(9));
}

#[test]
fn before_the_gate_a_lost_worker_ends_everything() {
    let mut rig = Rig::new(STUBBORN);
    let engine = rig.start(request(1, Process::Plan));
    kill(rig.worker_pid(), nix::sys::signal::SIGKILL);
    let messages = rig.drain();
    let worker = messages.iter().find_map(|message| match message {
        FromSupervisorMessage::WorkerExited(exited) => Some(exited.signal),
        _ => None,
    });
    assert_eq!(worker, Some(Some(9)), "{messages:?}");
    assert!(matches!(
        messages.last(),
        Some(FromSupervisorMessage::Ended(_))
    ));
    assert!(!lives(engine));
}

#[test]
fn after_the_gate_a_lost_worker_interrupts_the_engine() {
    let mut rig = applying(OBEDIENT);
    kill(rig.worker_pid(), nix::sys::signal::SIGKILL);
    let exited = rig.exited();
    assert_eq!(exited.code, Some(1));
    assert_eq!(exited.interrupted(), InterruptReason::WorkerLost);
    rig.drain();
}

#[test]
fn a_hanging_worker_is_killed_on_the_daemons_word() {
    let mut rig = applying(OBEDIENT);
    let worker = rig.worker_pid();
    kill(worker, nix::sys::signal::SIGSTOP);
    rig.interrupt(InterruptReason::WorkerLost, Duration::ZERO);
    assert_eq!(rig.exited().code, Some(1));
    rig.drain();
    assert!(!lives(worker));
}

#[test]
fn a_worker_that_closes_its_link_is_killed() {
    let mut rig = Rig::new("true");
    assert_eq!(rig.puppet("close"), "ok ");
    rig.drain();
}

#[test]
fn a_worker_that_ends_by_itself_ends_the_job() {
    let mut rig = Rig::new("true");
    rig.tell_puppet("exit 7");
    let messages = rig.drain();
    assert!(
        matches!(
            messages.as_slice(),
            [FromSupervisorMessage::WorkerExited(exited), FromSupervisorMessage::Ended(_)]
                if exited.code == Some(7)
        ),
        "{messages:?}"
    );
}

#[test]
fn without_a_namespace_a_killed_supervisor_takes_engine_and_worker_and_a_sweep_the_rest() {
    let mut rig = applying_in(&format!("{LEAVES} {STUBBORN}"), Namespace::Shared);
    let (engine, stray) = (pid_in(&rig, "pid"), pid_in(&rig, "stray"));
    let worker = rig.worker_pid();
    rig.process.kill();
    assert_eq!(rig.ended(), Ending::Killed(9));
    until("engine and worker die", || {
        (!lives(engine) && !lives(worker)).then_some(())
    });
    launch::sweep(&rig.dir, PATIENCE).expect("sweep");
    assert!(!lives(stray));
    rig.supervisor = None;
}

#[test]
fn with_a_namespace_nothing_outlives_a_killed_supervisor_also_unswept() {
    if !namespaces() {
        return;
    }
    let mut rig = applying(&format!("{FORKS_TWICE} {LEAVES} {STUBBORN}"));
    let [engine, stray, twice] = ["pid", "stray", "twice"].map(|file| pid_in(&rig, file));
    let worker = rig.worker_pid();
    for pid in [engine, stray, twice, worker] {
        assert!(lives(pid));
    }
    rig.process.kill();
    assert_eq!(rig.ended(), Ending::Killed(9));
    // No cgroup was written to and nobody was swept.
    for pid in [engine, stray, twice, worker] {
        assert!(!lives(pid));
    }
    rig.supervisor = None;
}

#[test]
fn what_forks_twice_is_waited_for_by_the_init_of_its_namespace() {
    if !namespaces() {
        return;
    }
    let mut rig = Rig::new(&format!("{FORKS_TWICE} {OBEDIENT}"));
    rig.start(request(next(), Process::Plan));
    let twice = pid_in(&rig, "twice");
    // Those it was forked by may still be about to end.
    until("it is the supervisor's child, not the daemon's", || {
        let stat = fs::read_to_string(format!("/proc/{twice}/stat")).expect("stat");
        let fields = stat.rsplit(')').next().expect("fields");
        let parent = fields.split_whitespace().nth(1).expect("parent");
        (parent == rig.process.pid().to_string()).then_some(())
    });
    kill(twice, nix::sys::signal::SIGKILL);
    until("no zombie is left", || {
        (!fs::exists(format!("/proc/{twice}")).expect("proc")).then_some(())
    });
}

#[test]
fn a_program_of_the_job_finds_itself_in_proc_and_nobody_of_the_host() {
    if !namespaces() {
        return;
    }
    let mut rig = Rig::new(
        "readlink /proc/self/exe | xargs basename; read pid rest < /proc/self/stat; \
         read of_shell rest < /proc/$$/stat; [ $of_shell = $$ ] && echo own; \
         for dir in /proc/[0-9]*; do echo ${dir#/proc/}; done | wc -l",
    );
    rig.start(request(1, Process::Init));
    rig.exited();
    let text = rig.stdout(1, Process::Init);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..2], ["readlink", "own"], "{text}");
    let seen: u32 = lines[2].trim().parse().expect("a count");
    assert!(seen < 10, "supervisor, worker, shells: {text}");
}

#[test]
fn no_program_of_the_job_ends_or_stops_the_init_of_its_namespace() {
    if !namespaces() {
        return;
    }
    let mut rig = Rig::with("kill -9 1; kill -STOP 1; kill -TERM 1; true", |configure| {
        // Landlock would refuse it before the kernel's own rule is asked.
        configure.sandbox = "none".to_owned();
    });
    rig.start(request(1, Process::Init));
    assert_eq!(rig.exited().code, Some(0));
    rig.hear();
    rig.start(request(2, Process::Init));
    assert_eq!(rig.exited().code, Some(0), "it still turns");
}

#[test]
fn records_call_processes_as_the_host_does() {
    let mut rig = Rig::new(STUBBORN);
    let engine = rig.start(request(1, Process::Plan));
    assert_eq!(engine, pid_in(&rig, "pid"));
    assert!(lives(engine));
}

#[test]
fn a_deadline_that_passes_interrupts_and_leaves_the_worker_alone() {
    let mut rig = applying(OBEDIENT);
    // Later counts, earlier does not.
    rig.deadline(Duration::from_millis(1));
    rig.interrupt(InterruptReason::Unspecified, LONG);
    let exited = rig.exited();
    assert_eq!(
        exited.interrupted(),
        InterruptReason::Unspecified,
        "no lease ended"
    );

    let mut rig = Rig::with(OBEDIENT, quick);
    rig.start(request(1, Process::Plan));
    rig.open_gate(Duration::from_millis(300));
    let exited = rig.exited();
    assert_eq!(exited.interrupted(), InterruptReason::Lease);
    assert_eq!(rig.puppet("sandbox").split(' ').next(), Some("ok"));
}

#[test]
fn before_the_gate_a_deadline_is_nothing() {
    let mut rig = Rig::with("true", quick);
    rig.deadline(Duration::ZERO);
    rig.start(request(1, Process::Plan));
    assert_eq!(rig.exited().interrupted(), InterruptReason::Unspecified);
}

#[test]
fn signals_of_terminals_and_init_systems_do_not_end_a_supervisor() {
    let mut rig = Rig::new("true");
    for signal in [
        nix::sys::signal::SIGTERM,
        nix::sys::signal::SIGINT,
        nix::sys::signal::SIGHUP,
    ] {
        kill(rig.process.pid(), signal);
    }
    rig.start(request(1, Process::Version));
    assert_eq!(rig.exited().code, Some(0));
}

#[test]
fn a_supervisor_says_that_it_turns() {
    let mut rig = Rig::launch("true");
    let mut configure = super::rig::configure(&rig.engine);
    quick(&mut configure);
    rig.send(proto::v1::to_supervisor::Message::Configure(configure));
    for _ in 0..3 {
        rig.heartbeat();
    }
}

#[test]
fn whatever_a_worker_sends_the_supervisor_ends_in_order() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        // xorshift64*: the same bytes in each run.
        seed ^= seed >> 12;
        seed ^= seed << 25;
        seed ^= seed >> 27;
        seed.wrapping_mul(0x2545_f491_4f6c_dd1d)
    };
    for round in 0..24 {
        let mut rig = Rig::new("true");
        let length = usize::try_from(random() % 200).expect("small") + 12;
        let bytes: Vec<u8> = (0..length)
            .map(|index| match (round % 3, index) {
                // A frame of a start request whose body is noise.
                (0, 0) => u8::try_from(length.min(100)).expect("small"),
                (0, 1) => 0x0a,
                // A varint that never ends.
                (1, _) => 0xff,
                _ => random().to_le_bytes()[0],
            })
            .collect();
        rig.tell_puppet(&format!("tell {}", super::rig::hex(&bytes)));
        rig.tell_puppet("exit 0");
        let messages = rig.drain();
        let started = messages
            .iter()
            .any(|message| matches!(message, FromSupervisorMessage::Started(_)));
        assert!(!started, "round {round}: {messages:?}");
    }
}

#[test]
fn a_daemon_that_starts_waits_for_an_old_supervisor_and_then_kills_it() {
    let mut rig = applying(STUBBORN);
    let engine = pid_in(&rig, "pid");
    launch::outlive_supervisor(&rig.dir, Duration::from_millis(50)).expect("gone");
    assert_eq!(rig.ended(), Ending::Killed(9));
    until("the engine dies", || (!lives(engine)).then_some(()));
    launch::sweep(&rig.dir, PATIENCE).expect("sweep");
    launch::outlive_supervisor(&rig.dir, Duration::ZERO).expect("nothing to outlive");
    rig.supervisor = None;
}

#[test]
fn the_control_group_goes_with_its_supervisor() {
    let mut rig = Rig::new("true");
    let pid = rig.process.pid();
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("cgroup");
    let Some(group) = groups
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .and_then(|path| path.strip_suffix("/supervisor"))
    else {
        return skip("control groups", "this user may make no cgroup here");
    };
    let of_worker = fs::read_to_string(format!("/proc/{}/cgroup", rig.worker_pid()));
    let of_worker = of_worker.expect("cgroup");
    assert!(
        of_worker.contains(&format!("0::{group}/worker\n")),
        "{of_worker}"
    );
    let lock = fs::read_to_string(rig.dir.supervisor_lock()).expect("identity");
    let path = lock.lines().nth(4).expect("cgroup").to_owned();
    assert!(path.ends_with(group), "{path}");
    assert!(fs::exists(&path).expect("group"));
    rig.send(proto::v1::to_supervisor::Message::End(proto::v1::End {}));
    rig.drain();
    assert!(!fs::exists(&path).expect("group"), "left behind");
}

#[test]
fn a_sweep_leaves_living_supervisors_of_other_jobs_alone() {
    let mut living = Rig::new("true");
    let mut dead = Rig::new("true");
    dead.process.kill();
    dead.ended();
    launch::sweep(&dead.dir, PATIENCE).expect("sweep");
    living.start(request(1, Process::Version));
    assert_eq!(living.exited().code, Some(0));
    dead.supervisor = None;
}
