//! Templates and their versions.

use std::sync::LazyLock;

use prost::Message;
use proto::ids::{JobId, TemplateId, VersionId};
use proto::v1;

use super::codec::{Variables, count, digest, id, message, message_or_null, tags, tags_json, word};
use super::rows::{Row, values};
use super::submit::NewJob;
use super::{Snapshot, Tx};
use crate::lifecycle::State;
use crate::store::model::{
    Activate, Holder, PlanTemplate, PushTemplate, VersionRow, VersionSelector,
};
use crate::store::{Error, Result, secrets};
use crate::words::{Kind, Status};

const VERSION: &str = "SELECT v.id, t.name, v.number, v.engine, v.tags, v.variables, v.facts, \
     j.id, j.state, v.created_at, t.active_version = v.id, v.archive, b.size \
     FROM template_versions v JOIN templates t ON t.id = v.template \
     JOIN jobs j ON j.row = v.import_job JOIN blobs b ON b.digest = v.archive";

/// The one of a workspace's newest build.
pub(super) static OF_LAST_BUILD: LazyLock<String> = LazyLock::new(|| {
    format!(
        "{VERSION} WHERE v.id = (SELECT version FROM builds WHERE workspace = ?1
             ORDER BY number DESC LIMIT 1)"
    )
});

impl Tx<'_> {
    pub(super) fn push_template(&mut self, push: &PushTemplate) -> Result<(VersionRow, JobId)> {
        self.organization_exists(&push.organization)?;
        let holder = Holder::Client {
            organization: push.organization.clone(),
            owner: push.submission.owner.clone(),
        };
        self.may_name(push.archive, &holder)?;
        let template = self.ensure_template(&push.organization, &push.template)?;
        let version = VersionId::generate();
        let number: u32 = self
            .db
            .prepare(
                "SELECT COALESCE(MAX(number), 0) + 1 FROM template_versions WHERE template = ?1",
            )
            .one(values![&template], |row| row.get(0))?;
        // The two rows name each other; the version's reference is checked at COMMIT only.
        self.insert_version(push, &template, version, number)?;
        let job = self.insert_job(&NewJob {
            organization: &push.organization,
            kind: Kind::TemplateImport,
            version: &version.to_string(),
            workspace: None,
            parameters: &[],
            submission: &push.submission,
        })?;
        self.set_import_job(&version.to_string(), job)?;
        Ok((self.version(&version.to_string())?, job))
    }

    fn insert_version(
        &self,
        push: &PushTemplate,
        template: &str,
        version: VersionId,
        number: u32,
    ) -> Result<()> {
        let variables = Variables {
            list: push.variables.clone(),
        };
        self.db
            .prepare(
                "INSERT INTO template_versions (id, template, number, archive, engine, tags,
                     variables, activate, import_job, created_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0, ?9)",
            )
            .execute(values![
                version.to_string(),
                template,
                number,
                push.archive.digest.as_bytes(),
                push.engine,
                tags_json(&push.tags),
                variables.encode_to_vec(),
                push.activate == Activate::OnSuccess,
                self.now,
            ])?;
        Ok(())
    }

    pub(super) fn set_import_job(&self, version: &str, job: JobId) -> Result<()> {
        self.db
            .prepare(
                "UPDATE template_versions SET import_job = (SELECT row FROM jobs WHERE id = ?2)
                 WHERE id = ?1",
            )
            .run(values![version, job.to_string()])
    }

    fn ensure_template(&self, organization: &str, name: &str) -> Result<String> {
        self.db
            .prepare(
                "INSERT INTO templates (id, organization, name, created_at)
                 VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
            )
            .execute(values![
                TemplateId::generate().to_string(),
                organization,
                name,
                self.now
            ])?;
        let template = self.template_id(organization, name)?;
        self.hold_template(&template)?;
        Ok(template)
    }

    /// Nobody else numbers or promotes versions of it until the end of the transaction.
    fn hold_template(&self, id: &str) -> Result<()> {
        let statement = self
            .db
            .prepare("SELECT 1 FROM templates WHERE id = ?1 FOR NO KEY UPDATE");
        statement.one(values![id], |_| Ok(()))
    }

    pub(super) fn promote(
        &self,
        organization: &str,
        template: &str,
        version: &VersionSelector,
    ) -> Result<()> {
        let version = self.imported_version(organization, template, version)?;
        self.db
            .prepare(
                "UPDATE templates SET active_version = ?3 WHERE organization = ?1 AND name = ?2",
            )
            .execute(values![organization, template, version.id.to_string()])?;
        Ok(())
    }

    /// An import succeeded: what it found is kept, and the version becomes active if
    /// that was asked and no newer one is.
    pub(super) fn imported(&self, version: &str, facts: &v1::TemplateFacts) -> Result<()> {
        self.db
            .prepare("UPDATE template_versions SET facts = ?2, providers = ?3 WHERE id = ?1")
            .execute(values![
                version,
                facts.encode_to_vec(),
                proto::affinity::providers(&facts.lock_file).unwrap_or_default()
            ])?;
        self.db.prepare(
                "UPDATE templates SET active_version = ?1
                 WHERE id = (SELECT template FROM template_versions WHERE id = ?1 AND activate = 1)
                     AND COALESCE((SELECT number FROM template_versions WHERE id = active_version), 0)
                         < (SELECT number FROM template_versions WHERE id = ?1)",
            )
            .execute(values![version])?;
        Ok(())
    }

    pub(in crate::store) fn plan_template(&mut self, plan: &PlanTemplate) -> Result<JobId> {
        let version = self.version_in(&plan.organization, plan.version)?;
        imported(&version)?;
        let job = self.insert_job(&NewJob {
            organization: &plan.organization,
            kind: Kind::TemplateDryRun,
            version: &plan.version.to_string(),
            workspace: None,
            parameters: &plan.parameters,
            submission: &plan.submission,
        })?;
        Ok(job)
    }
}

