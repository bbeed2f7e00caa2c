//! The environment of engines, built from nothing: what every engine process needs, and
//! for plan and apply Coder's contract, from which the `coder` provider and templates
//! read the workspace, its owner, parameters and tokens. Cloud credentials are not here;
//! the supervisor adds those.

use std::path::Path;

use proto::limits::{ENV_STRING, ENVIRONMENT, SUPERVISOR_FRAME};
use proto::v1::{EnvPair, Job, JobError, PrebuildStage, Transition, WorkspaceMetadata};
use sha2::Digest as _;

use super::agent_scripts;

/// For `local-exec`; the daemon's own PATH may name directories that jails do not show.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Environment in one frame to the supervisor: one string always fits, and there is room
/// for everything else that travels with it.
const FRAME_PART: usize = SUPERVISOR_FRAME - 64 * 1024;

/// What a pair costs beside its text: field tags and lengths on the wire, a pointer and a
/// terminator in the kernel.
const PAIR: usize = 16;

/// What every engine process gets.
pub(super) fn base(home: &Path, tmp: &Path, cli_config: &Path) -> Vec<EnvPair> {
    let path = |path: &Path| path.to_string_lossy().into_owned();
    [
        ("PATH", PATH.to_owned()),
        ("HOME", path(home)),
        ("TMPDIR", path(tmp)),
        ("LANG", "C.UTF-8".to_owned()),
        ("TF_IN_AUTOMATION", "1".to_owned()),
        ("TF_INPUT", "0".to_owned()),
        ("TF_CLI_CONFIG_FILE", path(cli_config)),
        ("CHECKPOINT_DISABLE", "1".to_owned()),
    ]
    .into_iter()
    .map(|(name, value)| pair(name, value))
    .collect()
}

/// Coder's contract for a plan or apply of `job` in this direction.
pub(super) fn coder(job: &Job, transition: Transition) -> Vec<EnvPair> {
    let none = WorkspaceMetadata::default();
    let meta = job.metadata.as_ref().unwrap_or(&none);
    let mut env = workspace(meta, transition);
    env.extend(special(meta));
    env.extend(trace(job));
    env.extend(agent_scripts::all().map(|(name, script)| pair(&name, script)));
    for parameter in &job.parameters {
        let name = format!("CODER_PARAMETER_{}", hex_sha256(&parameter.name));
        env.push(pair(&name, parameter.value.clone()));
    }
    for parameter in &job.previous_parameters {
        let name = format!("CODER_PARAMETER_PREVIOUS_{}", hex_sha256(&parameter.name));
        env.push(pair(&name, parameter.value.clone()));
    }
    for token in &job.external_auth {
        for prefix in [
            "CODER_EXTERNAL_AUTH_ACCESS_TOKEN_",
            "CODER_GIT_AUTH_ACCESS_TOKEN_",
        ] {
            env.push(pair(
                &format!("{prefix}{}", token.id),
                token.access_token.clone(),
            ));
        }
    }
    env
}

/// Refuses what the kernel would refuse, by the name a person knows, before any engine
/// runs.
pub(super) fn check(job: &Job, env: &[EnvPair]) -> Result<(), JobError> {
    for EnvPair { name, value } in env {
        let size = name.len() + 1 + value.len();
        if size > ENV_STRING {
            let message = format!(
                "{} needs {size} bytes in the environment, the limit is {ENV_STRING}",
                speaking_name(job, name)
            );
            return Err(JobError::user("PARAMETER_TOO_LARGE", message)
                .hint("Pass large values by a file or a URL."));
        }
        if name.contains(['\0', '=']) || value.contains('\0') {
            let message = format!(
                "{} holds a zero byte or `=` in its name",
                speaking_name(job, name)
            );
            return Err(JobError::user("PARAMETER_INVALID", message));
        }
    }
    let total: usize = env.iter().map(size).sum();
    if total > ENVIRONMENT {
        let message =
            format!("all parameters together need {total} bytes, the limit is {ENVIRONMENT}");
        return Err(JobError::user("PARAMETER_TOO_LARGE", message)
            .hint("Pass large values by a file or a URL."));
    }
    Ok(())
}

/// An environment in parts that each fit a frame, in order; at least one.
pub(super) fn parts(env: Vec<EnvPair>) -> Vec<Vec<EnvPair>> {
    let mut parts = vec![Vec::new()];
    let mut room = FRAME_PART;
    for pair in env {
        let size = size(&pair);
        if size > room {
            parts.push(Vec::new());
            room = FRAME_PART;
        }
        room = room.saturating_sub(size);
        if let Some(last) = parts.last_mut() {
            last.push(pair);
        }
    }
    parts
}

fn size(pair: &EnvPair) -> usize {
    pair.name.len() + pair.value.len() + PAIR
}

