//! Recordings of a real engine with the real coder provider against what a person reads
//! in the template beside them (`testdata/extract/*/expected.json`, written by hand).

mod shown;

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proto::v1::JobError;
use serde_json::Value;

use super::*;
use crate::analyze;

fn testdata(below: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../testdata")
        .join(below)
}

struct Case {
    name: String,
    expected: Value,
    plan: Vec<u8>,
    shown_state: Vec<u8>,
    state_file: Vec<u8>,
    locals: Vec<LocalHint>,
}

fn cases() -> Vec<Case> {
    let mut names: Vec<PathBuf> = fs::read_dir(testdata("extract"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    names.sort();
    names
        .into_iter()
        .map(|dir| {
            let read =
                |name| fs::read(dir.join(name)).unwrap_or_else(|e| panic!("{dir:?} {name}: {e}"));
            Case {
                name: dir.file_name().unwrap().to_string_lossy().into_owned(),
                expected: serde_json::from_slice(&read("expected.json")).unwrap(),
                plan: read("plan.json"),
                shown_state: read("state.json"),
                state_file: read("terraform.tfstate.json"),
                locals: analyze::directory(&dir).unwrap().locals,
            }
        })
        .collect()
}

#[track_caller]
fn check(case: &Case, from: &str, got: Result<Extraction, Error>) {
    let what = format!("{} from {from}", case.name);
    if let Some(error) = case.expected.get("error") {
        let got = JobError::from(got.expect_err(&what));
        assert_eq!(got.code, error["code"].as_str().unwrap(), "{what}");
        for word in error["says"].as_array().unwrap() {
            assert!(
                got.message.contains(word.as_str().unwrap()),
                "{what}: {}",
                got.message
            );
        }
        return;
    }
    let kind = if from == "plan" { "plan" } else { "state" };
    let expected = case.expected.get(kind).unwrap_or(&case.expected);
    let got = shown::extraction(&got.unwrap_or_else(|error| panic!("{what}: {error:?}")));
    assert!(
        shown::matches(expected, &got),
        "{what}\nexpected {expected:#}\ngot {got:#}"
    );
}

#[test]
fn plans_are_told_as_their_templates_say() {
    for case in cases() {
        check(&case, "plan", from_plan(&case.plan, &case.locals));
    }
}

#[test]
fn both_forms_of_a_state_say_the_same() {
    for case in cases() {
        check(
            &case,
            "show -json",
            from_state(&case.shown_state, None, &[]),
        );
        check(&case, "state file", from_state(&case.state_file, None, &[]));
    }
}

#[test]
fn a_state_with_its_plan_says_the_same() {
    for case in cases() {
        let got = from_state(&case.state_file, Some(&case.plan), &case.locals);
        check(&case, "state file and plan", got);
    }
}

#[test]
fn known_ids_and_tokens_come_from_the_state() {
    let case = cases()
        .into_iter()
        .find(|case| case.name == "agents")
        .unwrap();
    let state = from_state(&case.state_file, None, &[]).unwrap();
    for agent in state.resources.iter().flat_map(|resource| &resource.agents) {
        assert_eq!(agent.id.len(), 36);
        assert!(
            matches!(&agent.auth, Some(proto::v1::agent::Auth::Token(token)) if token.len() == 36)
        );
        assert!(agent.apps.iter().all(|app| app.id.len() == 36));
    }
}

#[test]
fn without_the_hint_a_local_hides_the_machine_and_the_agent_stands_alone() {
    let case = cases()
        .into_iter()
        .find(|case| case.name == "local")
        .unwrap();
    let plan = from_plan(&case.plan, &[]).unwrap();
    let agents: Vec<_> = plan
        .resources
        .iter()
        .map(|resource| (resource.r#type.as_str(), resource.agents.len()))
        .collect();
    assert_eq!(agents, [("coder_agent", 1), ("null_resource", 0)]);
    assert_eq!(plan.warnings, ["coder_app.ide is attached to no agent"]);
}

#[test]
fn a_real_template_start_plan() {
    let plan = fs::read(testdata("recordings/kubernetes-ollama/plan-start.json")).unwrap();
    let got = from_plan(&plan, &[]).unwrap();
    let resources: Vec<_> = got.resources.iter().map(|r| r.address.as_str()).collect();
    assert_eq!(
        resources,
        [
            "kubernetes_deployment.main[0]",
            "kubernetes_persistent_volume_claim.home"
        ]
    );
    let [agent] = &got.resources[0].agents[..] else {
        panic!("one agent")
    };
    assert_eq!(
        (agent.name.as_str(), agent.operating_system.as_str()),
        ("main", "linux")
    );
    let keys: Vec<_> = agent.metadata.iter().map(|m| m.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "0_cpu_usage",
            "1_ram_usage",
            "3_home_disk",
            "4_cpu_usage_host",
            "5_mem_usage_host",
            "6_load_host"
        ]
    );
    assert_eq!(agent.metadata[2].script, "coder stat disk --path ${HOME}");
    assert_eq!(agent.scripts.len(), 1);
    assert!(
        agent.scripts[0]
            .script
            .starts_with("set -e\ncurl -fsSL https://ollama.com")
    );
    assert!(!agent.scripts[0].start_blocks_login);
    let [app] = &agent.apps[..] else {
        panic!("one app")
    };
    assert_eq!(app.url, "http://localhost:13337?folder=/home/coder");
    let check = app.healthcheck.as_ref().unwrap();
    assert_eq!((check.interval, check.threshold), (3, 10));
    assert_eq!(got.warnings, Vec::<String>::new());
}

#[test]
fn a_real_template_asks_for_its_parameters() {
    let plan = fs::read(testdata("recordings/kubernetes-ollama/plan-start.json")).unwrap();
    let got = from_plan(&plan, &[]).unwrap();
    let parameters: Vec<_> = got
        .parameters
        .iter()
        .map(|p| {
            (
                p.name.as_str(),
                p.default_value.as_str(),
                p.mutable,
                p.options.len(),
                p.required,
            )
        })
        .collect();
    assert_eq!(
        parameters,
        [
            ("cpu", "2", true, 4, false),
            ("home_disk_size", "10", false, 0, false),
            ("memory", "2", true, 4, false),
        ]
    );
    let disk = &got.parameters[1];
    assert_eq!(
        (disk.validation_min, disk.validation_max),
        (Some(1), Some(99_999))
    );
}

#[test]
fn a_real_template_stop_plan_keeps_the_disk_only() {
    let plan = fs::read(testdata("recordings/kubernetes-ollama/plan-stop.json")).unwrap();
    let got = from_plan(&plan, &[]).unwrap();
    let resources: Vec<_> = got.resources.iter().map(|r| r.address.as_str()).collect();
    assert_eq!(resources, ["kubernetes_persistent_volume_claim.home"]);
    assert_eq!(got.resources[0].agents.len(), 0);
    assert_eq!(got.parameters.len(), 3);
}

#[test]
fn nothing_is_an_empty_extraction() {
    let shown = br#"{"format_version":"1.0","terraform_version":"1.11.4"}"#;
    let file = br#"{"version":4,"terraform_version":"1.11.4","serial":3,"lineage":"x","outputs":{},"resources":[],"check_results":null}"#;
    for state in [&b""[..], shown, file] {
        assert_eq!(from_state(state, None, &[]).unwrap(), Extraction::default());
    }
}

#[test]
fn unknown_formats_and_torn_json_are_errors() {
    for (json, code) in [
        (
            &br#"{"format_version":"2.0"}"#[..],
            "EXTRACT_FORMAT_UNSUPPORTED",
        ),
        (br#"{"version":3}"#, "EXTRACT_FORMAT_UNSUPPORTED"),
        (br#"{}"#, "EXTRACT_FORMAT_UNSUPPORTED"),
        (br#"{"version":4,"#, "EXTRACT_JSON_INVALID"),
        (b"\0", "EXTRACT_JSON_INVALID"),
    ] {
        assert_eq!(from_state(json, None, &[]).unwrap_err().code(), code);
    }
    assert_eq!(
        from_plan(b"{}", &[]).unwrap_err().code(),
        "EXTRACT_JSON_INVALID"
    );
    let wrong = br#"{"version":4,"resources":[{"mode":"managed","type":"coder_app","name":"a",
        "instances":[{"attributes":{"slug":7}}]}]}"#;
    let error = JobError::from(from_state(wrong, None, &[]).unwrap_err());
    assert_eq!(error.code, "EXTRACT_VALUES_INVALID");
    assert!(error.message.contains("coder_app.a"));
}

#[test]
fn deeply_nested_json_is_an_error_not_a_crash() {
    let plan = |root_module: String| {
        format!(r#"{{"format_version":"1.2","configuration":{{"root_module":{root_module}}}}}"#)
    };
    let calls = r#"{"module_calls":{"a":{"module":"#.repeat(10_000) + "{}" + &"}}}".repeat(10_000);
    let arrays = "[".repeat(100_000) + &"]".repeat(100_000);
    let expression = format!(
        r#"{{"resources":[{{"mode":"managed","type":"t","name":"n","expressions":{{"a":{arrays}}}}}]}}"#
    );
    for deep in [plan(calls), plan(expression)] {
        let error = from_plan(deep.as_bytes(), &[]).unwrap_err();
        assert_eq!(error.code(), "EXTRACT_JSON_INVALID");
    }
    let ignored = format!(r#"{{"format_version":"1.2","new":{arrays}}}"#);
    assert_eq!(
        from_plan(ignored.as_bytes(), &[]).unwrap(),
        Extraction::default()
    );
}

fn machine(kind: &str, attributes: &str) -> Vec<u8> {
    format!(
        r#"{{"version":4,"resources":[
          {{"mode":"managed","type":"coder_agent","name":"main","instances":[
            {{"attributes":{{"id":"a","auth":"x-instance-identity","token":"t"}}}}]}},
          {{"mode":"managed","type":"{kind}","name":"vm","instances":[
            {{"deposed":"00000001","attributes":{{"id":"old"}}}},
            {{"index_key":0,"attributes":{attributes},"dependencies":["coder_agent.main"]}}]}}]}}"#
    )
    .into_bytes()
}

#[test]
fn cloud_machines_bring_their_type_and_identity() {
    for (kind, attributes, machine_type, id) in [
        (
            "google_compute_instance",
            r#"{"machine_type":"e2","instance_id":"9"}"#,
            "e2",
            "9",
        ),
        (
            "aws_instance",
            r#"{"instance_type":"t3","id":"i-1"}"#,
            "t3",
            "i-1",
        ),
        (
            "aws_spot_instance_request",
            r#"{"instance_type":"t3","spot_instance_id":"i-2"}"#,
            "t3",
            "i-2",
        ),
        (
            "azurerm_linux_virtual_machine",
            r#"{"size":"B1","virtual_machine_id":"v"}"#,
            "B1",
            "v",
        ),
        (
            "azurerm_windows_virtual_machine",
            r#"{"size":"B2","virtual_machine_id":"w"}"#,
            "B2",
            "w",
        ),
        ("other_machine", r#"{"instance_type":"x","id":"y"}"#, "", ""),
    ] {
        let got = from_state(&machine(kind, attributes), None, &[]).unwrap();
        assert_eq!(got.resources.len(), 1, "the deposed object is not listed");
        assert_eq!(got.resources[0].address, format!("{kind}.vm[0]"));
        assert_eq!(got.resources[0].instance_type, machine_type, "{kind}");
        let auth = got.resources[0].agents[0].auth.clone();
        assert_eq!(
            auth,
            Some(proto::v1::agent::Auth::InstanceId(id.to_owned())),
            "{kind}"
        );
    }
}

#[test]
fn app_slugs_are_parts_of_host_names() {
    for slug in ["Upper", "under_score", "a--b", "-a"] {
        let state = format!(
            r#"{{"version":4,"resources":[{{"mode":"managed","type":"coder_app","name":"x",
            "instances":[{{"attributes":{{"slug":"{slug}"}}}}]}}]}}"#
        );
        let error = from_state(state.as_bytes(), None, &[]).unwrap_err();
        assert_eq!(error.code(), "APP_SLUG_INVALID", "{slug}");
    }
}

