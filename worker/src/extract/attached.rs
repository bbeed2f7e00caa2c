//! What is attached to agents and to their dev containers: apps, scripts, environment.

use std::collections::HashMap;

use proto::v1::{AgentEnv, App, Devcontainer, Healthcheck, Script};

use super::Error;
use super::agents::{self, Placed};
use super::configuration::attachment;
use super::graph::{Graph, Way};
use super::records::{Instance, Records};
use super::values::{self, clamp};

/// A dev container and the agent it runs under.
struct Container<'r, 'a> {
    at: &'r Instance<'a>,
    agent: usize,
    devcontainer: Devcontainer,
}

/// Attaches everything; what has no agent is told in `warnings`.
pub(super) fn attach<'r, 'a>(
    records: &'r Records<'a>,
    graph: &Graph,
    agents: &mut [Placed<'r, 'a>],
    warnings: &mut Vec<String>,
) -> Result<(), Error> {
    agents::add_instance_ids(records, agents, |at, id, agents| {
        agent_of(graph, at, id, agents)
    })?;
    let mut hosts = Hosts {
        graph,
        containers: containers(records, graph, agents, warnings)?,
        agents,
        warnings,
    };
    hosts.apps(records)?;
    hosts.scripts(records)?;
    hosts.environment(records)?;
    let Hosts {
        containers, agents, ..
    } = hosts;
    for container in containers {
        agents[container.agent]
            .agent
            .devcontainers
            .push(container.devcontainer);
    }
    Ok(())
}

struct Hosts<'h, 'r, 'a> {
    graph: &'h Graph,
    containers: Vec<Container<'r, 'a>>,
    agents: &'h mut [Placed<'r, 'a>],
    warnings: &'h mut Vec<String>,
}

/// The lists that an agent and a dev container both have.
struct Lists<'l> {
    apps: &'l mut Vec<App>,
    scripts: &'l mut Vec<Script>,
    envs: &'l mut Vec<AgentEnv>,
}

impl Hosts<'_, '_, '_> {
    fn apps(&mut self, records: &Records) -> Result<(), Error> {
        let mut slugs: HashMap<String, String> = HashMap::new();
        for at in records.managed("coder_app") {
            let values: values::App = at.values()?;
            let id = values.agent_id.clone();
            let app = app(at, values)?;
            if let Some(first) = slugs.insert(app.slug.clone(), at.address.to_string()) {
                return Err(Error::AppSlugDuplicate {
                    slug: app.slug,
                    first,
                    second: at.address.to_string(),
                });
            }
            if let Some(lists) = self.lists(at, &id) {
                lists.apps.push(app);
            }
        }
        Ok(())
    }

    fn scripts(&mut self, records: &Records) -> Result<(), Error> {
        for at in records.managed("coder_script") {
            let values: values::Script = at.values()?;
            if let Some(lists) = self.lists(at, &values.agent_id) {
                lists.scripts.push(script(values));
            }
        }
        Ok(())
    }

    fn environment(&mut self, records: &Records) -> Result<(), Error> {
        for at in records.managed("coder_env") {
            let values: values::Env = at.values()?;
            if let Some(lists) = self.lists(at, &values.agent_id) {
                lists.envs.push(AgentEnv {
                    name: values.name,
                    value: values.value,
                    merge_strategy: values.merge_strategy,
                });
            }
        }
        Ok(())
    }

    /// The agent, else the dev container, that `at` is attached to.
    fn lists(&mut self, at: &Instance, id: &str) -> Option<Lists<'_>> {
        if let Some(found) = agent_of(self.graph, at, id, self.agents) {
            let agent = &mut self.agents[found].agent;
            return Some(Lists {
                apps: &mut agent.apps,
                scripts: &mut agent.scripts,
                envs: &mut agent.extra_envs,
            });
        }
        let places: Vec<_> = self
            .containers
            .iter()
            .map(|container| Place {
                at: container.at,
                id: &container.devcontainer.subagent_id,
            })
            .collect();
        let Some(found) = place_of(self.graph, at, id, &places) else {
            self.warnings
                .push(format!("{} is attached to no agent", at.address));
            return None;
        };
        let container = &mut self.containers[found].devcontainer;
        Some(Lists {
            apps: &mut container.apps,
            scripts: &mut container.scripts,
            envs: &mut container.envs,
        })
    }
}

