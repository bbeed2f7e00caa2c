//! Certificates of both sides: those of the queue's tests, which protect nothing.

use std::path::{Path, PathBuf};

use anyhow::Result;
use provisionerd::connect::ClientTls;

macro_rules! pem {
    ($name:literal) => {
        (
            $name,
            include_str!(concat!("../../../queue/tests/integration/tls/", $name)),
        )
    };
}

const FILES: [(&str, &str); 5] = [
    pem!("ca.pem"),
    pem!("server.pem"),
    pem!("server.key"),
    pem!("client.pem"),
    pem!("client.key"),
];

/// The files, in a directory of the run.
pub struct Tls(PathBuf);

impl Tls {
    /// Writes them.
    pub fn write(dir: &Path) -> Result<Self> {
        for (name, text) in FILES {
            std::fs::write(dir.join(name), text)?;
        }
        Ok(Self(dir.to_owned()))
    }

    /// For who dials.
    pub fn client(&self) -> ClientTls {
        ClientTls {
            ca_file: Some(self.0.join("ca.pem")),
            cert_file: Some(self.0.join("client.pem")),
            key_file: Some(self.0.join("client.key")),
        }
    }

    /// Flags of who dials.
    pub fn dial_flags(&self) -> Vec<String> {
        let files = [
            ("--tls-ca-file", "ca.pem"),
            ("--tls-cert-file", "client.pem"),
            ("--tls-key-file", "client.key"),
        ];
        self.flags(&files)
    }

    /// Flags of who listens; only clients with a certificate may connect.
    pub fn listen_flags(&self) -> Vec<String> {
        let files = [
            ("--tls-cert-file", "server.pem"),
            ("--tls-key-file", "server.key"),
            ("--tls-client-ca-file", "ca.pem"),
        ];
        self.flags(&files)
    }

    fn flags(&self, files: &[(&str, &str)]) -> Vec<String> {
        let pair = |(flag, name): &(&str, &str)| {
            let path = self.0.join(name).display().to_string();
            [(*flag).to_owned(), path]
        };
        files.iter().flat_map(pair).collect()
    }
}