fn workspace(meta: &WorkspaceMetadata, transition: Transition) -> Vec<EnvPair> {
    let groups = serde_json::Value::from(meta.owner_groups.clone()).to_string();
    let roles = match meta.owner_rbac_roles_json.as_str() {
        "" => "[]",
        roles => roles,
    };
    [
        ("CODER_AGENT_URL", meta.access_url.as_str()),
        ("CODER_WORKSPACE_TRANSITION", transition_word(transition)),
        ("CODER_WORKSPACE_NAME", &meta.workspace_name),
        ("CODER_WORKSPACE_ID", &meta.workspace_id),
        ("CODER_WORKSPACE_BUILD_ID", &meta.workspace_build_id),
        ("CODER_WORKSPACE_OWNER", &meta.owner_name),
        ("CODER_WORKSPACE_OWNER_ID", &meta.owner_id),
        ("CODER_WORKSPACE_OWNER_NAME", &meta.owner_full_name),
        ("CODER_WORKSPACE_OWNER_EMAIL", &meta.owner_email),
        ("CODER_WORKSPACE_OWNER_GROUPS", &groups),
        ("CODER_WORKSPACE_OWNER_RBAC_ROLES", roles),
        ("CODER_WORKSPACE_OWNER_LOGIN_TYPE", &meta.owner_login_type),
        (
            "CODER_WORKSPACE_OWNER_SESSION_TOKEN",
            &meta.owner_session_token,
        ),
        (
            "CODER_WORKSPACE_OWNER_OIDC_ACCESS_TOKEN",
            &meta.owner_oidc_access_token,
        ),
        (
            "CODER_WORKSPACE_OWNER_SSH_PUBLIC_KEY",
            &meta.owner_ssh_public_key,
        ),
        (
            "CODER_WORKSPACE_OWNER_SSH_PRIVATE_KEY",
            &meta.owner_ssh_private_key,
        ),
        ("CODER_WORKSPACE_TEMPLATE_ID", &meta.template_id),
        ("CODER_WORKSPACE_TEMPLATE_NAME", &meta.template_name),
        ("CODER_WORKSPACE_TEMPLATE_VERSION", &meta.template_version),
    ]
    .into_iter()
    .map(|(name, value)| pair(name, value.to_owned()))
    .collect()
}

/// What only the workspaces of tasks and prebuilds have: the provider takes a variable
/// that is there, though empty, for one of them.
fn special(meta: &WorkspaceMetadata) -> Vec<EnvPair> {
    let mut env = Vec::new();
    if !meta.task_id.is_empty() {
        env.push(pair("CODER_TASK_ID", meta.task_id.as_str()));
        env.push(pair("CODER_TASK_PROMPT", meta.task_prompt.as_str()));
    }
    match meta.prebuild() {
        PrebuildStage::Unspecified => {}
        PrebuildStage::Create => env.push(pair("CODER_WORKSPACE_IS_PREBUILD", "true")),
        PrebuildStage::Claim => env.push(pair("CODER_WORKSPACE_IS_PREBUILD_CLAIM", "true")),
    }
    let tokens = &meta.running_agent_tokens;
    for token in tokens {
        // A single agent's token is found without its id.
        let id = match tokens.len() {
            1 => "",
            _ => token.agent_id.as_str(),
        };
        let name = format!("CODER_RUNNING_WORKSPACE_AGENT_TOKEN_{}", hex_sha256(id));
        env.push(pair(&name, token.token.as_str()));
    }
    env
}

/// W3C trace context, so that a provider's own spans join the job's trace.
fn trace(job: &Job) -> impl Iterator<Item = EnvPair> {
    [("traceparent", "TRACEPARENT"), ("tracestate", "TRACESTATE")]
        .into_iter()
        .filter_map(|(key, name)| Some(pair(name, job.trace_context.get(key)?.as_str())))
}

/// Coder's word: a delete is a `destroy` to templates.
fn transition_word(transition: Transition) -> &'static str {
    match transition {
        Transition::Unspecified | Transition::Start => "start",
        Transition::Stop => "stop",
        Transition::Delete => "destroy",
    }
}

/// The parameter behind a hashed name, else the variable's own name.
fn speaking_name(job: &Job, name: &str) -> String {
    let hash = name.rsplit('_').next().unwrap_or(name);
    job.parameters
        .iter()
        .chain(&job.previous_parameters)
        .find(|parameter| hex_sha256(&parameter.name) == hash)
        .map_or_else(|| name.to_owned(), |it| format!("parameter `{}`", it.name))
}

fn hex_sha256(name: &str) -> String {
    use std::fmt::Write as _;
    let digest = sha2::Sha256::digest(name.as_bytes());
    digest
        .iter()
        .fold(String::with_capacity(64), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

fn pair(name: &str, value: impl Into<String>) -> EnvPair {
    EnvPair {
        name: name.to_owned(),
        value: value.into(),
    }
}

#[cfg(test)]
mod tests;
