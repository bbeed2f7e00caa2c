//! A user's own Kubernetes template, unchanged, with the real plugins. No cluster is
//! needed to plan it; without one an apply makes what needs none and fails at the volume
//! claim, and what it made can be deleted again.

use serde_json::{Value, json};

use crate::harness::{Fleet, skip, template};

#[test]
fn a_users_kubernetes_template_plans_and_fails_at_its_claim_without_a_cluster() {
    let fleet = Fleet::start();
    for (provider, version) in [("coder/coder", "2."), ("hashicorp/kubernetes", "2.")] {
        if !fleet.tools.has_version(provider, version) {
            let why = format!(
                "no plugin {provider} {version}x in PROVISIONERD_TEST_PROVIDERS or the tests' mirror"
            );
            return skip("kubernetes-ollama template, live", &why);
        }
    }
    let mut daemon = fleet.daemon("one", &[]);
    let directory = template("kubernetes-ollama");
    let given = ["--variable", "namespace=workspaces"];
    let pushed = fleet.push("ollama", &directory, &given).exits(0).json();
    assert_eq!(pushed["job"]["status"], "succeeded");
    shows_what_it_would_make(&fleet.json(&["templates", "show", "ollama"]));

    let line = ["workspaces", "create", "w", "--template", "ollama"];
    let disk = ["--parameter", "home_disk_size=20", "--output", "json"];
    let made = fleet.run(&[&line[..], &disk].concat()).exits(1).json();
    let job = &made["job"];
    assert_eq!(job["status"], "failed", "{job:#}");
    assert_eq!(job["error"]["code"], "APPLY_FAILED", "{job:#}");
    let message = job["error"]["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("kubernetes_persistent_volume_claim.home"),
        "{message}"
    );
    assert_eq!(
        fleet.instances("w"),
        ["coder_agent.main", "coder_app.code-server"]
    );

    let deleted = fleet.json(&["workspaces", "delete", "w"]);
    assert_eq!(deleted["job"]["status"], "succeeded");
    assert_eq!(fleet.json(&["workspaces", "list"]), json!([]));
    fleet.assert_nothing_left(&mut daemon);
}

/// The facts of the import, as its README tells them.
fn shows_what_it_would_make(shown: &Value) {
    assert_eq!(
        addresses(&shown["start_resources"]),
        [
            "kubernetes_deployment.main[0]",
            "kubernetes_persistent_volume_claim.home"
        ]
    );
    assert_eq!(
        addresses(&shown["stop_resources"]),
        ["kubernetes_persistent_volume_claim.home"]
    );
    let agent = &shown["start_resources"][0]["agents"][0];
    assert_eq!(agent["name"], "main");
    assert_eq!(agent["metadata"].as_array().map(Vec::len), Some(6));
    assert_eq!(agent["apps"][0]["slug"], "code-server");
    assert_eq!(agent["apps"][0]["healthcheck"]["threshold"], 10);
    let parameters = shown["parameters"].as_array().expect("parameters");
    let parameters: Vec<(&Value, &Value)> = parameters
        .iter()
        .map(|parameter| (&parameter["name"], &parameter["mutable"]))
        .collect();
    assert_eq!(
        json!(parameters),
        json!([["cpu", true], ["home_disk_size", false], ["memory", true]])
    );
}

fn addresses(resources: &Value) -> Vec<&str> {
    let resources = resources.as_array().expect("resources");
    let addresses = resources.iter().map(|it| it["address"].as_str());
    addresses.map(Option::unwrap_or_default).collect()
}
