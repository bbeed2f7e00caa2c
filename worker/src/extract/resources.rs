//! The list of resources, with the agents that run on them and what `coder_metadata`
//! adds to them.

use std::collections::HashMap;

use proto::secret::MASK;
use proto::v1::agent::Auth;
use proto::v1::{Resource, ResourceMetadata};

use super::Error;
use super::address::shared_modules;
use super::agents::Placed;
use super::configuration::attachment;
use super::graph::{Graph, Way};
use super::records::{Instance, Mode, Records};
use super::values::{self, clamp};

/// Parts of agents and resources; they are told there, not listed on their own.
const NOT_LISTED: [&str; 5] = [
    "coder_agent",
    "coder_agent_instance",
    "coder_app",
    "coder_metadata",
    "coder_script",
];

/// The list under construction: instances and what is told of them.
pub(super) struct Listing<'r, 'a> {
    rows: Vec<(&'r Instance<'a>, Resource)>,
    /// Rows by label, in order of address.
    by_label: HashMap<&'r str, Vec<usize>>,
    /// Addresses of the metadata that rows have.
    described: HashMap<usize, String>,
    records: &'r Records<'a>,
}

impl<'r, 'a> Listing<'r, 'a> {
    /// Lists all managed resources by address.
    pub(super) fn new(records: &'r Records<'a>) -> Result<Self, Error> {
        let mut listed: Vec<&Instance> = records
            .all
            .iter()
            .filter(|at| at.mode == Mode::Managed && !NOT_LISTED.contains(&&*at.kind))
            .collect();
        listed.sort_by(|a, b| a.address.cmp(&b.address));
        let mut listing = Self {
            rows: Vec::with_capacity(listed.len()),
            by_label: HashMap::new(),
            described: HashMap::new(),
            records,
        };
        for at in listed {
            listing.add(at)?;
        }
        Ok(listing)
    }

    fn add(&mut self, at: &'r Instance<'a>) -> Result<usize, Error> {
        let row = self.rows.len();
        self.by_label.entry(&at.label).or_default().push(row);
        let instance_type = match instance_type_of(&at.kind) {
            Some(pick) => pick(at.values()?).0,
            None => String::new(),
        };
        self.rows.push((
            at,
            Resource {
                name: at.name.to_string(),
                r#type: at.kind.to_string(),
                instance_type,
                module_path: at.module.to_string(),
                address: at.address.to_string(),
                ..Resource::default()
            },
        ));
        Ok(row)
    }

    /// Puts each agent on the nearest resource that needs it. One without any gets a row
    /// of its own, unless the workspace is not running: then its machine is simply gone.
    pub(super) fn place_agents(
        &mut self,
        graph: &Graph,
        agents: Vec<Placed<'r, 'a>>,
    ) -> Result<(), Error> {
        let running = is_running(self.records)?;
        for placed in agents {
            let row = match self.host(graph, &placed) {
                Some(row) => row,
                None if running => self.add(placed.at)?,
                None => continue,
            };
            let mut agent = placed.agent;
            if let Some(Auth::InstanceId(id)) = &mut agent.auth
                && id.is_empty()
            {
                *id = instance_id(self.rows[row].0)?;
            }
            self.rows[row].1.agents.push(agent);
        }
        Ok(())
    }

    fn host(&self, graph: &Graph, placed: &Placed) -> Option<usize> {
        let start = graph.find(&placed.at.label)?;
        let nearest = graph.nearest(start, Way::Up, |kind| {
            !kind.starts_with("coder_") || kind == "coder_external_agent"
        });
        let rows = nearest
            .iter()
            .find_map(|found| self.by_label.get(graph.label(found.node)))?;
        let secrets = [placed.token.as_str(), placed.agent.id.as_str()];
        // The last of the best by key, so look from the end to keep the first.
        rows.iter().rev().copied().max_by_key(|row| {
            let at = self.rows[*row].0;
            let named = rows.len() > 1
                && secrets
                    .iter()
                    .any(|id| !id.is_empty() && at.text().contains(id));
            (named, likeness(placed.at, at))
        })
    }

