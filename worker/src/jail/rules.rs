//! Landlock: which files, ports and processes each role may reach. What is not named here
//! is closed, in particular: the directories of other jobs, the user's home, the daemon's
//! data, and of this job's directory whatever the role has no business with.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, PathBeneath, PathFd,
    Ruleset, RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetError,
    RulesetStatus, Scope, make_bitflags,
};

use super::Error;
use crate::job_dir::JobDir;

/// The newest ABI these rules were tried on. Older kernels enforce what they know.
const TRIED: ABI = ABI::V7;

/// Programs and libraries: an engine runs `git`, provisioners run a shell.
const SYSTEM: &[&str] = &[
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32",
];

/// Where hosts also put programs, each in a directory of its own, next to whatever else is
/// kept there: of these an engine sees only the directory that it lies in.
const PROGRAM_PLACES: &[&str] = &["/opt", "/nix/store"];

/// What name resolution, TLS and time need. Named one by one: `/etc` also holds password
/// hashes and host keys that root, even without capabilities, owns and could read.
const SETTINGS: &[&str] = &[
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/crypto-policies",
    "/etc/gai.conf",
    "/etc/gitconfig",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/passwd",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/tls/openssl.cnf",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssh/ssh_config",
    "/etc/ssh/ssh_config.d",
    "/etc/ssh/ssh_known_hosts",
    "/etc/ssl/cert.pem",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/timezone",
    "/run/nscd",
    "/run/systemd/resolve",
    "/var/lib/ca-certificates",
];

/// What the kernel tells. The Go runtime reads page and cgroup sizes; shells read their own
/// entries. Other processes' environments stay closed: Landlock forbids tracing outside.
const KERNEL: &[&str] = &[
    "/proc",
    "/sys/devices/system/cpu",
    "/sys/fs/cgroup",
    "/sys/kernel/mm/transparent_hugepage",
];

/// Devices any program expects.
const DEVICES: &[&str] = &[
    "/dev/full",
    "/dev/null",
    "/dev/random",
    "/dev/tty",
    "/dev/urandom",
    "/dev/zero",
];

/// Whether Landlock was asked for by name, or is taken where it works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// As much as works.
    Best,
    /// The job fails without it.
    Landlock,
    /// The operator turned it off.
    None,
}

impl Wanted {
    /// From the wire.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        match text {
            "" | "auto" => Ok(Self::Best),
            "landlock" => Ok(Self::Landlock),
            "none" => Ok(Self::None),
            other => Err(Error {
                layer: "landlock",
                errno: 0,
                message: format!("there is no sandbox level `{other}`"),
            }),
        }
    }
}

/// Closes an engine in; returns the level in force. The network stays open: an engine
/// fetches modules and its providers talk to their clouds.
pub(super) fn engine(
    dir: &JobDir,
    program: &Path,
    read: &[String],
    write: &[String],
    wanted: Wanted,
) -> Result<&'static str, Error> {
    apply(wanted, || {
        let mut rules = Rules::new(Network::Open)?;
        rules.system(SYSTEM, read_execute())?;
        rules.system(SETTINGS, read_only())?;
        rules.system(KERNEL, read_only())?;
        rules.system(DEVICES, device())?;
        rules.job([program], read_execute())?;
        rules.job(own_directory(program), read_execute())?;
        rules.job(read.iter().map(Path::new), read_execute())?;
        rules.job(write.iter().map(Path::new), read_execute() | write_all())?;
        let own = [dir.work(), dir.home(), dir.tmp()];
        rules.job(&own, read_execute() | write_all())?;
        Ok(rules)
    })
}

/// What every engine on this host may read whatever its job: no secret may lie below.
/// `program` is the engine, where it is known.
#[must_use]
pub fn open_to_engines(program: Option<&Path>) -> Vec<PathBuf> {
    let system = SYSTEM.iter().chain(SETTINGS).map(PathBuf::from);
    system.chain(program.and_then(own_directory)).collect()
}

/// The directory of an engine that is a wrapper or has files beside it. An engine in a
/// home or in `/opt` itself is granted alone: its neighbours are not its own.
fn own_directory(program: &Path) -> Option<PathBuf> {
    let directory = program.canonicalize().ok()?.parent()?.to_owned();
    let below = |place: &&str| directory.starts_with(place) && directory != Path::new(*place);
    PROGRAM_PLACES.iter().any(below).then_some(directory)
}

