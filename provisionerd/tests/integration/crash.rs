//! Ten kills of the crash sweep, with real engines and thirty real resources each: one of
//! the processes dies at a drawn instant, and nothing that was made is forgotten. Two
//! hundred: `bench crash`.

use benches::crash::{self, Options};

use crate::harness::{Tools, binary, skip, template};

const KILLS: usize = 10;
const SEED: u64 = 4;

#[test]
fn whatever_dies_whenever_it_dies_nothing_that_was_made_is_lost() {
    let tools = Tools::find();
    let Some(terraform) = tools.terraform.clone() else {
        return skip("crash sweep", "no terraform");
    };
    let providers = ["coder/coder", "hashicorp/local", "hashicorp/null"];
    if let Some(missing) = providers.iter().find(|name| !tools.has_provider(name)) {
        return skip("crash sweep", &format!("no mirror has {missing}"));
    }
    if tools.tofu.is_none() {
        skip("crash sweep with OpenTofu", "no tofu");
    }
    let dir = tempfile::Builder::new().prefix("pdc").tempdir();
    let dir = dir.expect("directory of the fleets");
    let report = crash::run(&Options {
        binary: binary().to_owned(),
        template: template("marks"),
        terraform,
        tofu: tools.tofu.clone(),
        mirror: tools.mirrors[0].clone(),
        kills: KILLS,
        seed: SEED,
        lanes: 2,
        divisor: 4,
        dir: dir.path().to_owned(),
    });
    let report = report.expect("the sweep comes to its end");
    eprintln!("{}", report.text());
    let broken = report.violations();
    if !broken.is_empty() {
        let kept = dir.keep();
        panic!("{broken:#?}\nthe data is kept in {}", kept.display());
    }
    assert_eq!(report.kills(), KILLS);
}