/// Refuses a version whose import did not succeed.
pub(super) fn imported(version: &VersionRow) -> Result<()> {
    if version.facts.is_some() {
        return Ok(());
    }
    Err(Error::NotImported {
        template: version.template.clone(),
        version: version.number,
        status: version.import_status,
    })
}

impl Snapshot<'_> {
    pub(super) fn template_id(self, organization: &str, name: &str) -> Result<String> {
        let statement = self
            .db
            .prepare("SELECT id FROM templates WHERE organization = ?1 AND name = ?2");
        let found = statement.first(values![organization, name], |row| row.get(0))?;
        found.ok_or_else(|| Error::NotFound {
            what: "template",
            name: name.to_owned(),
        })
    }

    /// A version by id, wherever it belongs.
    pub(super) fn version(self, version: &str) -> Result<VersionRow> {
        let sql = format!("{VERSION} WHERE v.id = ?1");
        let statement = self.db.prepare(&sql);
        statement.one(values![version], version_row)
    }

    /// A version by id, of this organization.
    pub(super) fn version_in(self, organization: &str, version: VersionId) -> Result<VersionRow> {
        let sql = format!("{VERSION} WHERE v.id = ?1 AND t.organization = ?2");
        let statement = self.db.prepare(&sql);
        let id = version.to_string();
        let found = statement.first(values![&id, organization], version_row)?;
        found.ok_or(Error::NotFound {
            what: "template version",
            name: id,
        })
    }

    pub(super) fn imported_version(
        self,
        organization: &str,
        template: &str,
        selector: &VersionSelector,
    ) -> Result<VersionRow> {
        let template_id = self.template_id(organization, template)?;
        let (clause, argument) = match selector {
            VersionSelector::Active => ("t.active_version = v.id AND ?2 = ''", String::new()),
            VersionSelector::Id(id) => ("v.id = ?2", id.to_string()),
            VersionSelector::Number(number) => {
                ("v.number = CAST(?2 AS BIGINT)", number.to_string())
            }
        };
        let sql = format!("{VERSION} WHERE t.id = ?1 AND {clause}");
        let statement = self.db.prepare(&sql);
        let found = statement.first(values![&template_id, &argument], version_row)?;
        let Some(version) = found else {
            return Err(match selector {
                VersionSelector::Active => Error::NoActiveVersion {
                    template: template.to_owned(),
                },
                VersionSelector::Id(_) | VersionSelector::Number(_) => Error::NotFound {
                    what: "template version",
                    name: argument,
                },
            });
        };
        imported(&version)?;
        Ok(version)
    }

    pub(super) fn template(self, organization: &str, name: &str) -> Result<v1::Template> {
        let wanted = self.template_id(organization, name)?;
        let mut all = self.templates_where("t.id = ?1", &wanted)?;
        all.pop().ok_or_else(|| Error::NotFound {
            what: "template",
            name: name.to_owned(),
        })
    }

    pub(super) fn list_templates(self, organization: &str) -> Result<Vec<v1::Template>> {
        self.organization_exists(organization)?;
        self.templates_where("t.organization = ?1", organization)
    }

    fn templates_where(self, clause: &str, argument: &str) -> Result<Vec<v1::Template>> {
        let sql = format!(
            "SELECT t.id, t.name, t.created_at, t.active_version,
                 (SELECT COUNT(*) FROM template_versions v WHERE v.template = t.id),
                 (SELECT COUNT(*) FROM workspaces w
                     WHERE w.template = t.id AND w.deleted_at IS NULL)
             FROM templates t WHERE {clause} ORDER BY t.name"
        );
        let statement = self.db.prepare(&sql);
        let rows = statement.all(values![argument], |row| {
            let template = v1::Template {
                id: row.get(0)?,
                name: row.get(1)?,
                created_at_ms: row.get(2)?,
                active_version: None,
                versions: row.get(4)?,
                workspaces: row.get(5)?,
            };
            Ok((template, row.get::<Option<String>>(3)?))
        })?;
        let with_active = |(mut template, active): (v1::Template, Option<String>)| {
            if let Some(active) = active {
                template.active_version =
                    self.version_views("v.id = ?1", &active)?.into_iter().next();
            }
            Ok(template)
        };
        rows.into_iter().map(with_active).collect()
    }

    pub(super) fn template_versions(
        self,
        organization: &str,
        name: &str,
    ) -> Result<Vec<v1::TemplateVersion>> {
        let template = self.template_id(organization, name)?;
        self.version_views("v.template = ?1", &template)
    }

    fn version_views(self, clause: &str, argument: &str) -> Result<Vec<v1::TemplateVersion>> {
        let sql = format!("{VERSION} WHERE {clause} ORDER BY v.number DESC");
        let statement = self.db.prepare(&sql);
        statement.all(values![argument], version_view)
    }
}

