//! Who submits: a client of the management API with an admin's token.

use anyhow::{Context as _, Result};
use proto::ids::Digest;
use proto::v1::management_client::ManagementClient;
use proto::v1::{
    BlobRef, BuildWorkspaceRequest, CreateWorkspaceRequest, JobView, PlanTemplateRequest,
    PushTemplateRequest, PutBlobHeader, PutBlobRequest, Transition, put_blob_request,
};
use tonic::transport::Channel;

use super::{Headers, Named};

/// A management client of the queue under test; clones share its connection.
#[derive(Clone)]
pub struct Client {
    /// The generated client.
    pub management: ManagementClient<Named>,
}

impl Client {
    /// On a connection of its own, without TLS.
    pub async fn connect(url: &str, token: &str) -> Result<Self> {
        let channel = Channel::from_shared(url.to_owned())?.connect().await?;
        Self::over(channel, token)
    }

    /// On this connection.
    pub fn over(channel: Channel, token: &str) -> Result<Self> {
        let headers = Headers(vec![("authorization", format!("Bearer {token}").parse()?)]);
        let management = ManagementClient::with_interceptor(channel, headers);
        Ok(Self {
            management: management.max_decoding_message_size(proto::limits::GRPC_MESSAGE),
        })
    }

    /// Uploads an archive.
    pub async fn upload(&mut self, bytes: &[u8]) -> Result<BlobRef> {
        let blob = BlobRef {
            sha256: Digest::of(bytes).as_bytes().to_vec(),
            size: bytes.len() as u64,
        };
        let header = put_blob_request::Message::Header(PutBlobHeader {
            blob: Some(blob.clone()),
            ..PutBlobHeader::default()
        });
        let data = put_blob_request::Message::Data(bytes.to_vec().into());
        let parts = [header, data].map(|message| PutBlobRequest {
            message: Some(message),
        });
        self.management.upload(tokio_stream::iter(parts)).await?;
        Ok(blob)
    }

    /// Submits one import job; the reply comes after COMMIT.
    pub async fn submit(&mut self, archive: &BlobRef) -> Result<()> {
        self.push("bench", archive, &[]).await?;
        Ok(())
    }

    /// A version of a template, active once imported; its import job.
    pub async fn push(
        &mut self,
        name: &str,
        archive: &BlobRef,
        tags: &[(String, String)],
    ) -> Result<String> {
        let request = PushTemplateRequest {
            name: name.to_owned(),
            archive: Some(archive.clone()),
            tags: tags.iter().cloned().collect(),
            activate: true,
            ..PushTemplateRequest::default()
        };
        let pushed = self.management.push_template(request).await?;
        job_of(pushed.into_inner().job)
    }

    /// A workspace and its first build; that build's job.
    pub async fn create(&mut self, name: &str, owner: &str, template: &str) -> Result<String> {
        let request = CreateWorkspaceRequest {
            name: name.to_owned(),
            owner: owner.to_owned(),
            template: template.to_owned(),
            ..CreateWorkspaceRequest::default()
        };
        let created = self.management.create_workspace(request).await?;
        job_of(created.into_inner().job)
    }

    /// A start build of a workspace; its job.
    pub async fn start(&mut self, name: &str, owner: &str) -> Result<String> {
        let request = BuildWorkspaceRequest {
            name: name.to_owned(),
            owner: owner.to_owned(),
            transition: Transition::Start.into(),
            ..BuildWorkspaceRequest::default()
        };
        let built = self.management.build_workspace(request).await?;
        job_of(built.into_inner().job)
    }

    /// A dry run of a template; its job.
    pub async fn plan(&mut self, template: &str, owner: &str) -> Result<String> {
        let request = PlanTemplateRequest {
            name: template.to_owned(),
            owner: owner.to_owned(),
            ..PlanTemplateRequest::default()
        };
        let job = self.management.plan_template(request).await?;
        job_of(Some(job.into_inner()))
    }
}

fn job_of(view: Option<JobView>) -> Result<String> {
    Ok(view.context("a submit without a job")?.id)
}