    /// Adds what each `coder_metadata` says to the resource it names.
    pub(super) fn describe(&mut self, graph: &Graph) -> Result<i64, Error> {
        let described = self.records.managed("coder_metadata");
        let mut cost = 0_i64;
        let ids = if described.is_empty() {
            HashMap::new()
        } else {
            self.ids()?
        };
        for at in described {
            let values: values::Metadata = at.values()?;
            cost = cost.saturating_add(values.daily_cost);
            let rows = match ids.get(&values.resource_id) {
                Some(row) if !values.resource_id.is_empty() => vec![*row],
                _ => self.described_by(graph, at),
            };
            for row in rows {
                if let Some(first) = self.described.insert(row, at.address.to_string()) {
                    return Err(Error::MetadataDuplicate {
                        target: self.rows[row].1.address.clone(),
                        first,
                        second: at.address.to_string(),
                    });
                }
                describe_row(&mut self.rows[row].1, &values);
            }
        }
        Ok(cost)
    }

    /// Rows by the id in their values. An id that several resources share names none.
    fn ids(&self) -> Result<HashMap<String, usize>, Error> {
        let mut ids = HashMap::new();
        let mut shared = Vec::new();
        for (row, (at, _)) in self.rows.iter().enumerate() {
            let values::Scalar(id) = at.values::<values::Identified>()?.id;
            if !id.is_empty() && ids.insert(id.clone(), row).is_some() {
                shared.push(id);
            }
        }
        for id in shared {
            ids.remove(&id);
        }
        Ok(ids)
    }

    /// The row with the same key where there is one, else all of the nearest label.
    fn described_by(&self, graph: &Graph, at: &Instance) -> Vec<usize> {
        let start = graph
            .find(&attachment(&at.label))
            .or_else(|| graph.find(&at.label));
        let nearest = start.map(|start| graph.nearest(start, Way::Down, |_| true));
        let rows = nearest
            .into_iter()
            .flatten()
            .next()
            .and_then(|found| self.by_label.get(graph.label(found.node)));
        let Some(rows) = rows else {
            return Vec::new();
        };
        let alike: Vec<usize> = rows
            .iter()
            .copied()
            .filter(|row| {
                let target = self.rows[*row].0;
                target.key == at.key && (target.module == at.module || rows.len() == 1)
            })
            .collect();
        if alike.is_empty() {
            rows.clone()
        } else {
            alike
        }
    }

    /// The finished list, by address.
    pub(super) fn into_resources(self) -> Vec<Resource> {
        let mut resources: Vec<Resource> = self.rows.into_iter().map(|(_, row)| row).collect();
        resources.sort_by(|a, b| a.address.cmp(&b.address));
        resources
    }
}

/// How well two instances belong together: modules they share, then an equal key.
fn likeness(one: &Instance, other: &Instance) -> (usize, bool) {
    let modules = shared_modules(&one.module, &other.module);
    (modules, one.key == other.key)
}

/// What `data.coder_workspace` says; without it a workspace counts as running.
fn is_running(records: &Records) -> Result<bool, Error> {
    let Some(at) = records.data("coder_workspace").next() else {
        return Ok(true);
    };
    let values: values::Workspace = at.values()?;
    Ok(values.transition.is_empty() || values.transition == "start")
}

fn describe_row(row: &mut Resource, values: &values::Metadata) {
    row.hide = values.hide;
    row.icon.clone_from(&values.icon);
    row.daily_cost = clamp(values.daily_cost);
    row.metadata = values
        .item
        .iter()
        .map(|item| ResourceMetadata {
            key: item.key.clone(),
            value: item.value.clone(),
            sensitive: item.sensitive || item.value == MASK,
            is_null: item.is_null,
        })
        .collect();
}

type Pick = fn(values::Machine) -> values::Scalar;

fn instance_type_of(kind: &str) -> Option<Pick> {
    match kind {
        "google_compute_instance" => Some(|machine| machine.machine_type),
        "aws_instance" | "aws_spot_instance_request" => Some(|machine| machine.instance_type),
        "azurerm_linux_virtual_machine" | "azurerm_windows_virtual_machine" => {
            Some(|machine| machine.size)
        }
        _ => None,
    }
}

/// The id by which a cloud's machine proves who it is.
fn instance_id(at: &Instance) -> Result<String, Error> {
    let pick: Pick = match &*at.kind {
        "google_compute_instance" => |machine| machine.instance_id,
        "aws_instance" => |machine| machine.id,
        "aws_spot_instance_request" => |machine| machine.spot_instance_id,
        "azurerm_linux_virtual_machine" | "azurerm_windows_virtual_machine" => {
            |machine| machine.virtual_machine_id
        }
        _ => return Ok(String::new()),
    };
    Ok(pick(at.values()?).0)
}
