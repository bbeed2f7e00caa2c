//! `serve` and `start` as processes of their own, and the command line as their client.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// What to run.
pub struct Options<'a> {
    /// The product's binary.
    pub binary: &'a Path,
    /// Engine of the daemon.
    pub engine: &'a str,
    /// Unpacked provider mirror.
    pub mirror: Option<&'a Path>,
    /// Slots of the daemon.
    pub slots: u32,
    /// `name=value` tags of the daemon and of its key.
    pub tags: &'a [String],
}

/// `serve` and `start` as processes of their own; killed on drop.
pub struct Fleet {
    binary: PathBuf,
    url: String,
    data: PathBuf,
    daemon_log: PathBuf,
    children: Vec<Child>,
    /// Where logs, keys and data lie, and how the daemon is started.
    dir: PathBuf,
    start: Vec<String>,
}

impl Fleet {
    /// Starts both in `dir` and waits until the queue answers.
    pub fn start(options: &Options<'_>, dir: &Path) -> Result<Self> {
        let port = free_port()?;
        let data = dir.join("data");
        let binary = options
            .binary
            .canonicalize()
            .context("binary: build it with --release first")?;
        let mut fleet = Self {
            url: format!("http://127.0.0.1:{port}"),
            data: data.clone(),
            daemon_log: dir.join("start.log"),
            binary,
            children: Vec::new(),
            dir: dir.to_owned(),
            start: Vec::new(),
        };
        let listen = format!("127.0.0.1:{port}");
        let http = format!("127.0.0.1:{}", free_port()?);
        let serve: Vec<String> = [
            "serve",
            "--data-dir",
            path(&data)?.as_str(),
            "--listen",
            &listen,
            "--http-listen",
            &http,
        ]
        .map(str::to_owned)
        .into();
        fleet.spawn(dir, "serve.log", &serve)?;
        fleet.until_up()?;
        fleet.start = fleet.daemon(options)?;
        fleet.start_daemon()?;
        Ok(fleet)
    }

    /// Makes the daemon's key and says how the daemon is started.
    fn daemon(&self, options: &Options<'_>) -> Result<Vec<String>> {
        let tags: Vec<String> = options
            .tags
            .iter()
            .flat_map(|tag| ["--tag".to_owned(), tag.clone()])
            .collect();
        let key = self.client(&["keys", "create", "bench"], &tags)?;
        let key_file = self.dir.join("key");
        std::fs::write(&key_file, key["key"].as_str().context("no key")?)?;
        let mut start = vec![
            "--log".to_owned(),
            "info,provisionerd::daemon::job=debug".to_owned(),
            "start".to_owned(),
            "--log-format".to_owned(),
            "json".to_owned(),
            "--url".to_owned(),
            self.url.clone(),
            "--key-file".to_owned(),
            path(&key_file)?,
            "--data-dir".to_owned(),
            path(&self.dir.join("d"))?,
            "--slots".to_owned(),
            options.slots.to_string(),
            "--engine".to_owned(),
            options.engine.to_owned(),
        ];
        start.extend(tags);
        if let Some(mirror) = options.mirror {
            start.extend(["--provider-mirror".to_owned(), path(mirror)?]);
        }
        Ok(start)
    }

    /// Starts the daemon, for the first time or again.
    pub fn start_daemon(&mut self) -> Result<()> {
        let start = self.start.clone();
        let dir = self.dir.clone();
        self.spawn(&dir, "start.log", &start)
    }

    /// Ends the daemon between jobs; the queue goes on.
    pub fn stop_daemon(&mut self) -> Result<()> {
        let mut daemon = self.children.pop().context("no daemon")?;
        daemon.kill()?;
        daemon.wait()?;
        Ok(())
    }

    /// Where the queue is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Anonymous resident memory of queue and daemon, in KiB.
    pub fn memory_kib(&self) -> Vec<u64> {
        self.children
            .iter()
            .map(|child| anonymous_kib(child.id()))
            .collect()
    }

    /// Size of the queue's database, in KiB.
    pub fn database_kib(&self) -> Result<u64> {
        let path = self.data.join("queue/queue.db");
        Ok(path.metadata().context("the database")?.len() / 1024)
    }

    fn spawn(&mut self, dir: &Path, log: &str, args: &[String]) -> Result<()> {
        let log = std::fs::File::create(dir.join(log))?;
        let child = Command::new(&self.binary)
            .args(args)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.children.push(child);
        Ok(())
    }

    fn until_up(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            if self.client(&["organizations", "list"], &[]).is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        anyhow::bail!("the queue did not answer within 20 s")
    }

    /// Runs a client command and reads its JSON document.
    pub fn client(&self, words: &[&str], more: &[String]) -> Result<Value> {
        Ok(serde_json::from_slice(&self.bytes(words, more)?)?)
    }

    /// Runs a client command and returns what it prints.
    pub fn bytes(&self, words: &[&str], more: &[String]) -> Result<Vec<u8>> {
        let token = self.data.join("admin.token");
        let output = Command::new(&self.binary)
            .args(words)
            .args(more)
            .args(["--output", "json", "-q", "--url", &self.url, "--token-file"])
            .arg(token)
            .stdin(Stdio::null())
            .output()?;
        ensure!(
            output.status.success(),
            "{words:?}: {}{}",
            String::from_utf8_lossy(&output.stderr),
            String::from_utf8_lossy(&output.stdout),
        );
        Ok(output.stdout)
    }

    /// What the daemon has logged: a JSON object a line.
    pub fn daemon_log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(&self.daemon_log)?)
    }

    /// Process ids of queue and daemon.
    pub fn ids(&self) -> Vec<u32> {
        self.children.iter().map(Child::id).collect()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for child in self.children.iter_mut().rev() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A path as an argument.
pub fn path(path: &Path) -> Result<String> {
    Ok(path.to_str().context("path is not UTF-8")?.to_owned())
}

/// `RssAnon` of a process: file pages are the kernel's to drop.
pub fn anonymous_kib(pid: u32) -> u64 {
    std::fs::read_to_string(format!("/proc/{pid}/status"))
        .unwrap_or_default()
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .and_then(|value| value.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or_default()
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port())
}
