//! The management API as commands use it: every call answers with its message or with
//! a failure that already says which exit code it deserves.

use std::fs::File;
use std::io::Read;

use bytes::Bytes;
use proto::ids::Digest;
use proto::limits;
use proto::secret::Secret;
use proto::v1::management_client::ManagementClient;
use proto::v1::{self, put_blob_request};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::connect::{self, Authenticated, Credentials, Target};
use crate::failure::Failure;
use crate::render::transfer::{Transfer, Transfers};

mod refusal;

pub use refusal::{Token, is_lost, is_pruned};

/// Chunks read ahead of the network.
const READ_AHEAD: usize = 4;

/// A connection of one command to the queue.
#[derive(Clone)]
pub struct Client {
    inner: ManagementClient<Authenticated>,
    url: String,
    token: Token,
}

/// A blob on its way to the queue.
pub struct Blob {
    /// Its bytes, from the current position.
    pub file: File,
    /// Of all bytes.
    pub digest: Digest,
    /// How many there are.
    pub size: u64,
}

impl Blob {
    /// How other messages name it.
    pub fn reference(&self) -> v1::BlobRef {
        v1::BlobRef {
            sha256: self.digest.as_bytes().to_vec(),
            size: self.size,
        }
    }
}

macro_rules! unary {
    ($($name:ident: $request:ident -> $reply:ident),* $(,)?) => {
        $(pub async fn $name(&mut self, request: v1::$request) -> Result<v1::$reply, Failure> {
            let reply = self.inner.$name(request).await;
            reply.map(tonic::Response::into_inner).map_err(|status| self.failure(&status))
        })*
    };
}

impl Client {
    /// Connects when the first call is made.
    ///
    /// # Errors
    /// The address, the TLS files or the token are unusable.
    pub fn new(
        target: &Target,
        token: Option<&Secret>,
        organization: &str,
    ) -> Result<Self, Failure> {
        let credentials = Credentials::client(token, Some(organization))
            .map_err(|e| unusable(&e))?
            .traced(|name| std::env::var(name).ok());
        let channel = target.channel().map_err(|e| unusable(&e))?;
        Ok(Self {
            inner: credentials.management(channel),
            url: target.url.clone(),
            token: if token.is_some() {
                Token::Given
            } else {
                Token::None
            },
        })
    }

    unary! {
        create_organization: CreateOrganizationRequest -> Organization,
        list_organizations: ListOrganizationsRequest -> ListOrganizationsReply,
        create_key: CreateKeyRequest -> CreateKeyReply,
        list_keys: ListKeysRequest -> ListKeysReply,
        delete_key: DeleteKeyRequest -> DeleteKeyReply,
        create_token: CreateTokenRequest -> CreateTokenReply,
        list_tokens: ListTokensRequest -> ListTokensReply,
        delete_token: DeleteTokenRequest -> DeleteTokenReply,
        push_template: PushTemplateRequest -> PushTemplateReply,
        list_templates: ListTemplatesRequest -> ListTemplatesReply,
        get_template: GetTemplateRequest -> Template,
        list_template_versions: ListTemplateVersionsRequest -> ListTemplateVersionsReply,
        promote_template_version: PromoteTemplateVersionRequest -> Template,
        plan_template: PlanTemplateRequest -> JobView,
        create_workspace: CreateWorkspaceRequest -> BuildReply,
        build_workspace: BuildWorkspaceRequest -> BuildReply,
        list_workspaces: ListWorkspacesRequest -> ListWorkspacesReply,
        get_workspace: GetWorkspaceRequest -> Workspace,
        forget_resources: ForgetResourcesRequest -> ForgetResourcesReply,
        list_jobs: ListJobsRequest -> ListJobsReply,
        get_job: GetJobRequest -> JobView,
        cancel_job: CancelJobRequest -> JobView,
        retry_job: GetJobRequest -> BuildReply,
        abandon_job: AbandonJobRequest -> JobView,
        get_ledger: GetJobRequest -> GetLedgerReply,
        list_daemons: ListDaemonsRequest -> ListDaemonsReply,
        drain_daemon: DrainDaemonRequest -> Daemon,
        undrain_daemon: UndrainDaemonRequest -> Daemon,
        push_state: PushStateRequest -> StateRecord,
        state_history: StateHistoryRequest -> StateHistoryReply,
        adopt_state: ResolveStateRequest -> StateRecord,
        discard_state: ResolveStateRequest -> StateRecord,
        put_owner: Owner -> Owner,
        set_limit: SetLimitRequest -> Limit,
        list_limits: ListLimitsRequest -> ListLimitsReply,
        list_owners: ListOwnersRequest -> ListOwnersReply,
        list_unclaimed: ListUnclaimedRequest -> ListUnclaimedReply,
        discard_unclaimed: DiscardUnclaimedRequest -> UnclaimedFinish,
        list_audit: ListAuditRequest -> ListAuditReply,
    }

