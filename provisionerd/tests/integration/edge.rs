//! The queue's process at its edge: its TLS files, its files, its memory.

use std::io::Write as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{LONG, Process, Ran, binary, command, wait_for};

/// Anonymous memory of a queue that strangers have done their worst to, in bytes.
const MEMORY: u64 = 96 * 1024 * 1024;

/// A queue in a directory of its own.
struct Queue {
    process: Process,
    url: String,
    dir: tempfile::TempDir,
}

/// Lines that are to be JSON objects, by what they say.
fn logged(log: &str) -> Vec<(String, Value)> {
    let line = |text: &str| -> (String, Value) {
        let line: Value = serde_json::from_str(text).unwrap_or_else(|_| panic!("no JSON: {text}"));
        assert!(line["timestamp"].is_string(), "{line}");
        assert!(line["target"].is_string(), "{line}");
        let message = line["fields"]["message"].as_str().expect("a message");
        (message.to_owned(), line)
    };
    log.lines().map(line).collect()
}

#[test]
fn with_json_logs_each_line_of_a_queue_is_an_object() {
    let dir = tempfile::tempdir().expect("dir");
    let serve = |name: &str| {
        let mut serve = command(dir.path());
        serve.args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json"]);
        serve.arg("--data-dir").arg(dir.path().join("q"));
        // Nobody knows it: a warning from before there is a log.
        serve.env("PROVISIONERD_LISTN", "1");
        Process::start(name, dir.path(), serve)
    };
    let mut queue = serve("queue");
    wait_for("the queue says where it is", LONG, || {
        queue.log().contains("queue: http://").then_some(())
    });
    let mut second = serve("second");
    assert!(!second.ended(LONG).success());
    let lines = logged(&second.log());
    let (_, last) = lines.last().expect("a line");
    assert_eq!(last["level"], "ERROR");
    assert_eq!(last["fields"]["error.code"], "DATA_DIR_IN_USE");
    queue.signal(Signal::SIGTERM);
    assert!(queue.ended(LONG).success());
    let lines = logged(&queue.log());
    let level = |wanted: &str| {
        let found = lines.iter().find(|(message, _)| message.contains(wanted));
        found.expect(wanted).1["level"].clone()
    };
    assert_eq!(level("PROVISIONERD_LISTN"), "WARN");
    assert_eq!(level("queue: http://127.0.0.1:"), "INFO");
    assert_eq!(level("SIGTERM: ending"), "INFO");
}

impl Queue {
    fn start(wrapper: &[&str], more: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("dir");
        Self::start_in(dir, wrapper, more)
    }

    /// `wrapper` is what calls the binary, if anything does.
    fn start_in(dir: tempfile::TempDir, wrapper: &[&str], more: &[&str]) -> Self {
        let mut serve = command(dir.path());
        if let [program, arguments @ ..] = wrapper {
            let environment: Vec<_> = serve
                .get_envs()
                .filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())))
                .collect();
            serve = Command::new(program);
            serve.args(arguments).arg(binary());
            serve.env_clear().envs(environment);
        }
        serve.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]);
        serve.arg(dir.path().join("q")).args(more);
        let mut process = Process::start("queue", dir.path(), serve);
        let url = process.announced("queue: ", LONG);
        Self { process, url, dir }
    }

    fn address(&self) -> &str {
        self.url.split_once("://").expect("a URL").1
    }

    fn keys(&self, more: &[&str]) -> Ran {
        let mut client = command(self.dir.path());
        client
            .args(["keys", "list"])
            .args(more)
            .env("PROVISIONERD_DATA_DIR", self.dir.path().join("q"));
        let output = client.output().expect("the binary starts");
        Ran::new(format!("keys list {more:?}"), &output)
    }
}

fn pem(name: &str) -> PathBuf {
    let pems = Path::new(env!("CARGO_MANIFEST_DIR")).join("../queue/tests/integration/tls");
    pems.join(name)
}

fn exchange(dir: &Path, from: &str) {
    for name in ["server.pem", "server.key"] {
        std::fs::copy(pem(&format!("{from}{name}")), dir.join(name)).expect("copied");
    }
}