/// Closes a worker in: its files, nothing to execute, no port, no signal to others.
pub(super) fn worker(dir: &JobDir, read: &[String], wanted: Wanted) -> Result<&'static str, Error> {
    apply(wanted, || {
        let mut rules = Rules::new(Network::Closed)?;
        rules.system(&["/dev/null", "/dev/urandom"], device())?;
        rules.job(read.iter().map(Path::new), read_only())?;
        let own = [dir.keep(), dir.work(), dir.home(), dir.tmp()];
        rules.job(&own, read_only() | write_all())?;
        // Output of engines is read and punched out, never made or removed.
        let output = make_bitflags!(AccessFs::{ReadFile | ReadDir | WriteFile | Truncate});
        rules.job([dir.out()], output)?;
        Ok(rules)
    })
}

/// The ABI that an empty ruleset reports after it was enforced on this thread.
pub(super) fn abi_in_force() -> Result<i32, String> {
    let enforce = || {
        Ruleset::default()
            .handle_access(AccessFs::from_all(ABI::V1))?
            .create()?
            .restrict_self()
    };
    match enforce()
        .map_err(|error: RulesetError| error.to_string())?
        .landlock
    {
        landlock::LandlockStatus::Available {
            effective_abi,
            kernel_abi,
        } => Ok(kernel_abi.unwrap_or(effective_abi as i32)),
        landlock::LandlockStatus::NotEnabled => {
            Err("the kernel has Landlock, but it is not enabled at boot (lsm=)".to_owned())
        }
        landlock::LandlockStatus::NotImplemented => {
            Err("the kernel has no Landlock (Linux 5.13 or newer is needed)".to_owned())
        }
    }
}