fn containers<'r, 'a>(
    records: &'r Records<'a>,
    graph: &Graph,
    agents: &[Placed],
    warnings: &mut Vec<String>,
) -> Result<Vec<Container<'r, 'a>>, Error> {
    let mut containers = Vec::new();
    for at in records.managed("coder_devcontainer") {
        let values: values::Devcontainer = at.values()?;
        let Some(agent) = agent_of(graph, at, &values.agent_id, agents) else {
            warnings.push(format!("{} is attached to no agent", at.address));
            continue;
        };
        containers.push(Container {
            at,
            agent,
            devcontainer: Devcontainer {
                workspace_folder: values.workspace_folder,
                config_path: values.config_path,
                name: at.name.to_string(),
                id: values.id,
                subagent_id: values.subagent_id,
                ..Devcontainer::default()
            },
        });
    }
    Ok(containers)
}

/// Something to be attached to, and the id it is referred to by.
struct Place<'p, 'a> {
    at: &'p Instance<'a>,
    id: &'p str,
}

fn agent_of(graph: &Graph, at: &Instance, id: &str, agents: &[Placed]) -> Option<usize> {
    let places: Vec<_> = agents
        .iter()
        .map(|placed| Place {
            at: placed.at,
            id: &placed.agent.id,
        })
        .collect();
    place_of(graph, at, id, &places)
}

/// By id when it is known, else by what the attribute refers to.
fn place_of(graph: &Graph, at: &Instance, id: &str, places: &[Place]) -> Option<usize> {
    if !id.is_empty() {
        return places.iter().position(|place| place.id == id);
    }
    let start = graph
        .find(&attachment(&at.label))
        .or_else(|| graph.find(&at.label))?;
    let nearest = graph.nearest(start, Way::Down, |kind| {
        matches!(kind, "coder_agent" | "coder_devcontainer")
    });
    let label = graph.label(nearest.first()?.node);
    places.iter().position(|place| place.at.label == label)
}

fn app(at: &Instance, values: values::App) -> Result<App, Error> {
    let slug = first_of([values.slug, at.name.to_string()]);
    if !agents::is_slug(&slug) || slug.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(Error::AppSlug {
            address: at.address.to_string(),
            slug,
        });
    }
    Ok(App {
        display_name: first_of([values.display_name, values.name, slug.clone()]),
        slug,
        command: values.command,
        url: values.url,
        icon: values.icon,
        subdomain: values.subdomain,
        healthcheck: values
            .healthcheck
            .into_iter()
            .next()
            .map(|check| Healthcheck {
                url: check.url,
                interval: clamp(check.interval),
                threshold: clamp(check.threshold),
            }),
        sharing_level: match values.share.to_ascii_lowercase().as_str() {
            known @ ("authenticated" | "public") => known.to_owned(),
            _ => "owner".to_owned(),
        },
        external: values.external,
        order: values.order,
        hidden: values.hidden,
        open_in: match values.open_in.to_ascii_lowercase().as_str() {
            "tab" => "tab".to_owned(),
            _ => "slim-window".to_owned(),
        },
        group: values.group,
        id: values.id,
        tooltip: values.tooltip,
    })
}

fn script(values: values::Script) -> Script {
    Script {
        display_name: values.display_name,
        icon: values.icon,
        script: values.script,
        cron: values.cron,
        start_blocks_login: values.start_blocks_login,
        run_on_start: values.run_on_start,
        run_on_stop: values.run_on_stop,
        timeout_seconds: clamp(values.timeout),
        log_path: values.log_path,
    }
}

fn first_of<const N: usize>(choices: [String; N]) -> String {
    choices
        .into_iter()
        .find(|choice| !choice.is_empty())
        .unwrap_or_default()
}
