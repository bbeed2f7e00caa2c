//! What a process in a jail is and what it cannot do.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;

use proto::v1::Process;
use worker::jail;
use worker::job_dir::JobDir;

use super::rig::{Rig, inner, request};
use crate::skip::skip;

fn landlock_abi() -> i32 {
    jail::probe().landlock_abi.unwrap_or(0)
}

/// What a script printed as an engine; it ends with `echo`.
fn printed(rig: &mut Rig) -> String {
    rig.start(request(1, Process::Init));
    let exited = rig.exited();
    let text = rig.stdout(1, Process::Init);
    assert_eq!(exited.code, Some(0), "{text}");
    text
}

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find(|line| line.starts_with(name));
    line.expect("field").split_once(":\t").expect("value").1
}

#[test]
fn an_engine_has_no_capability_no_new_privilege_and_default_signals() {
    let script = "cat /proc/self/status; echo \"umask $(umask)\"; echo \"core $(ulimit -c)\"; \
                  read pid comm state ppid group session rest < /proc/$$/stat; \
                  [ $session = $$ ] && echo own session";
    let text = printed(&mut Rig::new(script));
    let none = "0".repeat(16);
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(field(&text, set), none, "{set}");
    }
    if nix::unistd::geteuid().is_root() {
        assert_eq!(field(&text, "CapBnd"), none, "root would get these back");
    }
    assert_eq!(field(&text, "NoNewPrivs"), "1");
    assert_eq!(field(&text, "SigIgn"), none);
    assert_eq!(field(&text, "SigBlk"), none);
    for line in ["umask 0077", "core 0", "own session"] {
        assert!(text.lines().any(|seen| seen == line), "{line}\n{text}");
    }
}

#[test]
fn an_engine_reads_nothing_of_others_and_of_its_own_job_only_its_share() {
    if landlock_abi() < 1 {
        return skip("the jail", "this kernel has no Landlock");
    }
    let mut rig = Rig::new(
        ". ./paths; try() { if cat \"$1\" >/dev/null 2>&1; then echo \"open $2\"; else echo \
         \"closed $2\"; fi; }; try $OTHER other; try $KEEP keep; try $OUT out; try $EXITS exits; \
         try $ENVIRON environ; try ./paths work; try /etc/shadow shadow; try /etc/hosts hosts; \
         ls /root >/dev/null 2>&1 && echo open root || echo closed root; \
         echo x > $TMPDIR/x && echo wrote tmp; echo x > $OTHERDIR/x || echo closed write",
    );
    let other = JobDir::create(rig.jobs.path(), "other").expect("other");
    for path in [other.state(), rig.dir.state(), rig.dir.out().join("seen")] {
        fs::write(path, "secret").expect("file");
    }
    let paths = format!(
        "OTHER={}\nKEEP={}\nOUT={}\nEXITS={}\nENVIRON=/proc/{}/environ\nOTHERDIR={}\n",
        other.state().display(),
        rig.dir.state().display(),
        rig.dir.out().join("seen").display(),
        rig.dir.exits().display(),
        std::process::id(),
        other.work().display(),
    );
    fs::write(rig.dir.work().join("paths"), paths).expect("paths");
    assert_eq!(
        printed(&mut rig).lines().collect::<Vec<_>>(),
        [
            "closed other",
            "closed keep",
            "closed out",
            "closed exits",
            "closed environ",
            "open work",
            "closed shadow",
            "open hosts",
            "closed root",
            "wrote tmp",
            "closed write",
        ]
    );
}

#[test]
fn an_engine_cannot_signal_what_watches_it() {
    if landlock_abi() < 6 {
        return skip("the jail", "this kernel's Landlock cannot scope signals");
    }
    let mut rig = Rig::new("kill -9 $PPID || echo refused; kill -9 $(cat worker) || echo refused");
    let worker = inner(rig.worker_pid()).expect("worker");
    fs::write(rig.dir.work().join("worker"), worker.to_string()).expect("pid");
    assert_eq!(printed(&mut rig), "refused\nrefused\n");
    assert_eq!(rig.puppet("sandbox"), "ok landlock");
}