fn apply(
    wanted: Wanted,
    rules: impl FnOnce() -> Result<Rules, Error>,
) -> Result<&'static str, Error> {
    if wanted == Wanted::None {
        return Ok("none");
    }
    let status = rules()?.0.restrict_self().map_err(refused)?;
    match (status.ruleset, wanted) {
        (RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced, _) => Ok("landlock"),
        (RulesetStatus::NotEnforced, Wanted::Landlock) => Err(Error {
            layer: "landlock",
            errno: 0,
            message: "demanded, but the kernel does not enforce it".to_owned(),
        }),
        (RulesetStatus::NotEnforced, Wanted::Best | Wanted::None) => Ok("none"),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Network {
    Open,
    /// No TCP port to bind or connect to.
    Closed,
}

struct Rules(RulesetCreated);

impl Rules {
    fn new(network: Network) -> Result<Self, Error> {
        let handle = || {
            let ruleset = Ruleset::default()
                .set_compatibility(CompatLevel::BestEffort)
                .handle_access(AccessFs::from_all(TRIED))?
                .scope(Scope::from_all(TRIED))?;
            match network {
                Network::Open => ruleset.create(),
                Network::Closed => ruleset.handle_access(AccessNet::from_all(TRIED))?.create(),
            }
        };
        handle().map(Self).map_err(refused)
    }

    /// Paths of the host: those that are not there are left out.
    fn system(&mut self, paths: &[&str], access: BitFlags<AccessFs>) -> Result<(), Error> {
        let found = paths.iter().filter_map(|path| PathFd::new(path).ok());
        found
            .into_iter()
            .try_for_each(|path| self.add(path, access))
    }

    /// Paths of this job: each must be there, or the job would fail later and stranger.
    /// Links are followed, so that a mirror may be one.
    fn job<P: AsRef<Path>>(
        &mut self,
        paths: impl IntoIterator<Item = P>,
        access: BitFlags<AccessFs>,
    ) -> Result<(), Error> {
        for path in paths {
            let path = path.as_ref();
            let opened = PathFd::new(path).map_err(|error| missing(path, &error))?;
            self.add(opened, access)?;
        }
        Ok(())
    }

    fn add(&mut self, path: PathFd, access: BitFlags<AccessFs>) -> Result<(), Error> {
        // Rights that a file cannot have are left out for files by the crate.
        (&mut self.0)
            .add_rule(PathBeneath::new(path, access))
            .map(drop)
            .map_err(refused)
    }
}

fn read_only() -> BitFlags<AccessFs> {
    make_bitflags!(AccessFs::{ReadFile | ReadDir})
}

fn read_execute() -> BitFlags<AccessFs> {
    read_only() | AccessFs::Execute
}

/// All that changes files except making devices.
fn write_all() -> BitFlags<AccessFs> {
    AccessFs::from_write(TRIED) & !make_bitflags!(AccessFs::{MakeChar | MakeBlock | IoctlDev})
}

fn device() -> BitFlags<AccessFs> {
    make_bitflags!(AccessFs::{ReadFile | WriteFile | IoctlDev})
}

fn missing(path: &Path, error: &dyn std::error::Error) -> Error {
    let errno = error
        .source()
        .and_then(|source| source.downcast_ref::<std::io::Error>())
        .and_then(std::io::Error::raw_os_error);
    Error {
        layer: "landlock",
        errno: errno.unwrap_or(0),
        message: format!("cannot open {}: {error}", path.display()),
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape `map_err` takes without a closure at each of its uses"
)]
fn refused(error: RulesetError) -> Error {
    Error {
        layer: "landlock",
        errno: 0,
        message: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::skip::skip;

    #[test]
    fn levels_are_words_of_ours() {
        assert_eq!(Wanted::parse(""), Ok(Wanted::Best));
        assert_eq!(Wanted::parse("landlock"), Ok(Wanted::Landlock));
        assert!(Wanted::parse("Landlock").is_err());
    }

    /// Landlock holds for the calling thread: the test thread ends with it.
    #[test]
    fn a_worker_reads_its_own_files_and_no_others() {
        let jobs = tempfile::tempdir().expect("tempdir");
        let mine = JobDir::create(jobs.path(), "a").expect("create");
        let other = JobDir::create(jobs.path(), "b").expect("create");
        std::fs::write(other.state(), "secret").expect("state");
        std::fs::write(mine.journal(), "ours").expect("journal");
        let mirror = jobs.path().join("mirror");
        std::fs::create_dir(&mirror).expect("mirror");
        std::fs::write(mirror.join("plugin"), "p").expect("plugin");
        let link = jobs.path().join("link");
        std::os::unix::fs::symlink(&mirror, &link).expect("link");
        let through = link.join("plugin");
        std::thread::spawn(move || {
            let read = [link.display().to_string()];
            if worker(&mine, &read, Wanted::Best) != Ok("landlock") {
                return skip("a worker's rules", "this kernel has no Landlock");
            }
            assert!(std::fs::read(other.state()).is_err(), "another job");
            assert!(std::fs::read(mine.journal()).is_err(), "the journal");
            assert!(std::fs::read(through).is_ok(), "a mirror behind a link");
            std::fs::write(mine.state(), "own").expect("keep is writable");
            std::fs::rename(mine.state(), mine.work().join("state")).expect("rename");
            let made = std::fs::write(mine.out().join("9-plan.stdout"), "");
            assert!(made.is_err(), "output is made by the supervisor");
        })
        .join()
        .expect("confined");
    }

    #[test]
    fn an_engine_does_not_see_what_else_the_host_keeps_in_opt() {
        let places = open_to_engines(None);
        for closed in [
            "/opt/app/secret",
            "/nix/store/x/secret",
            "/root/key",
            "/etc/shadow",
        ] {
            let seen = places
                .iter()
                .any(|place| Path::new(closed).starts_with(place));
            assert!(!seen, "{closed}");
        }
        let Ok(own) = tempfile::tempdir_in("/opt") else {
            return skip("an engine in /opt", "/opt is not ours to write");
        };
        let engine = own.path().join("terraform");
        std::fs::write(&engine, "").expect("engine");
        assert_eq!(own_directory(&engine), Some(own.path().to_owned()));
    }

    #[test]
    fn an_engine_in_a_home_opens_nothing_of_the_home() {
        let home = tempfile::tempdir().expect("home");
        let engine = home.path().join("terraform");
        std::fs::write(&engine, "").expect("engine");
        assert_eq!(own_directory(&engine), None);
    }

    #[test]
    fn a_path_that_is_not_there_is_named() {
        let jobs = tempfile::tempdir().expect("tempdir");
        let dir = JobDir::create(jobs.path(), "a").expect("create");
        let read = ["/nowhere/mirror".to_owned()];
        let refused = worker(&dir, &read, Wanted::Best).expect_err("missing");
        assert!(refused.message.contains("/nowhere/mirror"), "{refused}");
    }
}
