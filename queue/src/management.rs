//! The service that people, scripts and dashboards call: one file per noun. Here the
//! calls are wired; the guard has checked the caller's token, and what the caller may do is
//! decided where it is done.

mod audit;
mod daemons;
mod identity;
mod jobs;
mod limits;
mod live;
mod object;
mod owners;
mod placement;
mod resolve;
mod states;
mod templates;
mod unclaimed;
mod uploads;
mod workspaces;

use proto::v1;
use proto::v1::management_server::Management;
use tonic::{Request, Response, Status, Streaming};

use crate::audit::spelled;
use crate::auth::Client;
use crate::fleet::Replies;
use crate::guard;
use crate::shared::Shared;
use crate::store::Store;
use object::Named as _;

/// See the module.
#[derive(Debug, Clone)]
pub struct ManagementService<S>(pub Shared<S>);

fn client<T>(request: &mut Request<T>) -> Result<Client, Status> {
    guard::caller(request)
}

/// Writes the service: for each call its name, request, reply and the function that
/// answers it for an authenticated client. Calls that change something, or show what is
/// secret, stand apart: each is noted in the audit log, done or refused.
macro_rules! management {
    (
        shows { $($name:ident: $request:ty => $reply:ty = $answer:path;)* }
        noted { $($change:ident: $asked:ty => $changed:ty = $does:path;)* }
    ) => {
        #[tonic::async_trait]
        impl<S: Store> Management for ManagementService<S> {
            type WatchJobStream = Replies<v1::JobView>;
            type StreamLogsStream = Replies<v1::LogBatch>;
            type PullStateStream = Replies<v1::BlobChunk>;
            type PullUnclaimedStream = Replies<v1::BlobChunk>;

            async fn upload(
                &self,
                mut request: Request<Streaming<v1::PutBlobRequest>>,
            ) -> Result<Response<v1::PutBlobReply>, Status> {
                let client = client(&mut request)?;
                let reply = uploads::upload(&self.0, client, request.into_inner()).await?;
                Ok(Response::new(reply))
            }

            $(async fn $name(
                &self,
                mut request: Request<$request>,
            ) -> Result<Response<$reply>, Status> {
                let client = client(&mut request)?;
                let answer = $answer(&self.0, &client, request.into_inner()).await;
                let told = |status: &Status| {
                    self.0.refused(&client, stringify!($name), status);
                };
                Ok(Response::new(answer.inspect_err(told)?))
            })*

            $(async fn $change(
                &self,
                mut request: Request<$asked>,
            ) -> Result<Response<$changed>, Status> {
                let client = client(&mut request)?;
                let request = request.into_inner();
                let call = spelled(stringify!($change));
                let client = client.doing(call, &request.object());
                let answer = $does(&self.0, &client, request).await;
                let told = |status: &Status| {
                    self.0.refused(&client, stringify!($change), status);
                };
                Ok(Response::new(answer.inspect_err(told)?))
            })*
        }
    };
}

management! {
    shows {
        get_info: v1::GetInfoRequest => v1::GetInfoReply = identity::info;
        list_organizations: v1::ListOrganizationsRequest => v1::ListOrganizationsReply
            = identity::list_organizations;
        list_keys: v1::ListKeysRequest => v1::ListKeysReply = identity::list_keys;
        list_tokens: v1::ListTokensRequest => v1::ListTokensReply = identity::list_tokens;

        list_templates: v1::ListTemplatesRequest => v1::ListTemplatesReply = templates::list;
        get_template: v1::GetTemplateRequest => v1::Template = templates::get;
        list_template_versions: v1::ListTemplateVersionsRequest => v1::ListTemplateVersionsReply
            = templates::versions;

        list_workspaces: v1::ListWorkspacesRequest => v1::ListWorkspacesReply = workspaces::list;
        get_workspace: v1::GetWorkspaceRequest => v1::Workspace = workspaces::get;

        list_jobs: v1::ListJobsRequest => v1::ListJobsReply = jobs::list;
        get_job: v1::GetJobRequest => v1::JobView = jobs::get;
        get_ledger: v1::GetJobRequest => v1::GetLedgerReply = jobs::ledger;
        watch_job: v1::GetJobRequest => Replies<v1::JobView> = live::watch;
        stream_logs: v1::StreamLogsRequest => Replies<v1::LogBatch> = live::logs;

        list_daemons: v1::ListDaemonsRequest => v1::ListDaemonsReply = daemons::list;
        state_history: v1::StateHistoryRequest => v1::StateHistoryReply = states::history;
        list_owners: v1::ListOwnersRequest => v1::ListOwnersReply = owners::list;
        list_unclaimed: v1::ListUnclaimedRequest => v1::ListUnclaimedReply = unclaimed::list;
        list_limits: v1::ListLimitsRequest => v1::ListLimitsReply = limits::list;
        list_audit: v1::ListAuditRequest => v1::ListAuditReply = audit::list;
    }
    noted {
        create_organization: v1::CreateOrganizationRequest => v1::Organization
            = identity::create_organization;
        create_key: v1::CreateKeyRequest => v1::CreateKeyReply = identity::create_key;
        delete_key: v1::DeleteKeyRequest => v1::DeleteKeyReply = identity::delete_key;
        create_token: v1::CreateTokenRequest => v1::CreateTokenReply = identity::create_token;
        delete_token: v1::DeleteTokenRequest => v1::DeleteTokenReply = identity::delete_token;

        push_template: v1::PushTemplateRequest => v1::PushTemplateReply = templates::push;
        promote_template_version: v1::PromoteTemplateVersionRequest => v1::Template
            = templates::promote;
        plan_template: v1::PlanTemplateRequest => v1::JobView = templates::plan;

        create_workspace: v1::CreateWorkspaceRequest => v1::BuildReply = workspaces::create;
        build_workspace: v1::BuildWorkspaceRequest => v1::BuildReply = workspaces::build;
        forget_resources: v1::ForgetResourcesRequest => v1::ForgetResourcesReply
            = workspaces::forget;

        cancel_job: v1::CancelJobRequest => v1::JobView = jobs::cancel;
        retry_job: v1::GetJobRequest => v1::BuildReply = jobs::retry;
        abandon_job: v1::AbandonJobRequest => v1::JobView = jobs::abandon;

        drain_daemon: v1::DrainDaemonRequest => v1::Daemon = daemons::drain;
        undrain_daemon: v1::UndrainDaemonRequest => v1::Daemon = daemons::undrain;

        pull_state: v1::PullStateRequest => Replies<v1::BlobChunk> = states::pull;
        push_state: v1::PushStateRequest => v1::StateRecord = states::push;
        adopt_state: v1::ResolveStateRequest => v1::StateRecord = states::adopt;
        discard_state: v1::ResolveStateRequest => v1::StateRecord = states::discard;

        put_owner: v1::Owner => v1::Owner = owners::put;
        set_limit: v1::SetLimitRequest => v1::Limit = limits::set;
        discard_unclaimed: v1::DiscardUnclaimedRequest => v1::UnclaimedFinish
            = unclaimed::discard;
        pull_unclaimed: v1::PullUnclaimedRequest => Replies<v1::BlobChunk> = unclaimed::pull;
    }
}
