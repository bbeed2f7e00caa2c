//! Values of the coder provider's resources, as far as they are told on. All fields are
//! optional: older providers lack some, and a plan leaves out what it does not know yet.

use std::collections::HashMap;

use serde::{Deserialize, Deserializer};

/// Null means the same as absent.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Declares a struct whose every field may be absent or null.
macro_rules! values {
    ($($(#[$attr:meta])* $name:ident { $($(#[$field_attr:meta])* $field:ident : $type:ty,)* })*) => {$(
        $(#[$attr])*
        #[derive(Debug, Default, Deserialize)]
        #[serde(default)]
        pub(super) struct $name {
            $($(#[$field_attr])* #[serde(deserialize_with = "or_default")] pub(super) $field: $type,)*
        }
    )*};
}

values! {
    Agent {
        id: String,
        token: String,
        auth: String,
        arch: String,
        os: String,
        dir: String,
        env: HashMap<String, String>,
        api_key_scope: String,
        connection_timeout: i64,
        motd_file: String,
        order: i64,
        startup_script: String,
        startup_script_behavior: String,
        shutdown_script: String,
        /// Of providers before `startup_script_behavior`; absent means true.
        login_before_ready: Option<bool>,
        troubleshooting_url: String,
        display_apps: Vec<DisplayApps>,
        metadata: Vec<AgentMetadata>,
        resources_monitoring: Vec<Monitoring>,
    }

    DisplayApps {
        vscode: bool,
        vscode_insiders: bool,
        web_terminal: bool,
        ssh_helper: bool,
        port_forwarding_helper: bool,
    }

    AgentMetadata {
        key: String,
        display_name: String,
        script: String,
        interval: i64,
        timeout: i64,
        order: i64,
    }

    Monitoring {
        memory: Vec<Threshold>,
        volume: Vec<Threshold>,
    }

    Threshold {
        path: String,
        enabled: bool,
        threshold: i64,
    }

    AgentInstance {
        agent_id: String,
        instance_id: String,
    }

    App {
        id: String,
        agent_id: String,
        slug: String,
        display_name: String,
        /// Of older providers, instead of `display_name`.
        name: String,
        command: String,
        url: String,
        icon: String,
        subdomain: bool,
        share: String,
        external: bool,
        order: i64,
        hidden: bool,
        open_in: String,
        group: String,
        tooltip: String,
        healthcheck: Vec<Healthcheck>,
    }

    Healthcheck {
        url: String,
        interval: i64,
        threshold: i64,
    }

    Script {
        agent_id: String,
        display_name: String,
        icon: String,
        script: String,
        cron: String,
        start_blocks_login: bool,
        run_on_start: bool,
        run_on_stop: bool,
        timeout: i64,
        log_path: String,
    }

    Env {
        agent_id: String,
        name: String,
        value: String,
        merge_strategy: String,
    }

    Devcontainer {
        id: String,
        agent_id: String,
        subagent_id: String,
        workspace_folder: String,
        config_path: String,
    }

    Metadata {
        resource_id: String,
        hide: bool,
        icon: String,
        daily_cost: i64,
        item: Vec<Item>,
    }

    Item {
        key: String,
        value: String,
        sensitive: bool,
        is_null: bool,
    }

    Parameter {
        name: String,
        description: String,
        #[serde(rename = "type")]
        kind: String,
        mutable: bool,
        default: String,
        icon: String,
        option: Vec<ParameterOption>,
        validation: Vec<Validation>,
        optional: bool,
        display_name: String,
        order: i64,
        ephemeral: bool,
        form_type: String,
    }

    ParameterOption {
        name: String,
        description: String,
        value: String,
        icon: String,
    }

    Validation {
        regex: String,
        error: String,
        monotonic: String,
        min: Option<i64>,
        max: Option<i64>,
        /// Absent with older providers, where 0 and 0 mean no bounds.
        min_disabled: Option<bool>,
        max_disabled: Option<bool>,
    }

    Preset {
        name: String,
        description: String,
        icon: String,
        default: bool,
        parameters: HashMap<String, String>,
        prebuilds: Vec<Prebuilds>,
    }

    Prebuilds {
        instances: i64,
        expiration_policy: Vec<ExpirationPolicy>,
        scheduling: Vec<Scheduling>,
    }

    ExpirationPolicy {
        ttl: i64,
    }

    Scheduling {
        timezone: String,
        schedule: Vec<Schedule>,
    }

    Schedule {
        cron: String,
        instances: i64,
    }

    ExternalAuth {
        id: String,
        optional: bool,
    }

    AiTask {
        id: String,
        app_id: String,
        sidebar_app: Vec<Identified>,
    }

    Workspace {
        transition: String,
    }

    Machine {
        id: Scalar,
        instance_id: Scalar,
        spot_instance_id: Scalar,
        virtual_machine_id: Scalar,
        machine_type: Scalar,
        instance_type: Scalar,
        size: Scalar,
    }

    Identified {
        id: Scalar,
    }
}

/// A string, or what other providers keep under the same name, as text.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scalar(pub(super) String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => text,
            serde_json::Value::Number(number) => number.to_string(),
            serde_json::Value::Null
            | serde_json::Value::Bool(_)
            | serde_json::Value::Array(_)
            | serde_json::Value::Object(_) => String::new(),
        }))
    }
}

/// Numbers that Coder's messages hold in 32 bits.
pub(super) fn clamp(number: i64) -> i32 {
    i32::try_from(number).unwrap_or(if number < 0 { i32::MIN } else { i32::MAX })
}
