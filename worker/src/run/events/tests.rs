use super::*;

const RECORDED: &str =
    include_str!("../../../../testdata/recordings/kubernetes-ollama-plan-start.events.jsonl");

fn line(kind: &str, rest: &str) -> String {
    format!(
        r#"{{"@level":"info","@message":"m","@timestamp":"2026-11-22T15:38:40.029436Z","type":"{kind}"{rest}}}"#
    )
}

#[test]
fn every_line_of_a_recorded_plan_has_a_message_and_a_time() {
    for line in RECORDED.lines() {
        let event = parse(line.as_bytes());
        assert!(
            !event.message.is_empty() && event.time_ms.is_some(),
            "{line}"
        );
    }
    let reads = RECORDED
        .lines()
        .filter(|line| matches!(parse(line.as_bytes()).kind, Kind::Hook(..)))
        .count();
    assert_eq!(reads, 10);
}

#[test]
fn a_hook_tells_resource_action_and_id() {
    let hook = r#","hook":{"resource":{"addr":"a.b[\"x\"]","resource_type":"a","new":1},"action":"create","id_key":"id","id_value":"i-1","elapsed_seconds":2}"#;
    let event = parse(line("apply_complete", hook).as_bytes());
    let Kind::Hook(Step::Complete, hook) = event.kind else {
        panic!("{event:?}");
    };
    assert_eq!(hook.address, "a.b[\"x\"]");
    assert_eq!(hook.action, LedgerAction::Create);
    assert_eq!((hook.id_value.as_str(), hook.elapsed_ms), ("i-1", 2000));
    assert_eq!(event.time_ms, Some(1_795_361_920_029));
}

#[test]
fn an_unknown_event_type_is_its_message() {
    let event = parse(line("teleport", r#","hook":{"odd":[1]}"#).as_bytes());
    assert_eq!(event.kind, Kind::Message);
    assert_eq!(event.message, "m");
}

#[test]
fn a_hook_of_unknown_shape_does_not_cost_the_message() {
    let event = parse(line("apply_start", r#","hook":{"resource":7}"#).as_bytes());
    assert_eq!((event.message.as_str(), event.kind), ("m", Kind::Message));
}

#[test]
fn a_line_that_is_no_event_is_shown_as_it_is() {
    for text in ["plain", "{broken", "{\"a\":1}", "", "{\"@message\":7}"] {
        let event = parse(text.as_bytes());
        assert_eq!(event.message, text);
        let level = if text.is_empty() {
            LogLevel::Debug
        } else {
            LogLevel::Info
        };
        assert_eq!(event.level, level);
    }
    assert_eq!(parse(b"\xff").message, "\u{fffd}");
}

#[test]
fn plain_standard_error_is_an_error_and_json_there_is_debug() {
    assert_eq!(parse_stderr(b"boom").level, LogLevel::Error);
    let json = line("log", "");
    assert_eq!(parse_stderr(json.as_bytes()).level, LogLevel::Debug);
}

#[test]
fn a_diagnostic_is_rendered_at_its_severity() {
    let event = parse(
        line(
            "diagnostic",
            r#","diagnostic":{"severity":"warning","summary":"careful","detail":""}"#,
        )
        .as_bytes(),
    );
    assert_eq!(event.level, LogLevel::Warn);
    assert_eq!(event.message, "Warning: careful");
}

#[test]
fn an_event_of_ten_mebibytes_is_parsed() {
    let value = "x".repeat(10 << 20);
    let outputs = format!(r#","outputs":{{"o":{{"value":"{value}"}}}}"#);
    assert_eq!(parse(line("outputs", &outputs).as_bytes()).message, "m");
}

#[test]
fn a_line_that_says_nothing_new_is_debug_and_one_that_does_is_not() {
    let hook = |action: &str, seconds: u32| {
        format!(
            r#","hook":{{"resource":{{"addr":"a.b"}},"action":"{action}","elapsed_seconds":{seconds}}}"#
        )
    };
    let level = |kind: &str, rest: &str| parse(line(kind, rest).as_bytes()).level;
    for kind in ["version", "init_output", "outputs", "refresh_start"] {
        assert_eq!(level(kind, ""), LogLevel::Debug, "{kind}");
    }
    assert_eq!(level("apply_complete", &hook("read", 0)), LogLevel::Debug);
    assert_eq!(level("apply_complete", &hook("read", 3)), LogLevel::Info);
    assert_eq!(level("apply_complete", &hook("create", 0)), LogLevel::Info);
    assert_eq!(level("apply_errored", &hook("create", 0)), LogLevel::Info);
    assert_eq!(level("planned_change", ""), LogLevel::Info);
    assert_eq!(level("change_summary", ""), LogLevel::Info);
}

#[test]
fn the_lock_file_of_a_mirror_is_no_warning_and_an_error_of_that_name_stays_one() {
    let level = |severity: &str| {
        let summary = INCOMPLETE_LOCK_FILE;
        let rest = format!(
            r#","diagnostic":{{"severity":"{severity}","summary":"{summary}","detail":""}}"#
        );
        parse(line("diagnostic", &rest).as_bytes()).level
    };
    assert_eq!(level("warning"), LogLevel::Debug);
    assert_eq!(level("error"), LogLevel::Error);
}