#[test]
fn sighup_makes_a_queue_read_its_tls_files_and_does_not_end_it() {
    let dir = tempfile::tempdir().expect("dir");
    exchange(dir.path(), "");
    let path = |name: &str| dir.path().join(name).to_str().expect("text").to_owned();
    let (cert, key) = (path("server.pem"), path("server.key"));
    let queue = Queue::start(&[], &["--tls-cert-file", &cert, "--tls-key-file", &key]);
    let port = queue.address().rsplit(':').next().expect("a port");
    let url = format!("https://localhost:{port}");
    let asks = |ca: &str| {
        let ca = pem(ca);
        queue.keys(&["--url", &url, "--tls-ca-file", ca.to_str().expect("text")])
    };
    asks("ca.pem").exits(0);
    exchange(dir.path(), "other-");
    queue.process.signal(Signal::SIGHUP);
    wait_for("the new certificate", LONG, || {
        (asks("other-ca.pem").code == 0).then_some(())
    });
    assert_ne!(
        asks("ca.pem").code,
        0,
        "the old authority does not vouch for it"
    );
    assert!(queue.process.log().contains("SIGHUP: TLS files read"));
    std::fs::write(&key, "no key").expect("written");
    queue.process.signal(Signal::SIGHUP);
    wait_for("a warning", LONG, || {
        let log = queue.process.log();
        log.contains("the old TLS files stay in use").then_some(())
    });
    asks("other-ca.pem").exits(0);
}

#[test]
fn a_queue_with_few_files_says_so_and_serves() {
    short_of_files(96, "connections are open, which is the limit");
}

#[test]
fn a_queue_without_any_file_left_goes_on_when_there_are_some() {
    short_of_files(32, "connections cannot be accepted");
}

/// A queue that may open so many files says this when strangers take them.
fn short_of_files(files: u32, says: &str) {
    let limited = format!("ulimit -n {files}; exec \"$@\"");
    let mut queue = Queue::start(&["sh", "-c", &limited, "sh"], &[]);
    wait_for("a warning that names the limit", LONG, || {
        queue.process.log().contains("RLIMIT_NOFILE").then_some(())
    });
    let silent: Vec<_> = (0..200)
        .filter_map(|_| TcpStream::connect(queue.address()).ok())
        .collect();
    wait_for("a line about those it refuses", LONG, || {
        let log = queue.process.log();
        log.contains(says).then_some(())
    });
    drop(silent);
    let url = queue.url.clone();
    wait_for("an answer", LONG, || {
        (queue.keys(&["--url", &url]).code == 0).then_some(())
    });
    assert!(!queue.process.is_gone());
}

#[test]
fn strangers_cannot_make_a_queue_large() {
    let queue = Queue::start(&[], &[]);
    let connect = || TcpStream::connect(queue.address()).expect("the port listens");
    let silent: Vec<_> = (0..300).map(|_| connect()).collect();
    let greeted: Vec<_> = (0..300)
        .map(|_| {
            let mut stream = connect();
            let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
            stream.write_all(preface).expect("sent");
            // A call without credential whose body does not end.
            let block = b"\x83\x86\x04\x20/provisionerd.v1.Fleet/FinishJob\x01\x05queue";
            let length = u8::try_from(block.len()).expect("short");
            for stream_id in (1..400_u32).step_by(2) {
                let mut frame = vec![0, 0, length, 1, 4];
                frame.extend(stream_id.to_be_bytes());
                frame.extend(block);
                if stream.write_all(&frame).is_err() {
                    break;
                }
            }
            stream
        })
        .collect();
    for _ in 0..20 {
        let mut stream = connect();
        let mut byte = 1_u8;
        let bytes = std::iter::repeat_with(|| {
            byte = byte.wrapping_mul(167).wrapping_add(13);
            byte
        });
        let noise: Vec<u8> = bytes.take(1_000_000).collect();
        // It is closed in the midst of it.
        let _closed = stream.write_all(&noise);
    }
    // They are all from one address, as is this call: it may have to wait for its turn.
    wait_for("an answer to somebody with a token", LONG, || {
        (queue.keys(&["--url", &queue.url]).code == 0).then_some(())
    });
    let status = format!("/proc/{}/status", queue.process.pid());
    let status = std::fs::read_to_string(status).expect("status");
    let anonymous = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = anonymous.and_then(|text| text.split_whitespace().next());
    let bytes = kib
        .and_then(|kib| kib.parse::<u64>().ok())
        .expect("RssAnon")
        * 1024;
    eprintln!("anonymous memory with 600 strangers: {bytes} bytes");
    assert!(bytes < MEMORY, "{bytes} bytes");
    drop((silent, greeted));
}
