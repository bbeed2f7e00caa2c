use std::collections::BTreeSet;

use proto::v1::{ExternalAuthToken, ParameterValue, RunningAgentToken};

use super::*;

fn job() -> Job {
    Job {
        parameters: vec![parameter("region", "eu")],
        previous_parameters: vec![parameter("region", "us")],
        external_auth: vec![ExternalAuthToken {
            id: "github".to_owned(),
            access_token: "t0".to_owned(),
        }],
        metadata: Some(WorkspaceMetadata {
            owner_name: "ada".to_owned(),
            owner_full_name: "Ada L.".to_owned(),
            owner_groups: vec!["a\"b".to_owned()],
            ..WorkspaceMetadata::default()
        }),
        ..Job::default()
    }
}

fn parameter(name: &str, value: &str) -> ParameterValue {
    ParameterValue {
        name: name.to_owned(),
        value: value.to_owned(),
    }
}

/// The contract of Coder (main of July 2026, daemon API 1.18), in which `#` stands for the
/// hash of a name.
const CONTRACT: [&str; 37] = [
    "CODER_AGENT_SCRIPT_darwin_amd64",
    "CODER_AGENT_SCRIPT_darwin_arm64",
    "CODER_AGENT_SCRIPT_linux_amd64",
    "CODER_AGENT_SCRIPT_linux_arm64",
    "CODER_AGENT_SCRIPT_linux_armv7",
    "CODER_AGENT_SCRIPT_windows_amd64",
    "CODER_AGENT_SCRIPT_windows_arm64",
    "CODER_AGENT_URL",
    "CODER_EXTERNAL_AUTH_ACCESS_TOKEN_github",
    "CODER_GIT_AUTH_ACCESS_TOKEN_github",
    "CODER_PARAMETER_#",
    "CODER_PARAMETER_PREVIOUS_#",
    "CODER_RUNNING_WORKSPACE_AGENT_TOKEN_#",
    "CODER_TASK_ID",
    "CODER_TASK_PROMPT",
    "CODER_WORKSPACE_BUILD_ID",
    "CODER_WORKSPACE_ID",
    "CODER_WORKSPACE_IS_PREBUILD",
    "CODER_WORKSPACE_NAME",
    "CODER_WORKSPACE_OWNER",
    "CODER_WORKSPACE_OWNER_EMAIL",
    "CODER_WORKSPACE_OWNER_GROUPS",
    "CODER_WORKSPACE_OWNER_ID",
    "CODER_WORKSPACE_OWNER_LOGIN_TYPE",
    "CODER_WORKSPACE_OWNER_NAME",
    "CODER_WORKSPACE_OWNER_OIDC_ACCESS_TOKEN",
    "CODER_WORKSPACE_OWNER_RBAC_ROLES",
    "CODER_WORKSPACE_OWNER_SESSION_TOKEN",
    "CODER_WORKSPACE_OWNER_SSH_PRIVATE_KEY",
    "CODER_WORKSPACE_OWNER_SSH_PUBLIC_KEY",
    "CODER_WORKSPACE_TEMPLATE_ID",
    "CODER_WORKSPACE_TEMPLATE_NAME",
    "CODER_WORKSPACE_TEMPLATE_VERSION",
    "CODER_WORKSPACE_TRANSITION",
    // Propagation of traces.
    "TRACEPARENT",
    "TRACESTATE",
    // At a prebuild's claim, in place of `…_IS_PREBUILD`.
    "CODER_WORKSPACE_IS_PREBUILD_CLAIM",
];

/// A job for which each variable of the contract has a value.
fn everything(stage: PrebuildStage) -> Job {
    let mut job = job();
    let meta = job.metadata.get_or_insert_default();
    meta.task_id = "task".to_owned();
    meta.prebuild = stage.into();
    meta.running_agent_tokens = vec![agent_token("a", "t1")];
    job.trace_context = ["traceparent", "tracestate", "path"]
        .map(|key| (key.to_owned(), "x".to_owned()))
        .into();
    job
}

fn agent_token(agent: &str, token: &str) -> RunningAgentToken {
    RunningAgentToken {
        agent_id: agent.to_owned(),
        token: token.to_owned(),
    }
}

/// Names with `#` for 64 hex digits.
fn names(env: &[EnvPair]) -> BTreeSet<String> {
    let plain = |name: &str| match name.rsplit_once('_') {
        Some((before, hash)) if hash.len() == 64 => format!("{before}_#"),
        _ => name.to_owned(),
    };
    env.iter().map(|pair| plain(&pair.name)).collect()
}

#[test]
fn the_contract_is_there_whole_and_nothing_else() {
    let mut found = names(&coder(
        &everything(PrebuildStage::Create),
        Transition::Start,
    ));
    let claimed = everything(PrebuildStage::Claim);
    found.extend(names(&coder(&claimed, Transition::Start)));
    let expected: BTreeSet<String> = CONTRACT.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(found, expected);
}

#[test]
fn only_tasks_prebuilds_and_traces_have_the_variables_that_tell_of_them() {
    let absent = [
        "CODER_EXTERNAL_AUTH_ACCESS_TOKEN_github",
        "CODER_GIT_AUTH_ACCESS_TOKEN_github",
        "CODER_PARAMETER_#",
        "CODER_PARAMETER_PREVIOUS_#",
        "CODER_RUNNING_WORKSPACE_AGENT_TOKEN_#",
        "CODER_TASK_ID",
        "CODER_TASK_PROMPT",
        "CODER_WORKSPACE_IS_PREBUILD",
        "CODER_WORKSPACE_IS_PREBUILD_CLAIM",
        "TRACEPARENT",
        "TRACESTATE",
    ];
    let found = names(&coder(&Job::default(), Transition::Start));
    let expected = CONTRACT.iter().filter(|name| !absent.contains(name));
    let expected: BTreeSet<String> = expected.map(|name| (*name).to_owned()).collect();
    assert_eq!(found, expected);
}

