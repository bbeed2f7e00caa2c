//! Which daemon may import a template: the tags that it asks for by itself, evaluated
//! with what is known before it was imported, under those that were given with the push.

use std::collections::{BTreeMap, HashMap};

use proto::ids::Digest;
use proto::tags::Tags;
use proto::v1::VariableValue;
use proto::workspace_tags::{self, Values};

use super::resolve;
use crate::analysis::{Archive, Failure, Findings};
use crate::blobs::Caller;
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::store::Store;

/// The tags of an import job. A template that cannot be analysed is placed by `given`
/// alone, and its import says what is wrong with it.
pub async fn tags<S: Store>(
    shared: &Shared<S>,
    archive: Digest,
    variables: &[VariableValue],
    given: HashMap<String, String>,
) -> Result<Tags, Refusal> {
    let Some(findings) = findings(shared, archive).await? else {
        return Tags::new(given).map_err(resolve::bad_tags);
    };
    let mut tags = evaluated(&findings, variables);
    tags.extend(given);
    Tags::new(tags).map_err(resolve::bad_tags)
}

async fn findings<S: Store>(
    shared: &Shared<S>,
    archive: Digest,
) -> Result<Option<Findings>, Refusal> {
    let Some(analyzer) = &shared.analyzer else {
        return Ok(None);
    };
    // That it was never uploaded is for the store to say, which knows the rest as well.
    let Ok(chunks) = shared.blobs.get(archive, 0, Caller::Queue).await else {
        return Ok(None);
    };
    match analyzer.analyze(Archive::new(chunks)).await {
        Ok(findings) => Ok(Some(findings)),
        Err(Failure::Refused(error)) => Err(error.into()),
        Err(Failure::Unreadable(error)) => {
            tracing::warn!(
                archive.sha256 = %archive,
                error.code = error.code,
                error = error.message,
                "a template was not analysed; only the tags given with it place its import"
            );
            Ok(None)
        }
    }
}

/// Each tag for itself: one that nothing is known about keeps no other from its place.
fn evaluated(findings: &Findings, variables: &[VariableValue]) -> BTreeMap<String, String> {
    let values = Values {
        variables: &findings.variables,
        variable_values: variables,
        parameters: &findings.parameters,
    };
    let mut tags = BTreeMap::new();
    for tag in &findings.workspace_tags {
        match workspace_tags::evaluate(std::slice::from_ref(tag), values) {
            Ok(known) => tags.extend(known),
            Err(error) => {
                tracing::info!(error = %error, "a tag does not place the import of its template");
            }
        }
    }
    tags
}
