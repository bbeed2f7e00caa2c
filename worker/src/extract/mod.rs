//! Reads what a plan or a state says in Coder's terms: resources with their agents,
//! apps, scripts and metadata, parameters, presets, external authentication.
//!
//! Pure: JSON in, messages out. No engine is asked; the edges that `terraform graph`
//! would draw come from the configuration inside the plan and from the dependencies
//! inside the state.
//!
//! ```text
//! plan  ─ planned_values, prior_state ─ records ─┬─ agents ─ attached ─┐
//!       └ configuration (+ locals) ───── graph ──┤                     ├─ Extraction
//! state ─ resources, dependencies ───────────────┴─ resources, … ──────┘
//! ```

mod address;
mod agents;
mod attached;
mod configuration;
mod error;
mod graph;
mod modules;
mod parameters;
mod records;
mod references;
mod resources;
mod sensitive;
mod state;
mod values;

#[cfg(test)]
mod tests;

pub use error::Error;
pub use modules::modules;

use std::borrow::Cow;

use proto::v1::{AiTask, Extraction};
use serde::Deserialize;

use configuration::Configuration;
use graph::{Graph, Role};
use records::{Mode, Records, Values};
use resources::Listing;
use values::clamp;

/// What a local value refers to. The plan JSON leaves `locals` out, so an agent whose
/// id or token passes through one would lose its resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalHint {
    /// Module calls from the root, joined by `.`; empty for the root module.
    pub module: String,
    /// The local's name, without `local.`.
    pub name: String,
    /// References in its expression, as in plan JSON: `coder_agent.main.token`.
    pub references: Vec<String>,
}

/// Extracts from the output of `show -json PLANFILE`.
///
/// `modules` of the result stays empty; see [`modules()`].
pub fn from_plan(plan_json: &[u8], locals: &[LocalHint]) -> Result<Extraction, Error> {
    let plan = Plan::read(plan_json)?;
    let mut graph = Graph::default();
    configuration::add(&plan.configuration, locals, &mut graph);
    let mut records = Records::default();
    records.add_values(plan.prior_state.values, Some(Mode::Data));
    records.add_values(plan.planned_values, None);
    extract(&records, &graph)
}

/// Extracts from the output of `show -json` or from a raw state file of version 4.
/// `plan_json`, where there is one, brings the edges that a state does not record and
/// the data sources that it no longer holds.
///
/// `modules` of the result stays empty; see [`modules()`].
pub fn from_state(
    state_json: &[u8],
    plan_json: Option<&[u8]>,
    locals: &[LocalHint],
) -> Result<Extraction, Error> {
    let mut records = state::read(state_json)?;
    let mut graph = Graph::default();
    add_dependencies(&records, &mut graph);
    if let Some(plan_json) = plan_json {
        let plan = Plan::read(plan_json)?;
        configuration::add(&plan.configuration, locals, &mut graph);
        records.add_values(plan.prior_state.values, Some(Mode::Data));
    }
    extract(&records, &graph)
}

#[derive(Deserialize)]
struct Plan<'a> {
    #[serde(borrow)]
    format_version: Cow<'a, str>,
    #[serde(borrow, default)]
    planned_values: Values<'a>,
    #[serde(borrow, default)]
    prior_state: PriorState<'a>,
    #[serde(borrow, default)]
    configuration: Configuration<'a>,
}

#[derive(Default, Deserialize)]
struct PriorState<'a> {
    #[serde(borrow, default)]
    values: Values<'a>,
}

impl<'a> Plan<'a> {
    fn read(json: &'a [u8]) -> Result<Self, Error> {
        let plan: Self = serde_json::from_slice(json).map_err(|source| Error::Json {
            document: "plan",
            source,
        })?;
        if !state::is_known(&plan.format_version) {
            return Err(Error::Format {
                document: "plan",
                version: plan.format_version.into_owned(),
            });
        }
        Ok(plan)
    }
}

/// A state lists for each resource all that it depends on, directly or not.
fn add_dependencies(records: &Records, graph: &mut Graph) {
    let role = |label: &str| {
        let mut parts = label.rsplit('.').skip(1);
        let kind = parts.next().unwrap_or_default();
        match parts.next() {
            Some("data" | "ephemeral") => Role::Other,
            _ => Role::Managed(kind.to_owned()),
        }
    };
    for instance in &records.all {
        let from = graph.node(&instance.label, role(&instance.label));
        for dependency in &instance.depends_on {
            let label = address::label(dependency);
            let to = graph.node(&label, role(&label));
            graph.edge(from, to);
        }
    }
}

fn extract(records: &Records, graph: &Graph) -> Result<Extraction, Error> {
    let mut warnings = Vec::new();
    let mut agents = agents::collect(records)?;
    attached::attach(records, graph, &mut agents, &mut warnings)?;
    let mut listing = Listing::new(records)?;
    listing.place_agents(graph, agents)?;
    let daily_cost = clamp(listing.describe(graph)?);
    let parameters = parameters::parameters(records)?;
    let presets = parameters::presets(records, &parameters, &mut warnings)?;
    let ai_tasks = ai_tasks(records, &mut warnings)?;
    Ok(Extraction {
        resources: listing.into_resources(),
        parameters,
        presets,
        external_auth_providers: parameters::external_auth(records)?,
        modules: Vec::new(),
        has_ai_tasks: !ai_tasks.is_empty() || graph.has_managed("coder_ai_task"),
        ai_tasks,
        has_external_agents: graph.has_managed("coder_external_agent"),
        daily_cost,
        warnings,
    })
}

fn ai_tasks(records: &Records, warnings: &mut Vec<String>) -> Result<Vec<AiTask>, Error> {
    let mut tasks = Vec::new();
    for at in records.managed("coder_ai_task") {
        let values: values::AiTask = at.values()?;
        let sidebar = values.sidebar_app.into_iter().next().unwrap_or_default();
        let app_id = match values.app_id.as_str() {
            "" => sidebar.id.0,
            _ => values.app_id,
        };
        tasks.push(AiTask {
            id: values.id,
            app_id,
        });
    }
    if tasks.len() > 1 {
        warnings.push(format!(
            "the template has {} coder_ai_task resources; the first one counts",
            tasks.len()
        ));
    }
    Ok(tasks)
}
