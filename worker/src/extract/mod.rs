//! Reads what a plan or a state says in Coder's terms: resources with their agents,
//! apps, scripts and metadata, parameters, presets, external authentication.
//!
//! Pure: JSON in, messages out. No engine is asked; the edges that `terraform graph`
//! would draw come from the configuration inside the plan and from the dependencies
//! inside the state.

mod error;

pub use error::Error;

use proto::v1::{Extraction, Module};

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
pub fn from_plan(plan_json: &[u8], locals: &[LocalHint]) -> Result<Extraction, Error> {
    let _ = (plan_json, locals);
    unimplemented!()
}

/// Extracts from the output of `show -json` or from a raw state file of version 4.
/// `plan_json`, where there is one, brings the parameters, presets and other things
/// that only a configuration declares, and edges the state does not record.
pub fn from_state(
    state_json: &[u8],
    plan_json: Option<&[u8]>,
    locals: &[LocalHint],
) -> Result<Extraction, Error> {
    let _ = (state_json, plan_json, locals);
    unimplemented!()
}

/// Reads `.terraform/modules/modules.json`, the root module left out.
pub fn modules(modules_json: &[u8]) -> Result<Vec<Module>, Error> {
    let _ = modules_json;
    unimplemented!()
}
