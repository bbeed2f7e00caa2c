//! What a build is going to change is announced with the question to the gate, from the
//! plan of a real engine.

use proto::v1::{AskGate, LedgerAction, Transition};

use super::rig::{Done, Engine, Plan, run};

const FIRST: &str = r#"
resource "terraform_data" "kept" {
  input = "one"
}
resource "terraform_data" "replaced" {
  triggers_replace = "one"
}
resource "terraform_data" "same" {
  for_each = toset(["a b", "${"$"}{c}"])
}
resource "terraform_data" "gone" {}
"#;

const SECOND: &str = r#"
resource "terraform_data" "kept" {
  input = "two"
}
resource "terraform_data" "replaced" {
  triggers_replace = "two"
}
resource "terraform_data" "same" {
  for_each = toset(["a b", "${"$"}{c}"])
}
resource "terraform_data" "new" {
  count = 2
}
"#;

async fn build(engine: &Engine, template: &str, state: Option<Vec<u8>>) -> Done {
    let done = run(Plan {
        engine: engine.clone(),
        state,
        ..Plan::build(Transition::Start, template)
    })
    .await;
    done.assert_succeeded();
    done
}

fn told(asked: &[AskGate]) -> Vec<(LedgerAction, String, String)> {
    let [asked] = asked else {
        panic!("asked {} times", asked.len());
    };
    assert_eq!(asked.intended_left_out, 0);
    let told = asked.intended.iter();
    let mut told: Vec<_> = told
        .map(|it| (it.action(), it.address.clone(), it.id.clone()))
        .collect();
    told.sort_by_key(|(action, address, _)| (*action as i32, address.clone()));
    told
}

#[tokio::test]
async fn a_build_announces_what_it_is_going_to_change_with_the_ids_of_what_exists() {
    for engine in [Engine::terraform(), Engine::tofu()].into_iter().flatten() {
        let first = build(&engine, FIRST, None).await;
        let creations: Vec<String> = told(&first.seen.asked)
            .into_iter()
            .map(|(action, address, id)| {
                assert_eq!((action, id.as_str()), (LedgerAction::Create, ""));
                address
            })
            .collect();
        let wanted = [
            "terraform_data.gone",
            "terraform_data.kept",
            "terraform_data.replaced",
            r#"terraform_data.same["$${c}"]"#,
            r#"terraform_data.same["a b"]"#,
        ];
        assert_eq!(creations, wanted);
        let state = first.state();
        let id = |name: &str| {
            let resources = state["resources"].as_array().expect("resources").iter();
            let mut found = resources.filter(|it| it["name"] == name);
            let found = found.next().expect("a resource");
            let id = found["instances"][0]["attributes"]["id"].as_str();
            id.expect("an id").to_owned()
        };
        let second = build(&engine, SECOND, first.state.clone()).await;
        let name = |name: &str| format!("terraform_data.{name}");
        let wanted = [
            (LedgerAction::Create, name("new[0]"), String::new()),
            (LedgerAction::Create, name("new[1]"), String::new()),
            (LedgerAction::Update, name("kept"), id("kept")),
            (LedgerAction::Delete, name("gone"), id("gone")),
            (LedgerAction::Replace, name("replaced"), id("replaced")),
        ];
        assert_eq!(told(&second.seen.asked), wanted);
        // Each of them is what the ledger tells of later, and nothing else is.
        for entry in &second.seen.ledger {
            let known = wanted
                .iter()
                .any(|(_, address, _)| *address == entry.address);
            assert!(known, "{entry:?}");
        }
    }
}