#[test]
fn a_mirror_behind_a_link_is_read_and_executed_but_not_written() {
    let place = tempfile::tempdir().expect("tempdir");
    let mirror = place.path().join("mirror");
    let link = place.path().join("link");
    fs::create_dir(&mirror).expect("mirror");
    fs::copy("/bin/true", mirror.join("plugin")).expect("plugin");
    symlink(&mirror, &link).expect("link");
    let script = format!(
        "{0}/plugin && echo ran; echo x 2>/dev/null > {0}/new || echo closed",
        link.display()
    );
    let mut rig = Rig::with(&script, |configure| {
        configure.read_paths = vec![link.display().to_string()];
    });
    let expected = if landlock_abi() > 0 {
        "ran\nclosed\n"
    } else {
        "ran\n"
    };
    assert_eq!(printed(&mut rig), expected);
}

#[test]
fn a_read_path_that_is_missing_stops_the_job_before_it_begins() {
    if landlock_abi() < 1 {
        return skip("the jail", "this kernel has no Landlock");
    }
    let mut rig = Rig::launch("");
    let mut configure = super::rig::configure(&rig.engine);
    configure.read_paths = vec!["/nowhere/mirror".to_owned()];
    rig.send(proto::v1::to_supervisor::Message::Configure(configure));
    let refused = rig.expect("refusal", |message| match message {
        proto::v1::from_supervisor::Message::Refused(refused) => Some(refused),
        _ => None,
    });
    assert_eq!((refused.layer.as_str(), refused.errno), ("landlock", 2));
    assert!(
        refused.message.contains("/nowhere/mirror"),
        "{}",
        refused.message
    );
}

#[test]
fn a_worker_executes_nothing_connects_nowhere_and_reads_its_own_only() {
    if landlock_abi() < 4 {
        return skip("the jail", "this kernel's Landlock cannot close ports");
    }
    let mut rig = Rig::new("");
    let other = JobDir::create(rig.jobs.path(), "other").expect("other");
    fs::write(other.state(), "secret").expect("state");
    fs::write(rig.dir.out().join("1-plan.stdout"), "output").expect("output");
    let port = TcpListener::bind("127.0.0.1:0").expect("port");
    let address = port.local_addr().expect("address");
    let dir = rig.dir.clone();
    for (command, allowed) in [
        (format!("write {}", dir.state().display()), true),
        (format!("read {}", dir.state().display()), true),
        (format!("write {}", dir.work().join("f").display()), true),
        (
            format!("read {}", dir.out().join("1-plan.stdout").display()),
            true,
        ),
        (
            format!("write {}", dir.out().join("1-plan.stdout").display()),
            true,
        ),
        (format!("write {}", dir.out().join("new").display()), false),
        (format!("read {}", dir.exits().display()), false),
        (format!("read {}", dir.supervisor_lock().display()), false),
        (format!("read {}", other.state().display()), false),
        ("read /etc/passwd".to_owned(), false),
        (format!("connect {address}"), false),
        ("run /bin/true".to_owned(), false),
    ] {
        let answer = rig.puppet(&command);
        assert_eq!(answer.starts_with("ok"), allowed, "{command}: {answer}");
    }
}

#[test]
fn a_worker_cannot_be_traced_and_has_no_capability() {
    let rig = Rig::new("");
    let worker = rig.worker_pid();
    let status = fs::read_to_string(format!("/proc/{worker}/status")).expect("status");
    let none = "0".repeat(16);
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(field(&status, set), none, "{set}");
    }
    assert_eq!(field(&status, "NoNewPrivs"), "1");
    if !nix::unistd::geteuid().is_root() {
        // The kernel hands what is not dumpable to root.
        assert!(fs::read(format!("/proc/{worker}/environ")).is_err());
    }
    use std::os::unix::fs::MetadataExt as _;
    let owner = fs::metadata(format!("/proc/{worker}/environ"))
        .expect("entry")
        .uid();
    assert_eq!(owner, 0, "not dumpable");
}

#[test]
fn without_a_sandbox_the_other_layers_still_hold() {
    let mut rig = Rig::with("cat /proc/self/status", |configure| {
        configure.sandbox = "none".to_owned();
    });
    assert_eq!(rig.puppet("sandbox"), "ok none");
    let text = printed(&mut rig);
    assert_eq!(field(&text, "CapEff"), "0".repeat(16));
    assert_eq!(field(&text, "NoNewPrivs"), "1");
}
