//! Large things travel whole and in order: archives, states, event lines, floods of lines.
//! The sizes that are promised, with the memory they cost: `bench sizes`.

use std::fmt::Write as _;
use std::path::PathBuf;

use proto::ids::Digest;
use serde_json::Value;

use crate::harness::{Fleet, printed, template};

const MIB: usize = 1024 * 1024;

/// Bytes that no compression makes smaller (xorshift).
fn incompressible(bytes: usize) -> Vec<u8> {
    let mut word = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(|| {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        word.to_le_bytes()
    });
    words.take(bytes / 8).flatten().collect()
}

/// The text that the template counts out: block N of 1 KiB is N, padded with zeros.
fn counted(first_kib: usize, mib: usize) -> String {
    let mut text = String::with_capacity(mib * MIB);
    for kib in first_kib..first_kib + mib * 1024 {
        let _ = write!(text, "{kib:01024}");
    }
    text
}

/// The template with a large file in it.
fn template_with(fleet: &Fleet, archive: &[u8]) -> PathBuf {
    let dir = fleet.dir().join("large");
    std::fs::create_dir(&dir).expect("directory");
    let source = template("sizes").join("main.tf");
    std::fs::copy(source, dir.join("main.tf")).expect("copy");
    std::fs::write(dir.join("blob.bin"), archive).expect("blob");
    // Terraform itself says whether the file arrived as it left.
    let sum = Digest::of(archive);
    let check = format!(
        "resource \"terraform_data\" \"blob\" {{\n  lifecycle {{\n    precondition {{\n      \
         condition     = filesha256(\"${{path.module}}/blob.bin\") == \"{sum}\"\n      \
         error_message = \"The archive arrived damaged.\"\n    }}\n  }}\n}}\n"
    );
    std::fs::write(dir.join("blob.tf"), check).expect("check");
    dir
}

fn state_is_whole(state: &Value, state_mib: usize, event_mib: usize) {
    let resources = state["resources"].as_array().expect("resources");
    let large = resources.iter().find(|r| r["name"] == "state");
    let instances = large.and_then(|r| r["instances"].as_array());
    let instances = instances.expect("instances");
    assert_eq!(instances.len(), state_mib / 2);
    for (index, instance) in instances.iter().enumerate() {
        let text = counted(index * 1024, 1);
        for field in ["input", "output"] {
            let value = &instance["attributes"][field]["value"];
            assert!(value == text.as_str(), "{field} of instance {index}");
        }
    }
    let event = counted(0, event_mib);
    for output in ["event", "secret"] {
        assert!(state["outputs"][output]["value"] == event.as_str());
    }
}

fn log_is_whole(log: &[String], event_mib: usize, lines: usize) {
    let expected: String = (1..=lines).map(|n| format!("line{n:09}")).collect();
    let printed = printed(log);
    assert!(printed == expected, "{} bytes came", printed.len());
    let warning = format!("event {}", counted(0, event_mib));
    let warnings = log.iter().filter(|line| **line == warning).count();
    assert_eq!(warnings, 2, "one of the plan and one of the apply");
}

#[test]
fn large_archives_states_events_and_floods_of_lines_are_whole_and_in_order() {
    let (archive, state_mib, event_mib, lines) = (20 * MIB, 8, 2, 20_000);
    let fleet = Fleet::start();
    let _daemon = fleet.daemon("one", &[]);
    let directory = template_with(&fleet, &incompressible(archive));
    let variables = [
        format!("state_mib={state_mib}"),
        format!("event_mib={event_mib}"),
        format!("lines={lines}"),
    ];
    let variables = variables.iter().flat_map(|v| ["--variable", v.as_str()]);
    fleet
        .push("large", &directory, &variables.collect::<Vec<_>>())
        .exits(0);
    let create = ["workspaces", "create", "w", "--template", "large"];
    for build in [&create[..], &["workspaces", "start", "w"]] {
        let made = fleet.json(build);
        assert_eq!(made["job"]["status"], "succeeded");
        let job = made["job"]["id"].as_str().expect("id");
        log_is_whole(&fleet.log(job), event_mib, lines);
        let pulled = fleet.run(&["state", "pull", "w"]).exits(0);
        state_is_whole(&pulled.json(), state_mib, event_mib);
    }
}