#[test]
fn two_thousand_resources_are_read_in_few_steps() {
    // A chain through which every resource depends on all before it, as states record it.
    let mut resources = vec![
        r#"{"mode":"managed","type":"coder_agent","name":"main","instances":[{"attributes":{"id":"a","auth":"token"}}]}"#.to_owned(),
    ];
    for n in 0..2_000 {
        let depends: Vec<String> = (n.max(40) - 40..n)
            .map(|d| format!("\"vm.v{d:04}\""))
            .collect();
        let depends = [vec!["\"coder_agent.main\"".to_owned()], depends]
            .concat()
            .join(",");
        resources.push(format!(
            r#"{{"mode":"managed","type":"vm","name":"v{n:04}","instances":[{{"attributes":{{"id":"{n}"}},"dependencies":[{depends}]}}]}}"#
        ));
    }
    let state = format!(r#"{{"version":4,"resources":[{}]}}"#, resources.join(","));
    let records = state::read(state.as_bytes()).unwrap();
    let mut graph = Graph::default();
    add_dependencies(&records, &mut graph);
    let got = extract(&records, &graph).unwrap();
    assert_eq!(
        got.resources[0].agents.len(),
        1,
        "on the first of the chain"
    );
    assert_eq!(got.resources.len(), 2_000);
    assert!(
        graph.steps() <= 4 * graph.edges() as u64,
        "{} steps",
        graph.steps()
    );
}

/// Recordings with bytes replaced and pieces cut out or doubled.
fn altered() -> impl Strategy<Value = Vec<u8>> {
    let names = ["agents", "counted-module", "devcontainer", "parameters"];
    let files = ["plan.json", "state.json", "terraform.tfstate.json"];
    let change = (any::<prop::sample::Index>(), any::<u8>(), 0_usize..200);
    let changes = prop::collection::vec(change, 1..4);
    let choice = (0..names.len(), 0..files.len(), changes);
    choice.prop_map(move |(name, file, changes)| {
        let path = testdata("extract").join(names[name]).join(files[file]);
        let mut bytes = fs::read(path).unwrap();
        for (index, byte, length) in changes {
            let at = index.index(bytes.len());
            let end = (at + length).min(bytes.len());
            match byte % 3 {
                0 => bytes[at] = byte,
                1 => drop(bytes.drain(at..end)),
                _ => {
                    let piece = bytes[at..end].to_vec();
                    bytes.splice(at..at, piece);
                }
            }
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_document_panics(bytes in prop_oneof![altered(), prop::collection::vec(any::<u8>(), 0..300)]) {
        let _ = from_plan(&bytes, &[]);
        let _ = from_state(&bytes, None, &[]);
        let _ = modules(&bytes);
    }
}
