//! What a plan or a state says, with the field names of Coder's protocol in
//! snake_case. Agent tokens and sensitive values are `null`, whatever the message
//! holds.

use proto::secret::MASK;
use proto::v1::{
    Agent, App, Devcontainer, Extraction, Preset, Resource, ResourceMetadata, ResourcesMonitoring,
    RichParameter, Script, agent,
};
use serde_json::{Value, json};

/// The document of `inspect`.
pub fn document(found: &Extraction) -> Value {
    json!({
        "resources": resources(&found.resources),
        "parameters": parameters(&found.parameters),
        "presets": presets(&found.presets),
        "external_auth_providers": found.external_auth_providers.iter()
            .map(|p| json!({ "id": p.id, "optional": p.optional })).collect::<Value>(),
        "modules": found.modules.iter().map(|m| json!({
            "source": m.source, "version": m.version, "key": m.key, "dir": m.dir,
        })).collect::<Value>(),
        "ai_tasks": found.ai_tasks.iter()
            .map(|t| json!({ "id": t.id, "app_id": t.app_id })).collect::<Value>(),
        "has_ai_tasks": found.has_ai_tasks,
        "has_external_agents": found.has_external_agents,
        "daily_cost": found.daily_cost,
        "warnings": found.warnings,
    })
}

/// Resources with their agents; what is masked in them is `null`.
pub fn resources(resources: &[Resource]) -> Value {
    let mut document = resources.iter().map(resource).collect();
    blank(&mut document);
    document
}

