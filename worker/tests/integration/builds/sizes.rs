//! Output and states of any size arrive whole.

use std::fs;

use proto::v1::{LedgerEvent, Transition};

use super::rig::{Plan, Rig, run};

#[tokio::test]
async fn an_output_of_ten_mebibytes_is_whole_in_the_state() {
    // 1 MiB ten times: functions have no larger unit at hand.
    let template = r#"
locals { block = join("", [for n in range(1024) : format("%01024d", n)]) }
resource "terraform_data" "a" { input = "x" }
output "big" { value = join("", [for n in range(10) : local.block]) }
"#;
    let done = run(Plan::build(Transition::Start, template)).await;
    done.assert_succeeded();
    let state = done.state();
    let big = state["outputs"]["big"]["value"].as_str().expect("output");
    assert_eq!(big.len(), 10 << 20);
    assert!(done.seen.text().contains("Apply complete!"));
}

#[tokio::test]
async fn a_hundred_thousand_lines_of_a_command_arrive_whole_and_in_order() {
    const LINES: usize = 100_000;
    let template = format!(
        "resource \"terraform_data\" \"a\" {{\n  provisioner \"local-exec\" {{\n    command = \
         \"seq -f 'line %.0f' 1 {LINES}\"\n  }}\n}}\n"
    );
    let done = run(Plan::build(Transition::Start, &template)).await;
    done.assert_succeeded();
    // An engine that waits for the rest of a line for 100 ms prints it in two pieces.
    let printed = done.seen.lines.iter().filter_map(|line| {
        let (_, said) = line.text.split_once("(local-exec): ")?;
        (!said.starts_with("Executing: ")).then_some(said)
    });
    let printed: String = printed.flat_map(str::split_whitespace).collect();
    let expected: String = (1..=LINES).map(|line| format!("line{line}")).collect();
    assert!(printed == expected, "{} bytes came", printed.len());
}

#[tokio::test]
async fn a_state_of_many_mebibytes_is_saved_while_it_grows_and_reported_whole() {
    let template = r#"
locals { block = join("", [for n in range(1024) : format("%01024d", n)]) }
resource "terraform_data" "big" {
  count = 12
  input = "${count.index}${local.block}"
}
"#;
    let done = run(Plan::build(Transition::Start, template)).await;
    done.assert_succeeded();
    let state = done.state.as_deref().expect("state");
    assert!(state.len() > 24 << 20, "{}", state.len());
    assert!(proto::state_file::header(state).is_ok());
    assert!(done.outcome.unconfirmed.is_empty());
}

#[tokio::test]
async fn neither_ledger_nor_outcome_wait_for_lines_that_nobody_stores() {
    const LINES: usize = 20_000;
    // The second one lasts until the first one's state has come.
    let template = format!(
        r#"
resource "terraform_data" "a" {{
  provisioner "local-exec" {{ command = "seq 1 {LINES}" }}
}}
resource "terraform_data" "b" {{
  depends_on = [terraform_data.a]
  provisioner "local-exec" {{ command = "while [ ! -e go ]; do sleep 0.05; done" }}
}}
"#
    );
    let mut rig = Rig::begin(Plan::build(Transition::Start, &template)).await;
    rig.crediting = false;
    let early = rig.until(|seen| !seen.checkpoints.is_empty()).await;
    assert!(early.is_none(), "{early:?}");
    fs::write(rig.dir.work().join("go"), "").expect("go");
    let outcome = rig.until(|_| false).await.expect("an outcome");
    let ends = rig.seen.ledger.iter();
    let complete = ends.filter(|it| it.event() == LedgerEvent::Complete);
    assert_eq!(complete.count(), 2);
    let before = rig.seen.lines.len();
    assert!(before < LINES, "{before}");
    rig.crediting = true;
    rig.credit().await;
    let done = rig.finish_after(outcome).await;
    done.assert_succeeded();
    assert!(done.seen.lines.len() > LINES);
    assert_eq!(done.seen.lines_end, Some(done.seen.lines.len() as u64));
}
