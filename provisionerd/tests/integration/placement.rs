//! An import runs where the template's own tags say, and what no job would take is
//! refused before there is one.

use std::path::Path;

use proto::v1::management_client::ManagementClient;
use proto::v1::put_blob_request::Message;
use proto::v1::{BlobRef, PushTemplateRequest, PutBlobHeader, PutBlobRequest};
use sha2::{Digest as _, Sha256};
use tonic::metadata::MetadataValue;
use tonic::{Request, Status};

use crate::harness::{Fleet, skip, template};

#[test]
fn an_import_finds_the_only_daemon_by_the_tags_of_its_template() {
    let fleet = Fleet::start();
    if !fleet.tools.has_provider("coder/coder") {
        return skip("placement of an import", "no mirror has coder/coder");
    }
    let _eu = fleet.daemon("eu", &["--tag", "region=eu"]);
    let directory = fleet.dir().join("template");
    std::fs::create_dir(&directory).expect("template");
    let text = r#"
terraform {
  required_providers {
    coder = { source = "coder/coder" }
  }
}
data "coder_workspace_tags" "tags" {
  tags = { region = "eu" }
}
"#;
    std::fs::write(directory.join("main.tf"), text).expect("main.tf");
    let job = fleet.push("t", &directory, &[]).exits(0).json()["job"].clone();
    assert_eq!(job["tags"]["region"], "eu");
    assert_eq!(job["daemon"], "eu");
    assert_nothing_left(&fleet);
}

#[test]
fn builds_of_a_version_go_where_it_was_imported_while_that_daemon_is_idle() {
    let fleet = Fleet::start();
    // With a slot to spare each asks for the next job while it runs one.
    let slots = ["--slots", "2"];
    let quick = ["--variable", "seconds=0"];
    let _daemons = ["one", "two"].map(|name| fleet.daemon(name, &slots));
    let import = fleet.push("t", &template("slow"), &quick).exits(0).json();
    let there = import["job"]["daemon"]
        .as_str()
        .expect("a daemon")
        .to_owned();
    for name in ["a", "b"] {
        let line = ["workspaces", "create", name, "--template", "t"];
        let made = fleet.json(&line);
        assert_eq!(made["job"]["daemon"], there, "{made:#}");
    }
}

#[test]
fn a_file_that_steers_the_engine_is_refused_at_the_push() {
    let fleet = Fleet::start();
    let ran = fleet.push("t", &template("failing/bad-archive"), &[]);
    let ran = ran.exits(1);
    assert!(ran.stderr.contains("STEERING_FILE"), "{}", ran.stderr);
    assert_eq!(fleet.json(&["templates", "list"]), serde_json::json!([]));
    assert_nothing_left(&fleet);
}

#[test]
fn a_hostile_archive_is_refused_and_nothing_lingers() {
    let fleet = Fleet::start();
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    let archive = tar("../escape");
    let refused = runtime.block_on(push(&fleet, archive));
    let status = refused.expect_err("no job would take it");
    let code = status.metadata().get("x-error-code").expect("a code");
    assert_eq!(code, "ARCHIVE_PATH_ESCAPES", "{status:?}");
    assert!(status.message().contains("../escape"), "{status:?}");
    assert_eq!(fleet.json(&["templates", "list"]), serde_json::json!([]));
    assert!(!fleet.dir().join("q/analysis/escape").exists());
    assert_nothing_left(&fleet);
}

/// Processes and files of an analysis are gone before its push is answered.
#[track_caller]
fn assert_nothing_left(fleet: &Fleet) {
    let processes = fleet.below_queue();
    assert!(processes.is_empty(), "{processes:?}");
    let analyses = fleet.dir().join("q/analysis");
    let left = std::fs::read_dir(&analyses).expect("analyses").count();
    assert_eq!(left, 0, "directories");
}

/// Uploads and pushes as a client that packs nothing itself.
async fn push(fleet: &Fleet, archive: Vec<u8>) -> Result<(), Status> {
    let token = token(&fleet.dir().join("q/admin.token"));
    let channel = tonic::transport::Endpoint::from_shared(fleet.url.clone())
        .expect("address")
        .connect_lazy();
    let with_token = move |mut request: Request<()>| {
        request
            .metadata_mut()
            .insert("authorization", token.clone());
        Ok(request)
    };
    let mut client = ManagementClient::with_interceptor(channel, with_token);
    let blob = BlobRef {
        sha256: Sha256::digest(&archive).to_vec(),
        size: archive.len() as u64,
    };
    let header = PutBlobHeader {
        blob: Some(blob.clone()),
        ..PutBlobHeader::default()
    };
    let messages = [Message::Header(header), Message::Data(archive.into())];
    let requests = messages.map(|message| PutBlobRequest {
        message: Some(message),
    });
    client.upload(tokio_stream::iter(requests)).await?;
    let request = PushTemplateRequest {
        name: "hostile".to_owned(),
        archive: Some(blob),
        ..PushTemplateRequest::default()
    };
    client.push_template(request).await.map(|_| ())
}

fn token(path: &Path) -> MetadataValue<tonic::metadata::Ascii> {
    let token = std::fs::read_to_string(path).expect("the admin token");
    let bearer = format!("Bearer {}", token.trim());
    bearer.parse().expect("a header")
}

/// A tar with one file of this name, which no packer would write.
fn tar(name: &str) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_ustar_mut().expect("ustar").name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_mode(0o644);
    header.set_size(1);
    header.set_cksum();
    let mut archive = tar::Builder::new(Vec::new());
    archive.append(&header, &b"x"[..]).expect("entry");
    archive.into_inner().expect("archive")
}

#[test]
fn a_template_runs_on_the_daemon_that_offers_its_engine() {
    let fleet = Fleet::start();
    let (Some(terraform), Some(tofu)) = (&fleet.tools.terraform, &fleet.tools.tofu) else {
        return skip("placement by engine", "not both of terraform and tofu");
    };
    let path = |engine: &Path| engine.to_str().expect("text").to_owned();
    let (terraform, tofu) = (path(terraform), path(tofu));
    let directory = fleet.dir().join("template");
    std::fs::create_dir(&directory).expect("template");
    let text = "resource \"terraform_data\" \"it\" {}\n";
    std::fs::write(directory.join("main.tf"), text).expect("main.tf");
    let _one = fleet.daemon("one", &["--engine", &terraform]);
    // Before there is a daemon for it, the job waits and says for what.
    let early = fleet.push("tofu", &directory, &["--engine", "tofu", "--no-wait"]);
    let early = early.exits(0).json()["job"]["id"].clone();
    let early = early.as_str().expect("an id");
    let waits = fleet.run(&["jobs", "show", early]).exits(0).stdout;
    assert!(waits.contains("the engine `tofu`"), "{waits}");
    let _two = fleet.daemon("two", &["--engine", &tofu]);
    fleet.run(&["jobs", "wait", early]).exits(0);
    fleet
        .push("terraform", &directory, &["--engine", "terraform"])
        .exits(0);
    for (template, daemon) in [("terraform", "one"), ("tofu", "two")] {
        for workspace in ["a", "b"] {
            let name = format!("{template}-{workspace}");
            let made = fleet.json(&["workspaces", "create", &name, "--template", template]);
            assert_eq!(made["job"]["daemon"], daemon, "{name}");
            assert_eq!(made["job"]["engine"]["name"], template, "{name}");
        }
    }
}
