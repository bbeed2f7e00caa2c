//! What commands answer: exit codes, documents, and what goes to which stream.

use serde_json::{Value, json};

use crate::harness::{Fleet, Ran, command, template};

fn alone(arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
    let home = tempfile::tempdir().expect("home");
    let mut command = command(home.path());
    command.args(arguments).envs(variables.iter().copied());
    let output = command.output().expect("the binary starts");
    Ran::new(arguments.join(" "), &output)
}

#[test]
fn a_queue_that_is_not_there_has_its_own_exit_code() {
    // Discard's port on loopback: nobody listens.
    let ran = alone(&["jobs", "list", "--url", "http://127.0.0.1:9"], &[]).exits(3);
    assert!(ran.stderr.starts_with("error: "), "{}", ran.stderr);
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    assert_eq!(ran.stdout, "");
    let line = [
        "jobs",
        "list",
        "--url",
        "http://127.0.0.1:9",
        "--output",
        "json",
    ];
    let document = alone(&line, &[]).exits(3).json();
    assert_eq!(document["error"]["code"], "QUEUE_UNREACHABLE");
    assert_eq!(document["error"]["class"], "internal");
    assert!(document["error"]["hint"].is_string());
}

#[test]
fn wrong_usage_has_its_own_exit_code_and_a_document() {
    alone(&["jobs"], &[]).exits(2);
    alone(&["start", "--slots", "0", "--key-file", "k"], &[]).exits(2);
    let document = alone(&["jobs", "lst", "--output", "json"], &[])
        .exits(2)
        .json();
    assert_eq!(document["error"]["code"], "USAGE");
}

/// Nobody listens there (exit 3) and the file is not there (exit 1), so the exit code says
/// which of the two was used.
#[test]
fn of_token_and_token_file_the_stronger_layer_counts() {
    let home = tempfile::tempdir().expect("home");
    let file = |name: &str, text: &str| {
        let path = home.path().join(name);
        std::fs::write(&path, text).expect("file");
        path.to_str().expect("text").to_owned()
    };
    let with_token = file("token.toml", "token = 't'\n");
    let with_file = file("file.toml", "token_file = '/no/such'\n");
    let with_both = file("both.toml", "token = 't'\ntoken_file = '/no/such'\n");
    let flags = (["--token", "t"], ["--token-file", "/no/such"]);
    let variables = [
        ("PROVISIONERD_TOKEN", "t"),
        ("PROVISIONERD_TOKEN_FILE", "/no/such"),
    ];
    let both = [flags.0, flags.1].concat();
    // Arguments, variables, what is said, exit code.
    type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a str, i32);
    let cases: [Case<'_>; 10] = [
        (&flags.1, &variables[..1], "/dev/null", 1),
        (&flags.0, &variables[1..], "/dev/null", 3),
        (&flags.1, &[], &with_token, 1),
        (&flags.0, &[], &with_file, 3),
        (&[], &variables[..1], &with_file, 3),
        (&[], &variables[1..], &with_token, 1),
        (&flags.0, &variables, &with_both, 3),
        (&both, &[], "/dev/null", 2),
        (&[], &variables, "/dev/null", 2),
        (&[], &[], &with_both, 2),
    ];
    for (line, variables, config, code) in cases {
        let asked = ["jobs", "list", "--url", "http://127.0.0.1:9"];
        let line = [&asked, line, &["--config", config]].concat();
        let ran = alone(&line, variables).exits(code);
        assert!(ran.stderr.starts_with("error: "), "{}", ran.stderr);
    }
}

#[test]
fn what_is_typed_is_not_refused_for_what_the_environment_says() {
    let idle = [("PROVISIONERD_EXIT_AFTER_IDLE", "5")];
    let line = ["start", "--once", "--key-file", "/no/such"];
    alone(&line, &idle).exits(1);
    let directory = template("quickstart");
    let line = ["inspect", directory.to_str().expect("text")];
    alone(&line, &[("PROVISIONERD_STATE", "/no/such")]).exits(0);
}

/// A certificate in the file and a client authority on the command line belong together.
#[test]
fn a_flag_finds_the_one_it_belongs_to_in_the_file() {
    let home = tempfile::tempdir().expect("home");
    let config = home.path().join("p.toml");
    let text = "tls_cert_file = '/no/such'\ntls_key_file = '/no/such'\n";
    std::fs::write(&config, text).expect("file");
    let config = config.to_str().expect("text");
    let line = [
        "serve",
        "--tls-client-ca-file",
        "/no/such",
        "--config",
        config,
    ];
    let ran = alone(&line, &[]).exits(1);
    assert!(ran.stderr.contains("/no/such"), "{}", ran.stderr);
}