#[test]
fn an_agents_token_stands_under_its_hash_unless_it_is_the_only_one() {
    let mut job = everything(PrebuildStage::Claim);
    // printf '' | sha256sum
    let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    // printf a | sha256sum
    let a = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb";
    let name = |hash: &str| format!("CODER_RUNNING_WORKSPACE_AGENT_TOKEN_{hash}");
    let env = coder(&job, Transition::Start);
    assert_eq!(value(&env, &name(nothing)), "t1");
    let meta = job.metadata.get_or_insert_default();
    meta.running_agent_tokens.push(agent_token("b", "t2"));
    let env = coder(&job, Transition::Start);
    assert_eq!(value(&env, &name(a)), "t1");
}

fn value<'a>(env: &'a [EnvPair], name: &str) -> &'a str {
    let found = env.iter().find(|it| it.name == name);
    &found.unwrap_or_else(|| panic!("{name} is not set")).value
}

#[test]
fn parameters_stand_under_the_hash_of_their_name() {
    let env = coder(&job(), Transition::Start);
    // printf region | sha256sum
    let hash = "c697d2981bf416569a16cfbcdec1542b5398f3cc77d2b905819aa99c46ecf6f6";
    assert_eq!(value(&env, &format!("CODER_PARAMETER_{hash}")), "eu");
    assert_eq!(
        value(&env, &format!("CODER_PARAMETER_PREVIOUS_{hash}")),
        "us"
    );
}

#[test]
fn a_delete_is_a_destroy_to_the_template() {
    for (transition, word) in [
        (Transition::Start, "start"),
        (Transition::Stop, "stop"),
        (Transition::Delete, "destroy"),
    ] {
        let env = coder(&job(), transition);
        assert_eq!(value(&env, "CODER_WORKSPACE_TRANSITION"), word);
    }
}

#[test]
fn the_owner_and_the_tokens_are_there_under_both_names() {
    let env = coder(&job(), Transition::Start);
    assert_eq!(value(&env, "CODER_WORKSPACE_OWNER"), "ada");
    assert_eq!(value(&env, "CODER_WORKSPACE_OWNER_NAME"), "Ada L.");
    assert_eq!(value(&env, "CODER_WORKSPACE_OWNER_GROUPS"), r#"["a\"b"]"#);
    assert_eq!(value(&env, "CODER_WORKSPACE_OWNER_RBAC_ROLES"), "[]");
    assert_eq!(value(&env, "CODER_EXTERNAL_AUTH_ACCESS_TOKEN_github"), "t0");
    assert_eq!(value(&env, "CODER_GIT_AUTH_ACCESS_TOKEN_github"), "t0");
    assert!(value(&env, "CODER_AGENT_SCRIPT_linux_amd64").contains("coder-linux-amd64"));
}

#[test]
fn nothing_of_our_own_environment_gets_in() {
    let env = base(Path::new("/h"), Path::new("/t"), Path::new("/c"));
    assert_eq!(value(&env, "PATH"), PATH);
    assert_eq!(value(&env, "TF_INPUT"), "0");
    assert_eq!(env.len(), 8);
}

#[test]
fn a_value_the_kernel_would_refuse_is_named_before_any_engine_runs() {
    let mut job = job();
    let room = ENV_STRING - "CODER_PARAMETER_".len() - 64 - 1;
    job.parameters = vec![parameter("notes", &"x".repeat(room))];
    assert_eq!(check(&job, &coder(&job, Transition::Start)), Ok(()));
    job.parameters[0].value.push('x');
    let refused = check(&job, &coder(&job, Transition::Start)).expect_err("too large");
    assert_eq!(refused.code, "PARAMETER_TOO_LARGE");
    assert!(refused.message.contains("`notes`") && refused.message.contains("131071"));
}

#[test]
fn all_parameters_together_have_a_limit_too() {
    let mut job = job();
    job.parameters = (0..9)
        .map(|n| parameter(&format!("p{n}"), &"x".repeat(120_000)))
        .collect();
    let refused = check(&job, &coder(&job, Transition::Start)).expect_err("too large");
    assert!(refused.message.contains("together"), "{}", refused.message);
    job.parameters.pop();
    assert_eq!(check(&job, &coder(&job, Transition::Start)), Ok(()));
}

#[test]
fn an_environment_travels_whole_in_parts_that_each_fit_a_frame() {
    use prost::Message as _;
    let mut job = job();
    job.parameters = (0..8)
        .map(|n| parameter(&format!("p{n}"), &"x".repeat(125_000)))
        .collect();
    let env = coder(&job, Transition::Start);
    let parts = parts(env.clone());
    assert!(parts.len() > 4);
    for part in &parts {
        let frame = proto::v1::StartProcess {
            env: part.clone(),
            ..Default::default()
        };
        assert!(frame.encoded_len() + 4_096 < SUPERVISOR_FRAME);
    }
    assert_eq!(parts.concat(), env);
    assert_eq!(super::parts(Vec::new()).len(), 1);
}

#[test]
fn a_zero_byte_is_refused() {
    let mut job = job();
    job.parameters = vec![parameter("p", "a\0b")];
    let refused = check(&job, &coder(&job, Transition::Start)).expect_err("zero");
    assert_eq!(refused.code, "PARAMETER_INVALID");
}
