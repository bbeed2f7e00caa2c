//! What may start, with what, and what is refused.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use proto::v1::from_supervisor::Message as FromSupervisorMessage;
use proto::v1::to_supervisor::Message as ToSupervisorMessage;
use proto::v1::to_supervisor_from_worker::Message as WorkersMessage;
use proto::v1::{MoreEnvironment, Process, StartProcess};
use worker::launch;

use super::rig::{Rig, configure, launch_of, lives, pair, request, until};
use crate::builds::Engine;

#[test]
fn a_probe_asks_the_version_and_nothing_else() {
    let mut rig = Rig::launch(r#"echo "$@""#);
    let mut probe = configure(&rig.engine);
    probe.probe = true;
    rig.send(ToSupervisorMessage::Configure(probe));
    let messages = rig.drain();
    assert!(
        matches!(
            messages.as_slice(),
            [
                FromSupervisorMessage::Started(_),
                FromSupervisorMessage::Exited(exited),
                FromSupervisorMessage::Ended(_)
            ] if exited.code == Some(0)
        ),
        "{messages:?}"
    );
    assert_eq!(rig.stdout(0, Process::Version), "version -json\n");
}

#[test]
fn the_whole_environment_is_built_and_the_daemons_word_is_last() {
    let mut rig = Rig::with("env; echo", |configure| {
        configure.engine_env = vec![pair("AWS_PROFILE", "p"), pair("TF_LOG", "of daemon")];
    });
    rig.start(StartProcess {
        env: vec![pair("CODER_A", "a"), pair("TF_LOG", "of worker")],
        ..request(1, Process::Init)
    });
    assert_eq!(rig.exited().code, Some(0));
    let text = rig.stdout(1, Process::Init);
    // What the shell adds by itself.
    let of_shell = |line: &&str| !line.is_empty() && !line.starts_with("PWD=");
    let seen: BTreeSet<&str> = text.lines().filter(of_shell).collect();
    let home = format!("HOME={}", rig.dir.home().display());
    let tmpdir = format!("TMPDIR={}", rig.dir.tmp().display());
    let expected = BTreeSet::from([
        "AWS_PROFILE=p",
        "CODER_A=a",
        home.as_str(),
        "LANG=C.UTF-8",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "TF_LOG=of daemon",
        tmpdir.as_str(),
    ]);
    assert_eq!(
        seen,
        expected,
        "the test itself has {:?}",
        std::env::vars().count()
    );
}

#[test]
fn an_environment_of_several_frames_reaches_the_engine_whole() {
    let mut rig = Rig::new("env | wc -c; env | grep -c ^CODER_");
    let long = |n: usize| pair(&format!("CODER_{n}"), "x".repeat(120_000));
    for n in 0..7 {
        rig.say(WorkersMessage::Environment(MoreEnvironment {
            env: vec![long(n)],
        }));
    }
    rig.start(StartProcess {
        env: vec![long(7)],
        ..request(1, Process::Init)
    });
    assert_eq!(rig.exited().code, Some(0));
    let text = rig.stdout(1, Process::Init);
    let mut counts = text.lines().map(|line| line.trim().parse::<usize>());
    let bytes = counts.next().expect("bytes").expect("a number");
    assert!((960_000..970_000).contains(&bytes), "{text}");
    assert_eq!(counts.next(), Some(Ok(8)));
    // The next one begins anew.
    rig.hear();
    rig.start(request(2, Process::Init));
    rig.exited();
    assert!(rig.stdout(2, Process::Init).ends_with("\n0\n"));
}

#[test]
fn engines_get_the_command_lines_of_the_table_in_the_work_directory() {
    let mut rig = Rig::new(r#"echo "$@"; pwd"#);
    rig.start(StartProcess {
        var_file: "vars.json".to_owned(),
        ..request(1, Process::Plan)
    });
    rig.exited();
    let expected = format!(
        "plan -no-color -input=false -json -out=plan -var-file=vars.json\n{}\n",
        rig.dir.work().display()
    );
    assert_eq!(rig.stdout(1, Process::Plan), expected);
}

#[test]
fn an_apply_waits_for_the_gate() {
    let mut rig = Rig::new("echo applied");
    let (layer, _) = rig.refused(request(1, Process::Apply));
    assert_eq!(layer, "gate");
    rig.open_gate(Duration::from_secs(600));
    // The worker was told, so no request of its own can come too early now.
    rig.start(request(2, Process::Apply));
    assert_eq!(rig.exited().code, Some(0));
    assert!(!rig.dir.stdout(1, Process::Apply).exists(), "nothing began");
}

#[test]
fn requests_that_make_no_sense_are_refused_and_the_job_goes_on() {
    let mut rig = Rig::new("exec sleep 600");
    let leaves = StartProcess {
        plan_file: "../keep/state".to_owned(),
        ..request(1, Process::Show)
    };
    let too_long = StartProcess {
        env: vec![pair("CODER_A", "x".repeat(200 * 1024))],
        ..request(1, Process::Init)
    };
    let loads_code = StartProcess {
        env: vec![pair("LD_PRELOAD", "x")],
        ..request(1, Process::Init)
    };
    for (start, said) in [
        (leaves, "`..`"),
        (too_long, "over the limit of 131071"),
        (loads_code, "LD_PRELOAD"),
    ] {
        let (layer, message) = rig.refused(start);
        assert_eq!(layer, "invalid");
        assert!(message.contains(said), "{message}");
    }
    rig.start(request(5, Process::Init));
    assert_eq!(rig.refused(request(6, Process::Show)).0, "busy");
}

#[test]
fn a_number_is_used_once() {
    let mut rig = Rig::new("true");
    rig.start(request(5, Process::Init));
    rig.exited();
    let exited = rig.hear();
    assert!(matches!(
        exited,
        proto::v1::to_worker_from_supervisor::Message::Exited(_)
    ));
    for number in [0, 5] {
        assert_eq!(rig.refused(request(number, Process::Show)).0, "invalid");
    }
}

#[test]
fn a_collector_starts_nothing() {
    let mut rig = Rig::with("true", |configure| configure.collector = true);
    let (layer, message) = rig.refused(request(1, Process::Version));
    assert_eq!(layer, "invalid");
    assert!(message.contains("collector"), "{message}");
}

#[test]
fn an_engine_that_is_not_there_is_named_with_its_errno() {
    let mut rig = Rig::with("", |configure| {
        configure.engine_path = "/nowhere/terraform".to_owned();
    });
    let (_, message) = rig.refused(request(1, Process::Version));
    assert!(message.contains("/nowhere/terraform"), "{message}");
}

#[test]
fn a_configuration_that_cannot_work_ends_the_supervisor_with_a_word() {
    let mut rig = Rig::launch("");
    let mut bad = configure(&rig.engine);
    bad.engine_path = "terraform".to_owned();
    rig.send(ToSupervisorMessage::Configure(bad));
    let messages = rig.drain();
    let [
        FromSupervisorMessage::Refused(refused),
        FromSupervisorMessage::Ended(_),
    ] = messages.as_slice()
    else {
        panic!("{messages:?}");
    };
    assert_eq!(refused.layer, "configure");
    assert!(refused.message.contains("absolute"), "{}", refused.message);
}

#[test]
fn a_job_has_one_supervisor() {
    let mut rig = Rig::new("true");
    let second = launch::launch(&launch_of(&rig.dir)).expect_err("locked");
    assert_eq!(second.kind(), std::io::ErrorKind::WouldBlock);
    assert!(launch::supervisor_lives(&rig.dir).expect("lock"));
    let worker = rig.worker_pid();
    rig.send(ToSupervisorMessage::End(proto::v1::End {}));
    rig.drain();
    assert!(!launch::supervisor_lives(&rig.dir).expect("lock"));
    assert!(!lives(worker));
}

/// Descriptors of a process with what they are, sorted; sockets without their numbers. One
/// that is closed meanwhile is none.
fn descriptors(pid: i32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors");
    let mut found: Vec<String> = entries
        .filter_map(|entry| fs::read_link(entry.expect("entry").path()).ok())
        .map(|target| {
            let target = target.display().to_string();
            let name = target.rsplit('/').next().unwrap_or_default();
            name.split_once(":[")
                .map_or(name, |(kind, _)| kind)
                .to_owned()
        })
        .collect();
    found.sort();
    found
}

#[test]
fn every_process_has_the_descriptors_of_the_page() {
    let mut rig = Rig::new("exec sleep 600");
    let engine = rig.start(request(1, Process::Init));
    let worker = rig.worker_pid();
    // The shell holds its script until it has become what runs.
    until("the engine's own program", || {
        let name = fs::read_to_string(format!("/proc/{engine}/comm")).ok()?;
        (name == "sleep\n").then_some(())
    });
    // It still opens its libraries and closes them.
    until("the engine has what the page says", || {
        (descriptors(engine) == ["1-init.stderr", "1-init.stdout", "null"]).then_some(())
    });
    if nix::unistd::geteuid().is_root() {
        // Not dumpable: only root may look.
        assert_eq!(
            descriptors(worker),
            ["null", "processes.log", "processes.log", "socket", "socket"]
        );
        let mut of_supervisor = descriptors(rig.process.pid());
        if launch::own_namespace().is_ok() {
            // The daemon's, next to its own.
            let proc = of_supervisor.iter().position(|name| name == "proc");
            of_supervisor.remove(proc.expect("the /proc outside"));
        }
        assert_eq!(
            of_supervisor,
            [
                // signalfd, timerfd
                "anon_inode",
                "anon_inode",
                "exits",
                // The job's directory, for the space that is free there.
                "job",
                "null",
                "null",
                "processes.log",
                "processes.log",
                "processes.log",
                "socket",
                "socket",
                "supervisor.lock",
            ]
        );
    }
    let environ = fs::read(format!("/proc/{}/environ", rig.process.pid()));
    assert!(environ.is_ok_and(|bytes| bytes.is_empty()) || !nix::unistd::geteuid().is_root());
}

/// A template without providers but with what needs most of a host: a provisioner.
const TEMPLATE: &str = r#"
resource "terraform_data" "hello" {
  provisioner "local-exec" {
    command = "echo made > made && git --version || true"
  }
}
"#;

#[test]
fn a_real_engine_plans_and_applies_in_its_jail() {
    let engine = Engine::any().path;
    let mut rig = Rig::with("", |configure| {
        configure.engine_path = engine.display().to_string();
    });
    fs::write(rig.dir.work().join("main.tf"), TEMPLATE).expect("template");
    rig.open_gate(Duration::from_secs(600));
    let steps = [
        Process::Version,
        Process::Init,
        Process::Plan,
        Process::Show,
        Process::Apply,
    ];
    for (number, process) in (1..).zip(steps) {
        rig.start(StartProcess {
            env: vec![
                pair("CHECKPOINT_DISABLE", "1"),
                pair("TF_IN_AUTOMATION", "1"),
            ],
            ..request(number, process)
        });
        let exited = rig.exited();
        let stderr = fs::read_to_string(rig.dir.stderr(number, process)).expect("stderr");
        let stdout = rig.stdout(number, process);
        assert_eq!(exited.code, Some(0), "{process:?}: {stdout}{stderr}");
        rig.hear();
    }
    assert!(rig.dir.work().join("made").exists());
    assert!(rig.dir.work().join("terraform.tfstate").exists());
}
