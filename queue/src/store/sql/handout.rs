//! Everything a worker needs to know of a job, gathered for a hand-out.

use std::collections::HashMap;

use proto::ids::LeaseId;
use proto::v1;

use super::Snapshot;
use super::asked::First;
use super::codec::{
    Parameters, Variables, count, digest, lease, message, message_or_null, tags, word, word_or_null,
};
use super::rows::{Row, Value};
use crate::lease::Side;
use crate::store::{Result, secrets};
use crate::words::{Kind, Transition};

const HEADER: &str = "SELECT j.id, j.kind, j.lease, j.attempt, j.organization, s.tags, j.trace, \
     j.parameters, v.engine, v.archive, a.size, v.variables, v.facts, v.id, v.number, t.id, \
     t.name, o.id, o.name, o.email, o.full_name, o.groups_json, b.transition, b.id, w.id, w.name, \
     p.parameters, st.digest, st.size \
     FROM jobs j JOIN tagsets s ON s.id = j.tagset JOIN template_versions v ON v.id = j.version \
     JOIN templates t ON t.id = v.template JOIN blobs a ON a.digest = v.archive \
     LEFT JOIN workspaces w ON w.id = j.workspace \
     JOIN owners o ON o.organization = j.organization AND o.name = COALESCE(w.owner, j.owner) \
     LEFT JOIN builds b ON b.job = j.row \
     LEFT JOIN builds pb ON pb.workspace = b.workspace AND pb.number = b.number - 1 \
     LEFT JOIN jobs p ON p.row = pb.job LEFT JOIN states st ON st.id = b.state_in \
     WHERE j.row = ?1";

impl Snapshot<'_> {
    /// The question for the wire's header of a job that was just offered. The caller adds what only the
    /// service knows: the access URL.
    pub(super) fn handed_out(
        self,
        row: i64,
    ) -> First<'static, v1::Job, impl FnMut(Row<'_>) -> Result<v1::Job>> {
        First::of(HEADER, &[Value::Int(Some(row))], move |row| {
            let attempt = row.get(3)?;
            Ok(v1::Job {
                lease: lease(row, 2)?.map(|lease| self.offered_lease(lease, attempt)),
                ..header(row)?
            })
        })
    }

    /// An offer is not trusted at all; the lease begins with the confirm.
    fn offered_lease(self, lease: LeaseId, attempt: u32) -> v1::Lease {
        let left = self.timings.lease_pending;
        crate::lease::remaining(lease, attempt, left, Side::BeforeGate, self.timings)
    }
}

fn header(row: Row<'_>) -> Result<v1::Job> {
    let kind = word(row, 1, Kind::from_text)?;
    let facts: Option<v1::TemplateFacts> = message_or_null(row, 12)?;
    Ok(v1::Job {
        id: row.get(0)?,
        kind: kind.into(),
        lease: None,
        organization: row.get(4)?,
        tags: tags(row, 5)?.into_iter().collect(),
        engine: row.get(8)?,
        archive: Some(blob(row, 9, 10)?),
        state: state(row)?,
        variables: secrets::marked(message::<Variables>(row, 11)?.list, facts.as_ref()),
        parameters: message::<Parameters>(row, 7)?.list,
        previous_parameters: message::<Parameters>(row, 26)?.list,
        metadata: Some(metadata(row)?),
        trace_context: word(row, 6, |text| {
            serde_json::from_str::<HashMap<String, String>>(text).ok()
        })?,
        template: row.get(16)?,
        template_version_id: row.get(13)?,
        external_auth: Vec::new(),
        lock_file: facts.map(|facts| facts.lock_file).unwrap_or_default(),
    })
}

fn state(row: Row<'_>) -> Result<Option<v1::BlobRef>> {
    match row.bytes_or_null(27)? {
        None => Ok(None),
        Some(_) => blob(row, 27, 28).map(Some),
    }
}

fn blob(row: Row<'_>, name: usize, size: usize) -> Result<v1::BlobRef> {
    Ok(v1::BlobRef {
        sha256: digest(row, name)?.as_bytes().to_vec(),
        size: count(row.get(size)?),
    })
}

fn metadata(row: Row<'_>) -> Result<v1::WorkspaceMetadata> {
    let text = |index: usize| {
        row.get::<Option<String>>(index)
            .map(Option::unwrap_or_default)
    };
    let transition = word_or_null(row, 22, Transition::from_text)?;
    Ok(v1::WorkspaceMetadata {
        transition: transition.unwrap_or(Transition::Start).into(),
        workspace_id: text(24)?,
        workspace_name: text(25)?,
        workspace_build_id: text(23)?,
        owner_id: text(17)?,
        owner_name: text(18)?,
        owner_email: text(19)?,
        owner_full_name: text(20)?,
        owner_groups: word(row, 21, |text| serde_json::from_str(text).ok())?,
        owner_rbac_roles_json: "[]".to_owned(),
        template_id: text(15)?,
        template_name: text(16)?,
        template_version: row.get::<u32>(14)?.to_string(),
        ..v1::WorkspaceMetadata::default()
    })
}
