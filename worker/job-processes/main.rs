//! Plays the shipped binary in tests: the real supervisor and the real jail, and a worker
//! that goes into the real jail and then does what the test tells it.
//!
//! The test speaks to the worker on the daemon–worker socket, one line each way: a verb,
//! a space, an argument; the answer is one line too.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use worker::jail::{self, Inside};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [_, "supervise", job] => worker::supervise::main(job),
        [_, "jail", role, job] => jail::main(role, job),
        // Jobs whose name begins like this have the shipped worker.
        [_, "worker", job] if job.starts_with("build") => worker::run::main(job),
        [_, "worker", _] => puppet(),
        _ => ExitCode::from(2),
    }
}

fn puppet() -> ExitCode {
    let inside = match jail::enter_worker() {
        Ok(inside) => inside,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    for socket in [&inside.daemon, &inside.supervisor] {
        if socket.set_nonblocking(false).is_err() {
            return ExitCode::FAILURE;
        }
    }
    for line in BufReader::new(&inside.daemon).lines().map_while(Result::ok) {
        let (verb, argument) = line.split_once(' ').unwrap_or((line.as_str(), ""));
        if verb == "exit" {
            return ExitCode::from(argument.parse().unwrap_or(1));
        }
        let answer = obey(&inside, verb, argument);
        if writeln!(&inside.daemon, "{answer}").is_err() {
            break;
        }
    }
    // A daemon that is gone does not end a worker: the engine may still run.
    let mut rest = [0; 1024];
    while matches!((&inside.supervisor).read(&mut rest), Ok(count) if count > 0) {}
    ExitCode::SUCCESS
}

fn obey(inside: &Inside, verb: &str, argument: &str) -> String {
    let told = |result: std::io::Result<String>| match result {
        Ok(text) => format!("ok {}", text.replace('\n', "\\n")),
        Err(error) => format!("error {error}"),
    };
    match verb {
        "sandbox" => format!("ok {}", inside.sandbox),
        "read" => told(fs::read_to_string(argument)),
        "write" => told(fs::write(argument, "written").map(|()| String::new())),
        "rename" => {
            let (from, to) = argument.split_once(' ').unwrap_or((argument, ""));
            told(fs::rename(from, to).map(|()| String::new()))
        }
        "run" => told(
            std::process::Command::new(argument)
                .output()
                .map(|output| String::from_utf8_lossy(&output.stdout).into_owned()),
        ),
        "connect" => told(TcpStream::connect(argument).map(|_| String::new())),
        // Bytes in hex, passed to the supervisor as they are; then what it answers.
        "tell" => told(send(&inside.supervisor, argument).map(|()| String::new())),
        "hear" => told(hear(&inside.supervisor)),
        "close" => told(
            inside
                .supervisor
                .shutdown(std::net::Shutdown::Both)
                .map(|()| String::new()),
        ),
        _ => "error no such verb".to_owned(),
    }
}

fn send(mut socket: &UnixStream, hex: &str) -> std::io::Result<()> {
    let bytes: Vec<u8> = (0..hex.len() / 2)
        .filter_map(|index| u8::from_str_radix(&hex[index * 2..index * 2 + 2], 16).ok())
        .collect();
    socket.write_all(&bytes)
}

/// One frame of the supervisor, in hex without its length.
fn hear(mut socket: &UnixStream) -> std::io::Result<String> {
    use std::fmt::Write as _;
    let mut size = 0_usize;
    let mut shift = 0;
    loop {
        let mut byte = [0];
        socket.read_exact(&mut byte)?;
        size |= usize::from(byte[0] & 0x7f) << shift;
        shift += 7;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; size];
    socket.read_exact(&mut body)?;
    Ok(body.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    }))
}
