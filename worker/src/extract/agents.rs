//! `coder_agent`: the agents of a workspace, named once, with what their own resource
//! says about them.

use std::collections::HashMap;

use proto::v1::agent::Auth;
use proto::v1::{
    Agent, AgentMetadata, DisplayApps, MemoryMonitor, ResourcesMonitoring, Script, VolumeMonitor,
};

use super::Error;
use super::records::{Instance, Records};
use super::values::{self, clamp};

/// Coder's defaults when a template does not choose.
const DEFAULT_APPS: DisplayApps = DisplayApps {
    vscode: true,
    vscode_insiders: false,
    web_terminal: true,
    ssh_helper: true,
    port_forwarding_helper: true,
};

/// An agent and the instance it comes from.
pub(super) struct Placed<'r, 'a> {
    pub(super) at: &'r Instance<'a>,
    pub(super) agent: Agent,
    /// Known even where the agent authenticates otherwise.
    pub(super) token: String,
}

/// All agents, by address.
pub(super) fn collect<'r, 'a>(records: &'r Records<'a>) -> Result<Vec<Placed<'r, 'a>>, Error> {
    let mut placed = Vec::new();
    let mut names: HashMap<String, &str> = HashMap::new();
    for at in records.managed("coder_agent") {
        check_name(&at.name)?;
        if let Some(first) = names.insert(at.name.to_ascii_lowercase(), &at.address) {
            return Err(Error::AgentNameDuplicate {
                name: at.name.to_string(),
                first: first.to_owned(),
                second: at.address.to_string(),
            });
        }
        let values: values::Agent = at.values()?;
        placed.push(Placed {
            at,
            token: values.token.clone(),
            agent: agent(&at.name, values),
        });
    }
    Ok(placed)
}

/// `coder_agent_instance`: the machine that an agent is known by.
pub(super) fn add_instance_ids(
    records: &Records,
    agents: &mut [Placed],
    attached: impl Fn(&Instance, &str, &[Placed]) -> Option<usize>,
) -> Result<(), Error> {
    for at in records.managed("coder_agent_instance") {
        let values: values::AgentInstance = at.values()?;
        if let Some(found) = attached(at, &values.agent_id, agents)
            && let Some(Auth::InstanceId(id)) = &mut agents[found].agent.auth
        {
            *id = values.instance_id;
        }
    }
    Ok(())
}

/// Letters and digits in groups joined by single hyphens.
pub(super) fn is_slug(text: &str) -> bool {
    text.split('-')
        .all(|group| !group.is_empty() && group.bytes().all(|b| b.is_ascii_alphanumeric()))
}

fn check_name(name: &str) -> Result<(), Error> {
    let reason = if name.is_empty() {
        "is empty"
    } else if name.contains('_') {
        "contains underscores, which host names cannot have; use hyphens"
    } else if !is_slug(name) {
        "must be letters and digits, in groups joined by single hyphens"
    } else {
        return Ok(());
    };
    Err(Error::AgentName {
        name: name.to_owned(),
        reason,
    })
}

fn agent(name: &str, values: values::Agent) -> Agent {
    let scripts = legacy_scripts(&values);
    let auth = if values.auth == "token" {
        Auth::Token(values.token)
    } else {
        Auth::InstanceId(String::new())
    };
    Agent {
        id: values.id,
        name: name.to_owned(),
        env: values.env,
        operating_system: values.os,
        architecture: values.arch,
        directory: values.dir,
        auth: Some(auth),
        connection_timeout_seconds: clamp(values.connection_timeout),
        troubleshooting_url: values.troubleshooting_url,
        motd_file: values.motd_file,
        metadata: values.metadata.into_iter().map(metadata).collect(),
        display_apps: Some(display_apps(&values.display_apps)),
        scripts,
        order: values.order,
        resources_monitoring: Some(monitoring(values.resources_monitoring)),
        api_key_scope: values.api_key_scope,
        ..Agent::default()
    }
}

/// Scripts that are attributes of the agent itself run before those of `coder_script`.
fn legacy_scripts(values: &values::Agent) -> Vec<Script> {
    let mut scripts = Vec::new();
    let blocks = values.startup_script_behavior == "blocking"
        || (values.startup_script_behavior.is_empty() && values.login_before_ready == Some(false));
    if !values.startup_script.is_empty() {
        scripts.push(Script {
            display_name: "Startup Script".to_owned(),
            icon: "/emojis/25b6-fe0f.png".to_owned(),
            log_path: "coder-startup-script.log".to_owned(),
            script: values.startup_script.clone(),
            start_blocks_login: blocks,
            run_on_start: true,
            ..Script::default()
        });
    }
    if !values.shutdown_script.is_empty() {
        scripts.push(Script {
            display_name: "Shutdown Script".to_owned(),
            icon: "/emojis/25c0.png".to_owned(),
            log_path: "coder-shutdown-script.log".to_owned(),
            script: values.shutdown_script.clone(),
            run_on_stop: true,
            ..Script::default()
        });
    }
    scripts
}

fn display_apps(chosen: &[values::DisplayApps]) -> DisplayApps {
    chosen.first().map_or(DEFAULT_APPS, |chosen| DisplayApps {
        vscode: chosen.vscode,
        vscode_insiders: chosen.vscode_insiders,
        web_terminal: chosen.web_terminal,
        ssh_helper: chosen.ssh_helper,
        port_forwarding_helper: chosen.port_forwarding_helper,
    })
}

fn metadata(values: values::AgentMetadata) -> AgentMetadata {
    AgentMetadata {
        key: values.key,
        display_name: values.display_name,
        script: values.script,
        interval: values.interval,
        timeout: values.timeout,
        order: values.order,
    }
}

fn monitoring(values: Vec<values::Monitoring>) -> ResourcesMonitoring {
    let Some(values) = values.into_iter().next() else {
        return ResourcesMonitoring::default();
    };
    ResourcesMonitoring {
        memory: values
            .memory
            .into_iter()
            .next()
            .map(|memory| MemoryMonitor {
                enabled: memory.enabled,
                threshold: clamp(memory.threshold),
            }),
        volumes: values
            .volume
            .into_iter()
            .map(|volume| VolumeMonitor {
                path: volume.path,
                enabled: volume.enabled,
                threshold: clamp(volume.threshold),
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agent_names_are_host_names() {
        for good in ["main", "a-1", "MAIN"] {
            check_name(good).unwrap();
        }
        for bad in ["", "a_b", "-a", "a-", "a--b", "ä"] {
            assert_eq!(
                check_name(bad).unwrap_err().code(),
                "AGENT_NAME_INVALID",
                "{bad:?}"
            );
        }
    }
}
