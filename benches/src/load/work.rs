//! What the clients submit: a template, workspaces of it, their builds.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use tokio::task::JoinSet;

use super::crew::{Crew, Recruits};
use super::job::Work;
use super::world::World;
use crate::sim::Client;

/// The one that daemons of the pool build.
pub const TEMPLATE: &str = "load";

/// Clients that make workspaces, each on its own connection.
const MAKERS: usize = 16;

/// A workspace, by name and owner.
#[derive(Debug, Clone)]
pub struct Workspace {
    /// Unique.
    pub name: String,
    /// Whose jobs its builds are.
    pub owner: String,
}

impl Workspace {
    /// Submits a build of it; its job.
    pub async fn build(&self, client: &mut Client) -> Result<String> {
        client.start(&self.name, &self.owner).await
    }
}

/// Pushes a template for daemons with these tags, and sees its import done.
pub async fn import(world: &World, name: &str, tags: &[(String, String)]) -> Result<()> {
    let recruits = Recruits {
        count: 1,
        name: format!("importer-{name}"),
        tags: tags.to_vec(),
        work: Work::NONE,
    };
    let importer = Crew::enlist(world, &recruits);
    let mut client = world.client()?;
    let archive = client.upload(&archive(&[("main.tf", "")])?).await?;
    let job = client.push(name, &archive, tags).await?;
    let imported = world.hub.end(&job).await;
    drop(importer);
    imported.context("the import")?;
    Ok(())
}

/// So many workspaces of so many owners, whose first builds some daemon does at once.
pub async fn workspaces(world: &World, count: usize, owners: usize) -> Result<Vec<Workspace>> {
    let builders = world.crew("builder", MAKERS, Work::WHOLE).await?;
    let made: Vec<Workspace> = (0..count)
        .map(|number| Workspace {
            name: format!("w-{number}"),
            owner: format!("owner-{}", number % owners),
        })
        .collect();
    let (next, all) = (Arc::new(AtomicUsize::new(0)), Arc::new(made.clone()));
    let mut makers = JoinSet::new();
    for _ in 0..MAKERS {
        let (mut client, next) = (world.client()?, next.clone());
        let (all, hub) = (all.clone(), world.hub.clone());
        makers.spawn(async move {
            while let Some(workspace) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                let (name, owner) = (&workspace.name, &workspace.owner);
                let job = client.create(name, owner, TEMPLATE).await?;
                hub.end(&job).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(maker) = makers.join_next().await {
        maker??;
    }
    drop(builders);
    Ok(made)
}

/// A template archive of these files.
pub fn archive(files: &[(&str, &str)]) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        archive.append_data(&mut header, name, text.as_bytes())?;
    }
    Ok(archive.into_inner()?)
}
