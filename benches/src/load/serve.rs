//! `provisionerd serve` as a process of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// A replica that takes longer does not start.
const START: Duration = Duration::from_secs(60);

/// One replica; ends with its handle.
pub struct Serve {
    child: Child,
    binary: PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
    /// Where it answers, also after a restart.
    pub url: String,
    /// Its data directory.
    pub data: PathBuf,
    log: PathBuf,
}

/// How it is started.
pub struct Options<'a> {
    /// The product's binary.
    pub binary: &'a Path,
    /// For its data and its log.
    pub dir: &'a Path,
    /// Among the replicas.
    pub name: &'a str,
    /// More flags.
    pub flags: Vec<String>,
    /// PostgreSQL instead of SQLite.
    pub database: Option<String>,
    /// Its log filter.
    pub log: &'a str,
}

impl Serve {
    /// Starts it on a free loopback port and waits until it answers.
    pub async fn start(options: Options<'_>) -> Result<Self> {
        let binary = options.binary.canonicalize();
        let binary = binary.with_context(|| {
            let path = options.binary.display();
            format!("{path}: build it with --release first")
        })?;
        let port = free_port()?;
        let data = options.dir.join(options.name);
        let log = options.dir.join(format!("{}.log", options.name));
        let mut args: Vec<String> = ["--log", options.log, "serve", "--data-dir"]
            .map(str::to_owned)
            .into();
        args.push(data.display().to_string());
        args.extend(["--listen".to_owned(), format!("127.0.0.1:{port}")]);
        args.extend(options.flags);
        let database = options.database.into_iter();
        let env = database.map(|url| ("PROVISIONERD_DATABASE_URL".to_owned(), url));
        let env = env.collect::<Vec<_>>();
        let child = spawn(&binary, &args, &env, &log)?;
        let mut serve = Self {
            child,
            binary,
            args,
            env,
            // The name stands in the certificate.
            url: format!("https://localhost:{port}"),
            data,
            log,
        };
        serve.answers().await?;
        Ok(serve)
    }

    /// Its id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts it again, on its data and its port.
    pub async fn start_again(&mut self) -> Result<()> {
        std::fs::rename(&self.log, self.log.with_extension("earlier.log"))?;
        self.child = spawn(&self.binary, &self.args, &self.env, &self.log)?;
        self.answers().await
    }

    async fn answers(&mut self) -> Result<()> {
        let start = Instant::now();
        loop {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            if log.lines().any(|line| line.starts_with("queue: ")) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("serve ended with {status}:\n{log}");
            }
            if start.elapsed() > START {
                bail!("serve says nothing:\n{log}");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What it has logged as a problem.
    pub fn complaints(&self) -> Vec<String> {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let bad = log
            .lines()
            .filter(|line| line.contains("ERROR") || line.contains("WARN"));
        bad.take(5).map(str::to_owned).collect()
    }
}

fn spawn(binary: &Path, args: &[String], env: &[(String, String)], log: &Path) -> Result<Child> {
    let file = std::fs::File::create(log)?;
    let child = Command::new(binary)
        .args(args)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", log.parent().unwrap_or(Path::new("/")))
        .env("NO_COLOR", "1")
        .envs(env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()?;
    Ok(child)
}

fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    Ok(listener.local_addr()?.port())
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}
