//! The workspace of a quickstart: made once, updated by each later run.

use proto::v1::{self, Priority, Transition};

use super::Quickstart;
use crate::failure::Failure;

impl Quickstart<'_> {
    /// Makes the workspace, or updates the one of the last run.
    ///
    /// # Errors
    /// The queue refuses it.
    pub(super) async fn build(&mut self) -> Result<v1::BuildReply, Failure> {
        let request = v1::GetWorkspaceRequest {
            name: self.name.clone(),
            owner: String::new(),
        };
        let known = match self.client.get_workspace(request).await {
            Ok(workspace) => !workspace.deleted,
            Err(failure) if failure.code.ends_with("NOT_FOUND") => false,
            Err(failure) => return Err(failure),
        };
        let parameters = self.options.parameters.clone();
        if known {
            self.context
                .say(&format!("update  workspace {}", self.name));
            let request = v1::BuildWorkspaceRequest {
                name: self.name.clone(),
                transition: Transition::Start.into(),
                parameters,
                update: true,
                priority: Priority::Interactive.into(),
                ..v1::BuildWorkspaceRequest::default()
            };
            return self.client.build_workspace(request).await;
        }
        self.context
            .say(&format!("create  workspace {}", self.name));
        let request = v1::CreateWorkspaceRequest {
            name: self.name.clone(),
            template: self.name.clone(),
            owner: String::new(),
            parameters,
            priority: Priority::Interactive.into(),
            ..v1::CreateWorkspaceRequest::default()
        };
        self.client.create_workspace(request).await
    }
}
