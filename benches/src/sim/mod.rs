//! Simulated daemons that speak the real protocol, without supervisors, workers or engines,
//! and the client that gives them work; a queue in this process for who needs no more.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use proto::v1::CreateKeyRequest;
use tonic::Status;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

mod client;
mod daemon;

pub use client::Client;
pub use daemon::{Answer, HandOut, SimDaemon, line};

/// Adds the credential and identity to each call.
#[derive(Clone)]
pub struct Headers(Vec<(&'static str, tonic::metadata::AsciiMetadataValue)>);

/// A channel on which each call says who asks.
pub type Named = InterceptedService<Channel, Headers>;

impl Interceptor for Headers {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
        for (name, value) in &self.0 {
            request.metadata_mut().insert(*name, value.clone());
        }
        Ok(request)
    }
}

/// A queue on SQLite in a temporary directory.
pub struct Queue {
    service: queue::Service,
    /// Where its data lies.
    _dir: tempfile::TempDir,
    url: String,
}

impl Queue {
    /// Starts it on a free loopback port.
    pub async fn start() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let options = queue::Options::new(dir.path().to_owned(), "127.0.0.1:0".parse()?);
        let service = queue::start(options).await?;
        let url = format!("http://{}", service.grpc_addr());
        Ok(Self {
            service,
            _dir: dir,
            url,
        })
    }

    /// A management client with the admin token.
    pub async fn client(&self) -> Result<Client> {
        let token = self.service.admin_token().context("an admin token")?;
        Client::connect(&self.url, token.expose()).await
    }

    /// A provisioner key that carries `tags`.
    pub async fn key(&self, client: &mut Client, tags: BTreeMap<String, String>) -> Result<String> {
        let request = CreateKeyRequest {
            name: "bench".to_owned(),
            tags: tags.into_iter().collect(),
        };
        let made = client.management.create_key(request).await?;
        Ok(made.into_inner().key)
    }

    /// A simulated daemon of this name, on a connection of its own.
    pub async fn daemon(&self, key: &str, name: &str) -> Result<SimDaemon> {
        let channel = Channel::from_shared(self.url.clone())?.connect().await?;
        SimDaemon::over(channel, key, name)
    }

    /// Ends it.
    pub async fn stop(self) {
        self.service.shutdown().await;
    }
}