pub(super) fn version_row(row: Row<'_>) -> Result<VersionRow> {
    Ok(VersionRow {
        id: id(row, 0)?,
        template: row.get(1)?,
        number: row.get(2)?,
        engine: row.get(3)?,
        tags: tags(row, 4)?,
        variables: message::<Variables>(row, 5)?.list,
        facts: message_or_null(row, 6)?,
        import_job: id(row, 7)?,
        import_status: import_status(row)?,
    })
}

fn import_status(row: Row<'_>) -> Result<Status> {
    Ok(word(row, 8, State::from_text)?.status())
}

/// As clients see it: sensitive values are empty.
fn version_view(row: Row<'_>) -> Result<v1::TemplateVersion> {
    let version = version_row(row)?;
    let variables = secrets::shown_values(version.variables, version.facts.as_ref());
    Ok(v1::TemplateVersion {
        id: version.id.to_string(),
        template: version.template,
        number: version.number,
        created_at_ms: row.get(9)?,
        active: row.get::<Option<bool>>(10)?.unwrap_or(false),
        engine: version.engine,
        tags: version.tags.into_iter().collect(),
        archive: Some(v1::BlobRef {
            sha256: digest(row, 11)?.as_bytes().to_vec(),
            size: count(row.get(12)?),
        }),
        import_status: version.import_status.into(),
        import_job_id: version.import_job.to_string(),
        facts: version.facts.map(secrets::shown_facts),
        variables,
    })
}
