//! The service that people, scripts and dashboards call: one file per noun. Here the
//! calls are wired; the guard has checked the caller's token, and what the caller may do is
//! decided where it is done.

mod daemons;
mod identity;
mod jobs;
mod limits;
mod live;
mod owners;
mod placement;
mod resolve;
mod states;
mod templates;
mod unclaimed;
mod workspaces;

use proto::v1;
use proto::v1::management_server::Management;
use tonic::{Request, Response, Status, Streaming};

use crate::auth::Client;
use crate::fleet::Replies;
use crate::guard;
use crate::shared::Shared;
use crate::store::Store;
use crate::transfer::{self, Bearer};

/// See the module.
#[derive(Debug, Clone)]
pub struct ManagementService<S>(pub Shared<S>);

fn client<T>(request: &Request<T>) -> Result<Client, Status> {
    guard::caller(request)
}

/// Writes the service: for each call its name, request, reply and the function that
/// answers it for an authenticated client.
macro_rules! management {
    ($($name:ident: $request:ty => $reply:ty = $answer:path;)*) => {
        #[tonic::async_trait]
        impl<S: Store> Management for ManagementService<S> {
            type WatchJobStream = Replies<v1::JobView>;
            type StreamLogsStream = Replies<v1::LogBatch>;
            type PullStateStream = Replies<v1::BlobChunk>;
            type PullUnclaimedStream = Replies<v1::BlobChunk>;

            async fn upload(
                &self,
                request: Request<Streaming<v1::PutBlobRequest>>,
            ) -> Result<Response<v1::PutBlobReply>, Status> {
                let client = client(&request)?;
                let mut requests = request.into_inner();
                let header = transfer::header(&self.0, &mut requests).await?;
                let holder = client.holder();
                let bearer = Bearer::Token(client.live);
                let reply =
                    transfer::receive(&self.0, &header, holder, &bearer, requests).await?;
                Ok(Response::new(reply))
            }

            $(async fn $name(
                &self,
                request: Request<$request>,
            ) -> Result<Response<$reply>, Status> {
                let client = client(&request)?;
                let reply = $answer(&self.0, &client, request.into_inner()).await?;
                Ok(Response::new(reply))
            })*
        }
    };
}

management! {
    get_info: v1::GetInfoRequest => v1::GetInfoReply = identity::info;

    create_organization: v1::CreateOrganizationRequest => v1::Organization
        = identity::create_organization;
    list_organizations: v1::ListOrganizationsRequest => v1::ListOrganizationsReply
        = identity::list_organizations;
    create_key: v1::CreateKeyRequest => v1::CreateKeyReply = identity::create_key;
    list_keys: v1::ListKeysRequest => v1::ListKeysReply = identity::list_keys;
    delete_key: v1::DeleteKeyRequest => v1::DeleteKeyReply = identity::delete_key;
    create_token: v1::CreateTokenRequest => v1::CreateTokenReply = identity::create_token;
    list_tokens: v1::ListTokensRequest => v1::ListTokensReply = identity::list_tokens;
    delete_token: v1::DeleteTokenRequest => v1::DeleteTokenReply = identity::delete_token;

    push_template: v1::PushTemplateRequest => v1::PushTemplateReply = templates::push;
    list_templates: v1::ListTemplatesRequest => v1::ListTemplatesReply = templates::list;
    get_template: v1::GetTemplateRequest => v1::Template = templates::get;
    list_template_versions: v1::ListTemplateVersionsRequest => v1::ListTemplateVersionsReply
        = templates::versions;
    promote_template_version: v1::PromoteTemplateVersionRequest => v1::Template
        = templates::promote;
    plan_template: v1::PlanTemplateRequest => v1::JobView = templates::plan;

    create_workspace: v1::CreateWorkspaceRequest => v1::BuildReply = workspaces::create;
    build_workspace: v1::BuildWorkspaceRequest => v1::BuildReply = workspaces::build;
    list_workspaces: v1::ListWorkspacesRequest => v1::ListWorkspacesReply = workspaces::list;
    get_workspace: v1::GetWorkspaceRequest => v1::Workspace = workspaces::get;
    forget_resources: v1::ForgetResourcesRequest => v1::ForgetResourcesReply
        = workspaces::forget;

    list_jobs: v1::ListJobsRequest => v1::ListJobsReply = jobs::list;
    get_job: v1::GetJobRequest => v1::JobView = jobs::get;
    cancel_job: v1::CancelJobRequest => v1::JobView = jobs::cancel;
    retry_job: v1::GetJobRequest => v1::BuildReply = jobs::retry;
    abandon_job: v1::AbandonJobRequest => v1::JobView = jobs::abandon;
    get_ledger: v1::GetJobRequest => v1::GetLedgerReply = jobs::ledger;
    watch_job: v1::GetJobRequest => Replies<v1::JobView> = live::watch;
    stream_logs: v1::StreamLogsRequest => Replies<v1::LogBatch> = live::logs;

    list_daemons: v1::ListDaemonsRequest => v1::ListDaemonsReply = daemons::list;
    drain_daemon: v1::DrainDaemonRequest => v1::Daemon = daemons::drain;

    pull_state: v1::PullStateRequest => Replies<v1::BlobChunk> = states::pull;
    push_state: v1::PushStateRequest => v1::StateRecord = states::push;
    state_history: v1::StateHistoryRequest => v1::StateHistoryReply = states::history;
    adopt_state: v1::ResolveStateRequest => v1::StateRecord = states::adopt;
    discard_state: v1::ResolveStateRequest => v1::StateRecord = states::discard;

    put_owner: v1::Owner => v1::Owner = owners::put;
    list_owners: v1::ListOwnersRequest => v1::ListOwnersReply = owners::list;
    set_limit: v1::SetLimitRequest => v1::Limit = limits::set;
    list_limits: v1::ListLimitsRequest => v1::ListLimitsReply = limits::list;
    list_unclaimed: v1::ListUnclaimedRequest => v1::ListUnclaimedReply = unclaimed::list;
    pull_unclaimed: v1::PullUnclaimedRequest => Replies<v1::BlobChunk> = unclaimed::pull;
}