    /// Sends a template archive or a state; nothing is sent twice that the queue has. How
    /// far it is shows `transfers`.
    ///
    /// # Errors
    /// The file cannot be read or the queue refuses it.
    pub async fn upload(
        &mut self,
        blob: Blob,
        transfers: Transfers,
    ) -> Result<v1::BlobRef, Failure> {
        let reference = blob.reference();
        let (sender, receiver) = tokio::sync::mpsc::channel(READ_AHEAD);
        let header = v1::PutBlobHeader {
            blob: Some(reference.clone()),
            ..v1::PutBlobHeader::default()
        };
        let transfer = transfers.begin("upload", Some(blob.size));
        let reader =
            tokio::task::spawn_blocking(move || read_ahead(header, blob.file, &sender, &transfer));
        let sent = self.inner.upload(ReceiverStream::new(receiver)).await;
        let read = reader.await.unwrap_or(Ok(()));
        read.map_err(|error| Failure::file("read", std::path::Path::new("the upload"), &error))?;
        sent.map_err(|status| self.failure(&status))?;
        Ok(reference)
    }

    /// The job now and at each change.
    ///
    /// # Errors
    /// There is no such job, or the queue does not answer.
    pub async fn watch_job(&mut self, id: &str) -> Result<Streaming<v1::JobView>, Status> {
        let request = v1::GetJobRequest { id: id.to_owned() };
        Ok(self.inner.watch_job(request).await?.into_inner())
    }

    /// Stored lines of a job.
    ///
    /// # Errors
    /// There is no such job, or the queue does not answer.
    pub async fn stream_logs(
        &mut self,
        request: v1::StreamLogsRequest,
    ) -> Result<Streaming<v1::LogBatch>, Status> {
        Ok(self.inner.stream_logs(request).await?.into_inner())
    }

    /// The bytes of a stored state, handed on as they come.
    ///
    /// # Errors
    /// There is no such state, the queue does not answer, or `take` fails.
    pub async fn pull_state(
        &mut self,
        request: v1::PullStateRequest,
        take: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let stream = self.inner.pull_state(request).await;
        let stream = stream.map_err(|status| self.failure(&status))?.into_inner();
        self.hand_on(stream, take).await
    }

    /// The bytes of the state of an unclaimed finish, handed on as they come.
    ///
    /// # Errors
    /// There is no such finish or it has no state, the queue does not answer, or `take`
    /// fails.
    pub async fn pull_unclaimed(
        &mut self,
        request: v1::PullUnclaimedRequest,
        take: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let stream = self.inner.pull_unclaimed(request).await;
        let stream = stream.map_err(|status| self.failure(&status))?.into_inner();
        self.hand_on(stream, take).await
    }

    async fn hand_on(
        &self,
        mut stream: Streaming<v1::BlobChunk>,
        mut take: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        while let Some(chunk) = stream.message().await.map_err(|s| self.failure(&s))? {
            take(&chunk.data)?;
        }
        Ok(())
    }

    /// What a refused or failed call means to a command.
    pub fn failure(&self, status: &Status) -> Failure {
        refusal::failure(status, &self.url, self.token)
    }
}

fn read_ahead(
    header: v1::PutBlobHeader,
    mut file: File,
    sender: &tokio::sync::mpsc::Sender<v1::PutBlobRequest>,
    transfer: &Transfer,
) -> std::io::Result<()> {
    let wrap = |message| v1::PutBlobRequest {
        message: Some(message),
    };
    // A receiver that is gone means that the queue has answered already.
    if sender
        .blocking_send(wrap(put_blob_request::Message::Header(header)))
        .is_err()
    {
        return Ok(());
    }
    loop {
        let mut chunk = Vec::with_capacity(limits::BLOB_CHUNK);
        let count = (&mut file)
            .take(limits::BLOB_CHUNK as u64)
            .read_to_end(&mut chunk)?;
        let data = put_blob_request::Message::Data(Bytes::from(chunk));
        if count == 0 || sender.blocking_send(wrap(data)).is_err() {
            return Ok(());
        }
        transfer.advance(count);
    }
}

fn unusable(error: &connect::Error) -> Failure {
    let mut message = error.to_string();
    if let Some(source) = std::error::Error::source(error) {
        message = format!("{message}: {source}");
    }
    Failure::usage(message)
}
