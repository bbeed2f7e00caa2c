//! A wire between two network namespaces that can swallow everything: no reset, no ICMP,
//! no link that goes down. Each end is told a wrong hardware address of the other, so
//! that every frame leaves and nobody takes it.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, ensure};

/// Address of the queue's end.
pub const QUEUE: &str = "10.77.0.1";
const DAEMON: &str = "10.77.0.2";
const QUEUES_MAC: &str = "02:00:00:00:00:01";
const DAEMONS_MAC: &str = "02:00:00:00:00:02";
const NOBODYS_MAC: &str = "02:00:00:00:00:ff";
/// Of both ends, each in its own namespace.
const DEVICE: &str = "wire";

/// Tells wires of this process apart.
static MADE: AtomicU32 = AtomicU32::new(0);

/// Two namespaces and what joins them; gone when dropped.
#[derive(Debug)]
pub struct Wire {
    /// Name of the queue's namespace.
    pub queue: String,
    /// Name of the daemon's.
    pub daemon: String,
}

impl Wire {
    /// Why no wire can be made here, if so.
    #[must_use]
    pub fn impossible() -> Option<String> {
        if !nix::unistd::geteuid().is_root() {
            return Some("network namespaces need root".to_owned());
        }
        let missing = ["ip", "nsenter"]
            .into_iter()
            .find(|tool| Command::new(tool).arg("-V").output().is_err());
        missing.map(|tool| format!("`{tool}` is not installed"))
    }

    /// A wire that carries everything.
    ///
    /// # Errors
    /// Not root, or no iproute2.
    pub fn new() -> Result<Self> {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = |end: &str| format!("{end}-{}-{number}", std::process::id());
        let wire = Self {
            queue: name("pdq"),
            daemon: name("pdd"),
        };
        ip(&["netns", "add", &wire.queue])?;
        ip(&["netns", "add", &wire.daemon])?;
        let peer = ["type", "veth", "peer", "name", DEVICE, "netns"];
        let link = ["-n", &wire.queue, "link", "add", DEVICE];
        ip(&[&link[..], &peer, &[wire.daemon.as_str()]].concat())?;
        for (end, mac, address) in [
            (&wire.queue, QUEUES_MAC, QUEUE),
            (&wire.daemon, DAEMONS_MAC, DAEMON),
        ] {
            let network = format!("{address}/30");
            ip(&["-n", end, "link", "set", DEVICE, "address", mac])?;
            ip(&["-n", end, "address", "add", &network, "dev", DEVICE])?;
            ip(&["-n", end, "link", "set", DEVICE, "up"])?;
            ip(&["-n", end, "link", "set", "lo", "up"])?;
        }
        wire.mend()?;
        Ok(wire)
    }

    /// From here on nothing arrives.
    ///
    /// # Errors
    /// The namespaces are gone.
    pub fn cut(&self) -> Result<()> {
        self.know(NOBODYS_MAC, NOBODYS_MAC)
    }

    /// Everything arrives again.
    ///
    /// # Errors
    /// The namespaces are gone.
    pub fn mend(&self) -> Result<()> {
        self.know(QUEUES_MAC, DAEMONS_MAC)
    }

    fn know(&self, queues: &str, daemons: &str) -> Result<()> {
        for (end, address, mac) in [
            (&self.daemon, QUEUE, queues),
            (&self.queue, DAEMON, daemons),
        ] {
            let neighbour = ["-n", end, "neigh", "replace", address, "lladdr", mac];
            ip(&[&neighbour[..], &["dev", DEVICE, "nud", "permanent"]].concat())?;
        }
        Ok(())
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for end in [&self.queue, &self.daemon] {
            // One that was never made is no matter.
            let _ = ip(&["netns", "delete", end]);
        }
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    let ran = Command::new("ip").args(arguments).output();
    let ran = ran.context("ip of iproute2")?;
    let said = String::from_utf8_lossy(&ran.stderr);
    ensure!(ran.status.success(), "ip {arguments:?}: {said}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_wire_swallows_and_a_mended_one_carries() {
        if let Some(why) = Wire::impossible() {
            return eprintln!("skipped: wires between namespaces: {why}");
        }
        let wire = Wire::new().expect("wire");
        let reaches = || {
            let inside = format!("--net=/run/netns/{}", wire.daemon);
            let connect = format!("exec 3<>/dev/tcp/{QUEUE}/9");
            let mut command = Command::new("nsenter");
            command.args([&inside, "--", "timeout", "1", "bash", "-c", &connect]);
            let said = command.output().expect("nsenter").stderr;
            // Nobody listens: refused means that the packet arrived and came back.
            String::from_utf8_lossy(&said).contains("refused")
        };
        assert!(reaches());
        wire.cut().expect("cut");
        assert!(!reaches());
        wire.mend().expect("mend");
        assert!(reaches());
    }
}