#[test]
fn a_daemon_does_not_start_on_credentials_it_would_not_hand_out() {
    let home = tempfile::tempdir().expect("home");
    let file = home.path().join("p.toml");
    std::fs::write(&file, "[profile.aws]\nenv = { AWS_REGION = 'eu' }\n").expect("file");
    let file = file.to_str().expect("text");
    let line = [
        "start",
        "--key-file",
        "k",
        "--config",
        file,
        "--output",
        "json",
    ];
    let ran = alone(&line, &[]).exits(2);
    assert_eq!(ran.json()["error"]["code"], "PROFILES_UNSUPPORTED");
    assert!(ran.json()["error"]["hint"].is_string());
}

#[test]
fn an_unknown_variable_is_a_warning_with_the_nearest_name() {
    let ran = alone(&["completions", "bash"], &[("PROVISIONERD_ULR", "x")]).exits(0);
    let expected = "did you mean PROVISIONERD_URL?";
    assert!(ran.stderr.contains(expected), "{}", ran.stderr);
    assert!(ran.stdout.contains("provisionerd"));
    let quiet = alone(&["completions", "bash", "-q"], &[("PROVISIONERD_ULR", "x")]).exits(0);
    assert_eq!(quiet.stderr, "");
}

#[test]
fn credentials_print_their_secret_once_and_allow_what_their_role_says() {
    let fleet = Fleet::start();
    let key = fleet.json(&["keys", "create", "eu", "--tag", "region=eu"]);
    assert_eq!(key["name"], "eu");
    assert_eq!(key["tags"], json!({ "region": "eu" }));
    let secret = key["key"].as_str().expect("a secret");
    let listed = fleet.json(&["key", "list"]);
    assert!(!listed.to_string().contains(secret));
    fleet.json(&["keys", "delete", "eu"]);
    assert_eq!(fleet.json(&["keys", "list"]), json!([]));

    let line = [
        "tokens", "create", "ci", "--owner", "robot", "--role", "member",
    ];
    let token = fleet.json(&line);
    let token = token["token"].as_str().expect("a secret");
    fleet.run(&["templates", "list", "--token", token]).exits(0);
    fleet
        .run(&["keys", "create", "x", "--token", token])
        .exits(4);
    let refused = fleet.run(&["jobs", "list", "--token", "nonsense"]).exits(4);
    assert!(refused.stderr.starts_with("error: "), "{}", refused.stderr);
    fleet.json(&["tokens", "delete", "ci"]);
    fleet.run(&["templates", "list", "--token", token]).exits(4);
}

/// What `keys create NAME > FILE` makes is a key file, and so with tokens.
#[test]
fn a_secret_is_alone_on_stdout() {
    let fleet = Fleet::start();
    let made = |line: &[&str], prefix: &str| {
        let ran = fleet.run(line).exits(0);
        let secret = ran.stdout.strip_suffix('\n').expect("a line");
        assert!(secret.starts_with(prefix), "{secret}");
        assert!(!secret.contains(char::is_whitespace), "{secret}");
        assert!(!ran.stderr.contains(secret), "{}", ran.stderr);
        assert!(ran.stderr.contains("only time"), "{}", ran.stderr);
        ran.stdout
    };
    made(&["keys", "create", "eu"], "pdk_");
    let token = made(&["tokens", "create", "ci", "--owner", "robot"], "pdt_");
    let file = fleet.dir().join("robot.token");
    std::fs::write(&file, token).expect("file");
    let file = file.to_str().expect("text");
    fleet
        .run(&["templates", "list", "--token-file", file])
        .exits(0);
}

#[test]
fn limits_are_set_listed_and_lifted() {
    let fleet = Fleet::start();
    let set = fleet.json(&["limits", "set", "owner", "ann", "4"]);
    let ann = json!({"of": "owner", "name": "ann", "most": 4, "running": 0});
    assert_eq!(set, ann);
    assert_eq!(fleet.json(&["limits", "list"]), json!([ann]));
    let table = fleet.run(&["limits", "list"]).exits(0).stdout;
    assert!(
        table.contains("RUNNING") && table.contains("ann"),
        "{table}"
    );
    let lifted = fleet.json(&["limits", "set", "owner", "ann", "--none"]);
    assert_eq!(lifted["most"], Value::Null);
    assert_eq!(fleet.json(&["limits", "list"]), json!([]));
    let absent = ["limits", "set", "template", "absent", "1"];
    let error = fleet.run(&absent).exits(1).stderr;
    assert!(error.contains("templates list"), "{error}");
    fleet.run(&["limits", "set", "owner", "ann"]).exits(2);
}

