//! What each call that is noted is about, by the name the caller gives it: no more of a
//! request than this ever stands in the audit log.

use proto::v1;

/// A request that is about something with a name.
pub trait Named {
    /// The name. Of a workspace whose owner is named, `owner/name`.
    fn object(&self) -> String;
}

macro_rules! named {
    ($($request:ident by $field:ident;)*) => {
        $(impl Named for v1::$request {
            fn object(&self) -> String {
                self.$field.to_string()
            }
        })*
    };
}

macro_rules! workspaces {
    ($($request:ident by $field:ident;)*) => {
        $(impl Named for v1::$request {
            fn object(&self) -> String {
                match self.owner.as_str() {
                    "" => self.$field.clone(),
                    owner => format!("{owner}/{}", self.$field),
                }
            }
        })*
    };
}

named! {
    CreateOrganizationRequest by name;
    CreateKeyRequest by name;
    DeleteKeyRequest by name;
    CreateTokenRequest by name;
    DeleteTokenRequest by name;
    PushTemplateRequest by name;
    PromoteTemplateVersionRequest by name;
    PlanTemplateRequest by name;
    CancelJobRequest by id;
    GetJobRequest by id;
    AbandonJobRequest by id;
    DrainDaemonRequest by name;
    UndrainDaemonRequest by name;
    Owner by name;
    PullUnclaimedRequest by id;
    DiscardUnclaimedRequest by id;
    SetLimitRequest by name;
}

workspaces! {
    CreateWorkspaceRequest by name;
    BuildWorkspaceRequest by name;
    ForgetResourcesRequest by name;
    PullStateRequest by workspace;
    PushStateRequest by workspace;
    ResolveStateRequest by workspace;
}