fn blank(value: &mut Value) {
    match value {
        Value::String(text) if text == MASK => *value = Value::Null,
        Value::Array(list) => list.iter_mut().for_each(blank),
        Value::Object(map) => map.values_mut().for_each(blank),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// `coder_parameter`s.
pub fn parameters(parameters: &[RichParameter]) -> Value {
    parameters.iter().map(parameter).collect()
}

/// `coder_workspace_preset`s.
pub fn presets(presets: &[Preset]) -> Value {
    presets.iter().map(preset).collect()
}

fn resource(resource: &Resource) -> Value {
    json!({
        "name": resource.name,
        "type": resource.r#type,
        "address": resource.address,
        "module_path": resource.module_path,
        "agents": resource.agents.iter().map(agent).collect::<Value>(),
        "metadata": resource.metadata.iter().map(metadata).collect::<Value>(),
        "hide": resource.hide,
        "icon": resource.icon,
        "instance_type": resource.instance_type,
        "daily_cost": resource.daily_cost,
    })
}

fn metadata(item: &ResourceMetadata) -> Value {
    let shown = (!item.sensitive && !item.is_null).then_some(&item.value);
    json!({
        "key": item.key,
        "value": shown,
        "sensitive": item.sensitive,
        "is_null": item.is_null,
    })
}

fn agent(agent: &Agent) -> Value {
    let (auth, instance_id) = match &agent.auth {
        Some(agent::Auth::Token(_)) => (Some("token"), None),
        Some(agent::Auth::InstanceId(id)) => (Some("instance_id"), Some(id)),
        None => (None, None),
    };
    let display = agent.display_apps.unwrap_or_default();
    json!({
        "id": agent.id,
        "name": agent.name,
        "env": agent.env,
        "operating_system": agent.operating_system,
        "architecture": agent.architecture,
        "directory": agent.directory,
        "apps": agent.apps.iter().map(app).collect::<Value>(),
        "auth": auth,
        "token": null,
        "instance_id": instance_id,
        "connection_timeout_seconds": agent.connection_timeout_seconds,
        "troubleshooting_url": agent.troubleshooting_url,
        "motd_file": agent.motd_file,
        "metadata": agent.metadata.iter().map(|m| json!({
            "key": m.key, "display_name": m.display_name, "script": m.script,
            "interval": m.interval, "timeout": m.timeout, "order": m.order,
        })).collect::<Value>(),
        "display_apps": {
            "vscode": display.vscode,
            "vscode_insiders": display.vscode_insiders,
            "web_terminal": display.web_terminal,
            "ssh_helper": display.ssh_helper,
            "port_forwarding_helper": display.port_forwarding_helper,
        },
        "scripts": agent.scripts.iter().map(script).collect::<Value>(),
        "extra_envs": agent.extra_envs.iter().map(env).collect::<Value>(),
        "order": agent.order,
        "resources_monitoring": agent.resources_monitoring.as_ref().map(monitoring),
        "devcontainers": agent.devcontainers.iter().map(devcontainer).collect::<Value>(),
        "api_key_scope": agent.api_key_scope,
    })
}

fn app(app: &App) -> Value {
    let healthcheck = app.healthcheck.as_ref();
    json!({
        "id": app.id,
        "slug": app.slug,
        "display_name": app.display_name,
        "command": app.command,
        "url": app.url,
        "icon": app.icon,
        "subdomain": app.subdomain,
        "healthcheck": healthcheck.map(|check| json!({
            "url": check.url, "interval": check.interval, "threshold": check.threshold,
        })),
        "sharing_level": app.sharing_level,
        "external": app.external,
        "order": app.order,
        "hidden": app.hidden,
        "open_in": app.open_in,
        "group": app.group,
        "tooltip": app.tooltip,
    })
}

fn script(script: &Script) -> Value {
    json!({
        "display_name": script.display_name,
        "icon": script.icon,
        "script": script.script,
        "cron": script.cron,
        "start_blocks_login": script.start_blocks_login,
        "run_on_start": script.run_on_start,
        "run_on_stop": script.run_on_stop,
        "timeout_seconds": script.timeout_seconds,
        "log_path": script.log_path,
    })
}

fn env(env: &proto::v1::AgentEnv) -> Value {
    json!({ "name": env.name, "value": env.value, "merge_strategy": env.merge_strategy })
}

fn monitoring(monitoring: &ResourcesMonitoring) -> Value {
    let memory = monitoring.memory.as_ref();
    json!({
        "memory": memory.map(|m| json!({ "enabled": m.enabled, "threshold": m.threshold })),
        "volumes": monitoring.volumes.iter().map(|v| json!({
            "path": v.path, "enabled": v.enabled, "threshold": v.threshold,
        })).collect::<Value>(),
    })
}

fn devcontainer(container: &Devcontainer) -> Value {
    json!({
        "id": container.id,
        "subagent_id": container.subagent_id,
        "name": container.name,
        "workspace_folder": container.workspace_folder,
        "config_path": container.config_path,
        "apps": container.apps.iter().map(app).collect::<Value>(),
        "scripts": container.scripts.iter().map(script).collect::<Value>(),
        "envs": container.envs.iter().map(env).collect::<Value>(),
    })
}

fn parameter(parameter: &RichParameter) -> Value {
    json!({
        "name": parameter.name,
        "display_name": parameter.display_name,
        "description": parameter.description,
        "type": parameter.r#type,
        "form_type": parameter.form_type,
        "mutable": parameter.mutable,
        "default_value": parameter.default_value,
        "icon": parameter.icon,
        "options": parameter.options.iter().map(|o| json!({
            "name": o.name, "description": o.description, "value": o.value, "icon": o.icon,
        })).collect::<Value>(),
        "validation_regex": parameter.validation_regex,
        "validation_error": parameter.validation_error,
        "validation_min": parameter.validation_min,
        "validation_max": parameter.validation_max,
        "validation_monotonic": parameter.validation_monotonic,
        "required": parameter.required,
        "order": parameter.order,
        "ephemeral": parameter.ephemeral,
    })
}

fn preset(preset: &Preset) -> Value {
    let prebuild = preset.prebuild.as_ref();
    json!({
        "name": preset.name,
        "parameters": preset.parameters.iter()
            .map(|p| json!({ "name": p.name, "value": p.value })).collect::<Value>(),
        "prebuild": prebuild.map(|prebuild| json!({
            "instances": prebuild.instances,
            "expiration_policy": prebuild.expiration_ttl_s.map(|ttl| json!({ "ttl": ttl })),
            "scheduling": (!prebuild.schedules.is_empty()).then(|| json!({
                "timezone": prebuild.scheduling_timezone,
                "schedule": prebuild.schedules.iter().map(|s| json!({
                    "cron": s.cron, "instances": s.instances,
                })).collect::<Value>(),
            })),
        })),
        "default": preset.default,
        "description": preset.description,
        "icon": preset.icon,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_token_and_a_sensitive_value_are_never_shown() {
        let agent = Agent {
            name: "main".to_owned(),
            auth: Some(agent::Auth::Token("hunter2".to_owned())),
            ..Agent::default()
        };
        let secret = ResourceMetadata {
            key: "password".to_owned(),
            value: "hunter2".to_owned(),
            sensitive: true,
            is_null: false,
        };
        let resource = Resource {
            agents: vec![agent],
            metadata: vec![secret],
            ..Resource::default()
        };
        let shown = resources(&[resource]);
        assert!(!shown.to_string().contains("hunter2"));
        assert_eq!(shown[0]["agents"][0]["auth"], "token");
        assert_eq!(shown[0]["agents"][0]["token"], Value::Null);
        assert_eq!(shown[0]["metadata"][0]["value"], Value::Null);
    }

    #[test]
    fn an_instance_is_named_by_its_id() {
        let agent_message = Agent {
            auth: Some(agent::Auth::InstanceId("i-1".to_owned())),
            ..Agent::default()
        };
        let shown = agent(&agent_message);
        assert_eq!(shown["auth"], "instance_id");
        assert_eq!(shown["instance_id"], "i-1");
    }

    #[test]
    fn a_prebuild_has_the_nested_names_of_the_protocol() {
        let prebuild = proto::v1::Prebuild {
            instances: 2,
            expiration_ttl_s: Some(60),
            scheduling_timezone: "UTC".to_owned(),
            schedules: vec![proto::v1::PrebuildSchedule {
                cron: "* 8-18 * * 1-5".to_owned(),
                instances: 3,
            }],
        };
        let shown = preset(&Preset {
            prebuild: Some(prebuild),
            ..Preset::default()
        });
        assert_eq!(
            shown["prebuild"],
            json!({
                "instances": 2,
                "expiration_policy": { "ttl": 60 },
                "scheduling": {
                    "timezone": "UTC",
                    "schedule": [{ "cron": "* 8-18 * * 1-5", "instances": 3 }],
                },
            })
        );
    }
}