#[test]
fn what_is_not_there_is_named() {
    let fleet = Fleet::start();
    for line in [
        &["templates", "show", "nothing"][..],
        &["workspaces", "show", "nothing"],
        &["jobs", "show", "00000000-0000-7000-8000-000000000000"],
        &["workspaces", "create", "w", "--template", "nothing"],
    ] {
        let ran = fleet.run(line).exits(1);
        assert!(
            ran.stderr.starts_with("error: "),
            "{line:?}: {}",
            ran.stderr
        );
    }
    assert_eq!(fleet.json(&["workspaces", "list"]), json!([]));
    assert_eq!(fleet.run(&["jobs", "list"]).exits(0).stdout, "no jobs\n");
}

#[test]
fn a_template_and_its_workspace_print_the_contracts_documents() {
    let fleet = Fleet::start();
    let _daemon = fleet.daemon("one", &[]);
    let pushed = fleet
        .push("t", &template("quickstart"), &[])
        .exits(0)
        .json();
    assert_eq!(pushed["template"], "t");
    assert_eq!(pushed["job"]["kind"], "template_import");
    assert_eq!(pushed["job"]["status"], "succeeded");
    assert!(pushed["version_id"].is_string());

    fleet
        .push("t", &template("quickstart"), &["--variable", "greeting=hi"])
        .exits(0);
    assert_eq!(active(&fleet), 2);
    fleet.json(&["templates", "promote", "t", "1"]);
    assert_eq!(active(&fleet), 1);
    let shown = fleet.json(&["templates", "show", "t"]);
    let names: Vec<&Value> = array(&shown["variables"])
        .iter()
        .map(|v| &v["name"])
        .collect();
    assert!(names.contains(&&json!("greeting")), "{shown:#}");
    assert_eq!(array(&shown["versions"]).len(), 2);
    assert!(!array(&shown["start_resources"]).is_empty());

    let planned = fleet.json(&["templates", "plan", "t"]);
    assert_eq!(planned["kind"], "template_dry_run");
    assert_eq!(array(&planned["resources"]).len(), 4);

    let made = fleet.json(&["workspaces", "create", "w", "--template", "t"]);
    let job = &made["job"];
    assert_eq!(job["kind"], "workspace_build");
    assert_eq!(job["transition"], "start");
    assert_eq!(job["workspace"], "w");
    assert_eq!(job["error"], Value::Null);
    assert_eq!(array(&job["resources"]).len(), 4);
    let phases: Vec<&Value> = array(&job["phases"]).iter().map(|p| &p["name"]).collect();
    assert!(phases.contains(&&json!("apply")), "{job:#}");

    let id = job["id"].as_str().expect("id");
    let text = fleet
        .run(&["jobs", "show", id, "--timeline"])
        .exits(0)
        .stdout;
    assert!(
        text.contains("terraform_data.disk") && text.contains("apply"),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'), "{text:?}");
    let newest = fleet.json(&["jobs", "list", "--kind", "workspace_build", "--limit", "1"]);
    assert_eq!(newest[0]["id"], id);
    assert_eq!(
        array(&fleet.json(&["jobs", "list", "--status", "failed"])).len(),
        0
    );
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn active(fleet: &Fleet) -> u64 {
    let versions = fleet.json(&["templates", "versions", "t"]);
    let active = array(&versions)
        .iter()
        .find(|version| version["active"] == true);
    active
        .and_then(|version| version["number"].as_u64())
        .expect("an active version")
}

#[test]
fn the_audit_log_says_who_did_what() {
    let fleet = Fleet::start();
    fleet.run(&["keys", "create", "eu"]).exits(0);
    fleet.run(&["keys", "create", "eu"]).exits(1);
    let lines = fleet.json(&["audit", "list", "--object", "eu", "--since", "1h"]);
    let made = lines.as_array().expect("an array").last().expect("a line");
    assert_eq!(made["actor"], json!({ "kind": "token", "name": "admin" }));
    assert_eq!(
        [&made["call"], &made["outcome"], &made["peer"], &made["job"]],
        [
            &json!("CreateKey"),
            &json!("done"),
            &json!("127.0.0.1"),
            &Value::Null
        ]
    );
    let table = fleet
        .run(&["audit", "list", "--call", "createkey"])
        .exits(0);
    assert!(table.stdout.contains("CreateKey"), "{}", table.stdout);
    let none = fleet.run(&["audit", "list", "--actor", "nobody"]).exits(0);
    assert_eq!(none.stdout, "nothing is noted\n");
}
