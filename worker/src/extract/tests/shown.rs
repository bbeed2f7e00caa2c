//! An extraction as the JSON that people write by hand: defaults and ids left out.

use proto::v1::agent::Auth;
use proto::v1::{
    Agent, AgentEnv, App, Devcontainer, DisplayApps, Extraction, Preset, Resource, RichParameter,
    Script,
};
use serde_json::{Map, Value, json};

/// Equal, where `"*"` stands for any string.
pub(super) fn matches(expected: &Value, got: &Value) -> bool {
    match (expected, got) {
        (Value::String(any), Value::String(_)) if any == "*" => true,
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| matches(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(k, v)| b.get(k).is_some_and(|got| matches(v, got)))
        }
        _ => expected == got,
    }
}

pub(super) fn extraction(e: &Extraction) -> Value {
    brief(json!({
        "resources": list(&e.resources, resource),
        "parameters": list(&e.parameters, parameter),
        "presets": list(&e.presets, preset),
        "external_auth_providers": list(&e.external_auth_providers, |p| {
            json!({"id": p.id, "optional": p.optional})
        }),
        "ai_tasks": e.ai_tasks.len(),
        "has_ai_tasks": e.has_ai_tasks,
        "has_external_agents": e.has_external_agents,
        "daily_cost": e.daily_cost,
        "warnings": e.warnings,
    }))
}

fn list<T>(items: &[T], show: impl Fn(&T) -> Value) -> Value {
    items.iter().map(show).collect()
}

/// Without what is empty, false, zero or null, at every depth.
fn brief(value: Value) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .map(|(key, value)| (key, brief(value)))
            .filter(|(key, value)| {
                key.starts_with("validation_m") && value.is_number() || !is_default(value)
            })
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(items) => items.into_iter().map(brief).collect(),
        other => other,
    }
}

fn is_default(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(true) => false,
    }
}

fn resource(r: &Resource) -> Value {
    json!({
        "address": r.address, "type": r.r#type, "name": r.name, "module_path": r.module_path,
        "hide": r.hide, "icon": r.icon, "instance_type": r.instance_type, "daily_cost": r.daily_cost,
        "metadata": list(&r.metadata, |m| {
            json!({"key": m.key, "value": m.value, "sensitive": m.sensitive, "is_null": m.is_null})
        }),
        "agents": list(&r.agents, agent),
    })
}

fn agent(a: &Agent) -> Value {
    let monitoring = a.resources_monitoring.clone().unwrap_or_default();
    json!({
        "name": a.name, "os": a.operating_system, "arch": a.architecture, "dir": a.directory,
        "env": a.env, "order": a.order, "api_key_scope": a.api_key_scope,
        "auth": match &a.auth {
            Some(Auth::Token(_)) => "token".to_owned(),
            Some(Auth::InstanceId(id)) => format!("instance:{id}"),
            None => "none".to_owned(),
        },
        "connection_timeout_seconds": a.connection_timeout_seconds,
        "troubleshooting_url": a.troubleshooting_url, "motd_file": a.motd_file,
        "metadata": list(&a.metadata, |m| json!({
            "key": m.key, "display_name": m.display_name, "script": m.script,
            "interval": m.interval, "timeout": m.timeout, "order": m.order,
        })),
        "display_apps": display_apps(a.display_apps.as_ref().unwrap()),
        "memory": monitoring.memory.map(|m| json!({"enabled": m.enabled, "threshold": m.threshold})),
        "volumes": list(&monitoring.volumes, |v| {
            json!({"path": v.path, "enabled": v.enabled, "threshold": v.threshold})
        }),
        "apps": list(&a.apps, app), "scripts": list(&a.scripts, script), "envs": list(&a.extra_envs, env),
        "devcontainers": list(&a.devcontainers, devcontainer),
    })
}

fn display_apps(apps: &DisplayApps) -> Vec<&'static str> {
    [
        ("vscode", apps.vscode),
        ("vscode_insiders", apps.vscode_insiders),
        ("web_terminal", apps.web_terminal),
        ("ssh_helper", apps.ssh_helper),
        ("port_forwarding_helper", apps.port_forwarding_helper),
    ]
    .into_iter()
    .filter_map(|(name, on)| on.then_some(name))
    .collect()
}

fn devcontainer(d: &Devcontainer) -> Value {
    json!({
        "name": d.name, "workspace_folder": d.workspace_folder, "config_path": d.config_path,
        "apps": list(&d.apps, app), "scripts": list(&d.scripts, script), "envs": list(&d.envs, env),
    })
}

fn app(a: &App) -> Value {
    json!({
        "slug": a.slug, "display_name": a.display_name, "command": a.command, "url": a.url,
        "icon": a.icon, "subdomain": a.subdomain, "sharing_level": a.sharing_level,
        "external": a.external, "order": a.order, "hidden": a.hidden, "open_in": a.open_in,
        "group": a.group, "tooltip": a.tooltip,
        "healthcheck": a.healthcheck.as_ref().map(|h| {
            json!({"url": h.url, "interval": h.interval, "threshold": h.threshold})
        }),
    })
}

fn script(s: &Script) -> Value {
    json!({
        "display_name": s.display_name, "icon": s.icon, "script": s.script, "cron": s.cron,
        "start_blocks_login": s.start_blocks_login, "run_on_start": s.run_on_start,
        "run_on_stop": s.run_on_stop, "timeout_seconds": s.timeout_seconds, "log_path": s.log_path,
    })
}

fn env(e: &AgentEnv) -> Value {
    json!({"name": e.name, "value": e.value, "merge_strategy": e.merge_strategy})
}

fn parameter(p: &RichParameter) -> Value {
    json!({
        "name": p.name, "description": p.description, "type": p.r#type, "mutable": p.mutable,
        "default_value": p.default_value, "icon": p.icon, "required": p.required,
        "display_name": p.display_name, "order": p.order, "ephemeral": p.ephemeral,
        "form_type": p.form_type, "validation_regex": p.validation_regex,
        "validation_error": p.validation_error, "validation_min": p.validation_min,
        "validation_max": p.validation_max, "validation_monotonic": p.validation_monotonic,
        "options": list(&p.options, |o| {
            json!({"name": o.name, "description": o.description, "value": o.value, "icon": o.icon})
        }),
    })
}

fn preset(p: &Preset) -> Value {
    json!({
        "name": p.name, "description": p.description, "icon": p.icon, "default": p.default,
        "parameters": list(&p.parameters, |v| json!({"name": v.name, "value": v.value})),
        "prebuild": p.prebuild.as_ref().map(|b| json!({
            "instances": b.instances, "expiration_ttl_s": b.expiration_ttl_s,
            "scheduling_timezone": b.scheduling_timezone,
            "schedules": list(&b.schedules, |s| json!({"cron": s.cron, "instances": s.instances})),
        })),
    })
}
