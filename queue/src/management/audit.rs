//! The audit log, for admins: of their organization, and for those of the whole queue also
//! what strangers tried.

use proto::limits;
use proto::v1;
use tonic::Status;

use crate::auth::Client;
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::store::Store;
use crate::store::model::AuditFilter;

/// Lines of a page that names no limit.
const LISTED: u32 = 100;

pub async fn list<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    request: v1::ListAuditRequest,
) -> Result<v1::ListAuditReply, Status> {
    client.must_be_admin("read the audit log")?;
    if request.strangers && client.bound_to.is_some() {
        let message = "a token of one organization cannot see what strangers tried";
        return Err(Refusal::not_allowed("ORGANIZATION_NOT_ALLOWED", message).into());
    }
    let filter = AuditFilter {
        organization: if request.strangers {
            String::new()
        } else {
            client.organization.clone()
        },
        since_ms: request.since_ms,
        actor: request.actor,
        call: request.call,
        object: request.object,
        before: Some(request.before).filter(|before| *before > 0),
        limit: match request.limit {
            0 => LISTED,
            limit => limit.min(limits::AUDIT_PAGE),
        },
    };
    Ok(shared.store.audit(filter).await?)
}
