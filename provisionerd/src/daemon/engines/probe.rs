//! Asks a binary for its version. The daemon starts nothing but supervisors, so this
//! is a supervisor's job too, in a directory that is gone right after.

use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use proto::limits;
use proto::timings::Timings;
use proto::v1::{
    Configure, End, EngineFacts, FromSupervisor, Process, ToSupervisor, from_supervisor,
    to_supervisor,
};
use serde::Deserialize;
use worker::job_dir::JobDir;
use worker::launch::{self, Launch};
use worker::link;

/// A version document is a few hundred bytes.
const DOCUMENT: u64 = 64 * 1024;

/// How to ask.
#[derive(Debug, Clone)]
pub struct Prober {
    /// The binary that knows `supervise`.
    pub exe: PathBuf,
    /// Where job directories are made.
    pub jobs: PathBuf,
    /// Every wait.
    pub timings: Timings,
}

/// What `version -json` prints; both engines call it `terraform_version`.
#[derive(Deserialize)]
struct Document {
    terraform_version: String,
    /// Printed by Terraform only.
    terraform_outdated: Option<bool>,
}

impl Prober {
    /// Name and version of the engine at `path`.
    ///
    /// # Errors
    /// It cannot be started, fails, or prints something else.
    pub async fn ask(&self, path: &Path) -> io::Result<EngineFacts> {
        let name = format!("probe-{}", &uuid::Uuid::new_v4().simple().to_string()[..4]);
        let dir = JobDir::create(&self.jobs, &name).map_err(io::Error::other)?;
        let asked = tokio::time::timeout(self.timings.silent, self.ask_in(&dir, path)).await;
        let removed = dir.remove();
        let facts = asked.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        removed.map_err(io::Error::other)?;
        Ok(facts)
    }

    async fn ask_in(&self, dir: &JobDir, path: &Path) -> io::Result<EngineFacts> {
        let launch = Launch {
            exe: self.exe.clone(),
            job_dir: dir.clone(),
            job_id: "probe".into(),
            namespace: launch::Namespace::Best,
        };
        let launched = tokio::task::spawn_blocking(move || launch::launch(&launch))
            .await
            .map_err(io::Error::other)??;
        let stream = tokio::net::UnixStream::from_std(launched.supervisor)?;
        let (mut frames, mut sender) =
            link::split::<FromSupervisor, ToSupervisor>(stream, limits::SUPERVISOR_FRAME);
        sender
            .send(&self.configure(path))
            .await
            .map_err(io::Error::other)?;
        let mut answer = Err(io::Error::other("the supervisor ended without an answer"));
        while let Some(frame) = frames.next().await.map_err(io::Error::other)? {
            match frame.message {
                Some(from_supervisor::Message::Exited(exited)) => {
                    answer = read(dir, &exited, path);
                    let end = to_supervisor::Message::End(End {});
                    let end = ToSupervisor { message: Some(end) };
                    // A probe may have ended by itself already.
                    let _ = sender.send(&end).await;
                }
                Some(from_supervisor::Message::Ended(_)) => break,
                _ => {}
            }
        }
        drop(sender);
        launched.process.ended().await?;
        answer
    }

    fn configure(&self, path: &Path) -> ToSupervisor {
        let configure = Configure {
            timings: Some((&self.timings).into()),
            engine_path: path.to_string_lossy().into_owned(),
            probe: true,
            nofile: limits::ENGINE_NOFILE,
            ..Configure::default()
        };
        ToSupervisor {
            message: Some(to_supervisor::Message::Configure(configure)),
        }
    }
}

fn read(dir: &JobDir, exited: &proto::v1::ProcessExited, path: &Path) -> io::Result<EngineFacts> {
    if exited.code != Some(0) {
        return Err(io::Error::other(format!(
            "`version -json` ended with {}",
            match (exited.code, exited.signal) {
                (Some(code), _) => format!("exit code {code}"),
                (None, Some(signal)) => format!("signal {signal}"),
                (None, None) => "no exit code".to_owned(),
            }
        )));
    }
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(dir.stdout(exited.number, Process::Version))?;
    let mut text = String::new();
    io::Read::read_to_string(&mut io::Read::take(file, DOCUMENT), &mut text)?;
    parse(&text, path)
}

fn parse(text: &str, path: &Path) -> io::Result<EngineFacts> {
    // Warnings about the CLI configuration may stand before and behind the document.
    let start = text.find('{').unwrap_or(0);
    let mut documents = serde_json::Deserializer::from_str(&text[start..]).into_iter::<Document>();
    let document = documents
        .next()
        .ok_or_else(|| io::Error::other("`version -json` printed no document"))??;
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let tofu = if file.contains("tofu") || file.contains("terraform") {
        file.contains("tofu")
    } else {
        document.terraform_outdated.is_none()
    };
    Ok(EngineFacts {
        name: if tofu { "tofu" } else { "terraform" }.to_owned(),
        version: document.terraform_version,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERRAFORM: &str = r#"{"terraform_version":"1.11.4","platform":"linux_amd64",
        "provider_selections":{},"terraform_outdated":false}
╷
│ Warning: Unable to open CLI configuration file"#;
    const TOFU: &str =
        r#"{"terraform_version":"1.10.0","platform":"linux_amd64","provider_selections":{}}"#;

    #[test]
    fn engines_are_told_apart_by_name_and_by_document() {
        let facts = |text, path: &str| parse(text, Path::new(path)).expect("facts");
        assert_eq!(facts(TERRAFORM, "/bin/terraform").name, "terraform");
        assert_eq!(facts(TERRAFORM, "/bin/engine").version, "1.11.4");
        assert_eq!(facts(TERRAFORM, "/bin/engine").name, "terraform");
        assert_eq!(facts(TOFU, "/bin/engine").name, "tofu");
        assert_eq!(facts(TERRAFORM, "/bin/tofu-wrapper").name, "tofu");
    }

    #[test]
    fn anything_else_is_no_engine() {
        assert!(parse("hello", Path::new("/bin/echo")).is_err());
        assert!(parse("", Path::new("/bin/true")).is_err());
    }
}
