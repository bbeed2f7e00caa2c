use super::*;
use crate::limits;
use crate::v1::ParameterOption;

#[test]
fn given_beats_previous_beats_default() {
    let rules = [rule("size")];
    assert_eq!(resolved(&rules, &[], &[]), ["dflt"]);
    assert_eq!(resolved(&rules, &[], &[("size", "old")]), ["old"]);
    assert_eq!(
        resolved(&rules, &[("size", "new")], &[("size", "old")]),
        ["new"]
    );
}

#[test]
fn an_ephemeral_value_is_not_carried() {
    let rules = [RichParameter {
        ephemeral: true,
        ..rule("once")
    }];
    assert_eq!(resolved(&rules, &[], &[("once", "old")]), ["dflt"]);
    assert_eq!(resolved(&rules, &[("once", "new")], &[]), ["new"]);
}

#[test]
fn an_immutable_value_stands_after_the_first_build() {
    let rules = [RichParameter {
        mutable: false,
        ..rule("region")
    }];
    assert_eq!(resolved(&rules, &[("region", "eu")], &[]), ["eu"]);
    assert_eq!(
        resolved(&rules, &[("region", "eu")], &[("region", "eu")]),
        ["eu"]
    );
    let refused = refused(&rules, &[("region", "us")], &[("region", "eu")]);
    assert!(refused.contains("cannot be changed"), "{refused}");
}

#[test]
fn a_required_parameter_needs_a_value() {
    let rules = [RichParameter {
        required: true,
        default_value: String::new(),
        ..rule("key")
    }];
    assert_eq!(
        refused(&rules, &[], &[]),
        "parameter `key`: is required and has no default"
    );
    assert_eq!(resolved(&rules, &[], &[("key", "old")]), ["old"]);
}

#[test]
fn all_problems_come_at_once_with_unknown_names() {
    let rules = [
        number(None),
        RichParameter {
            required: true,
            ..rule("key")
        },
    ];
    let refused = refused(&rules, &[("n", "x"), ("colour", "red")], &[]);
    assert!(refused.contains("`n`: \"x\" is not a number"), "{refused}");
    assert!(refused.contains("`colour`: the template has no such parameter (it has: key, n)"));
    assert!(refused.contains("`key`: is required"));
}

#[test]
fn a_name_may_be_given_once() {
    let refused = refused(&[rule("a")], &[("a", "1"), ("a", "2")], &[]);
    assert_eq!(refused, "parameter `a`: is given twice");
}

#[test]
fn types_are_checked() {
    for (kind, good, bad) in [
        ("number", "-1.5", "1x"),
        ("number", "7", "inf"),
        ("bool", "true", "True"),
        ("list(string)", r#"["a","b"]"#, r#"["a",1]"#),
    ] {
        let rules = [RichParameter {
            r#type: kind.into(),
            ..rule("v")
        }];
        assert_eq!(resolved(&rules, &[("v", good)], &[]), [good]);
        assert!(
            refused(&rules, &[("v", bad)], &[]).contains("is not"),
            "{kind}"
        );
    }
}

#[test]
fn a_value_is_one_of_the_options() {
    let mut with_options = rule("region");
    with_options.default_value = "eu".into();
    with_options.options = ["eu", "us"].map(option).to_vec();
    let rules = [with_options.clone()];
    assert_eq!(resolved(&rules, &[("region", "us")], &[]), ["us"]);
    assert_eq!(
        refused(&rules, &[("region", "mars")], &[]),
        "parameter `region`: \"mars\" is none of the options (eu, us)"
    );
    with_options.r#type = "list(string)".into();
    with_options.form_type = "multi-select".into();
    let rules = [with_options];
    assert_eq!(
        resolved(&rules, &[("region", r#"["us"]"#)], &[]),
        [r#"["us"]"#]
    );
    assert!(refused(&rules, &[("region", r#"["us","mars"]"#)], &[]).contains("\"mars\" is none"));
}

#[test]
fn a_regex_answers_with_the_authors_text() {
    let rules = [RichParameter {
        validation_regex: "^[a-z]+$".into(),
        validation_error: "lower case only, not {value}".into(),
        ..rule("name")
    }];
    assert_eq!(resolved(&rules, &[("name", "abc")], &[]), ["abc"]);
    let refused = refused(&rules, &[("name", "ABC")], &[]);
    assert!(refused.contains("lower case only, not ABC"), "{refused}");
}

#[test]
fn a_pattern_of_another_dialect_is_left_to_the_provider() {
    let rules = [RichParameter {
        validation_regex: "(?=x)".into(),
        ..rule("name")
    }];
    assert_eq!(resolved(&rules, &[("name", "abc")], &[]), ["abc"]);
}

#[test]
fn bounds_fill_the_authors_placeholders() {
    let plain = [number(None)];
    assert!(refused(&plain, &[("n", "0")], &[]).ends_with("0 is less than the minimum 1"));
    assert!(refused(&plain, &[("n", "9")], &[]).ends_with("9 is more than the maximum 8"));
    let author = [RichParameter {
        validation_error: "{value} is not within {min} and {max}".into(),
        ..number(None)
    }];
    assert!(refused(&author, &[("n", "9")], &[]).ends_with(": 9 is not within 1 and 8"));
}

#[test]
fn monotonic_compares_with_the_previous_build() {
    let grow = [number(Some("increasing"))];
    assert_eq!(resolved(&grow, &[("n", "5")], &[("n", "5")]), ["5"]);
    assert!(refused(&grow, &[("n", "4")], &[("n", "5")]).contains("may only grow"));
    let shrink = [number(Some("decreasing"))];
    assert!(refused(&shrink, &[("n", "6")], &[("n", "5")]).contains("may only shrink"));
    assert_eq!(resolved(&shrink, &[("n", "6")], &[]), ["6"]);
}

#[test]
fn a_stop_does_not_fail_because_of_an_old_value() {
    let rules = [
        number(None),
        RichParameter {
            required: true,
            ..rule("new")
        },
    ];
    let previous = values(&[("n", "99")]);
    let resolve = Resolve {
        rules: &rules,
        given: &[],
        previous: &previous,
        check: Check::GivenOnly,
    };
    assert_eq!(resolve.resolve().expect("stop"), values(&[("n", "99")]));
}

#[test]
fn a_value_must_fit_an_environment_string() {
    let rules = [rule("big")];
    let most = "x".repeat(limits::ENV_STRING - 81);
    assert_eq!(resolved(&rules, &[("big", &most)], &[]), [most.as_str()]);
    let more = format!("{most}x");
    assert!(refused(&rules, &[("big", &more)], &[]).contains("PARAMETER_TOO_LARGE"));
    assert!(refused(&rules, &[("big", "a\0")], &[]).contains("NUL"));
}

fn rule(name: &str) -> RichParameter {
    RichParameter {
        name: name.into(),
        r#type: "string".into(),
        mutable: true,
        default_value: "dflt".into(),
        ..RichParameter::default()
    }
}

fn number(monotonic: Option<&str>) -> RichParameter {
    RichParameter {
        r#type: "number".into(),
        default_value: "3".into(),
        validation_min: Some(1),
        validation_max: Some(8),
        validation_monotonic: monotonic.unwrap_or_default().into(),
        ..rule("n")
    }
}

fn option(value: &str) -> ParameterOption {
    ParameterOption {
        name: value.into(),
        value: value.into(),
        ..ParameterOption::default()
    }
}

fn values(pairs: &[(&str, &str)]) -> Vec<ParameterValue> {
    let value = |(name, value): &(&str, &str)| ParameterValue {
        name: (*name).into(),
        value: (*value).into(),
    };
    pairs.iter().map(value).collect()
}

fn run(
    rules: &[RichParameter],
    given: &[(&str, &str)],
    previous: &[(&str, &str)],
) -> Result<Vec<ParameterValue>, Vec<Problem>> {
    let (given, previous) = (values(given), values(previous));
    let resolve = Resolve {
        rules,
        given: &given,
        previous: &previous,
        check: Check::All,
    };
    resolve.resolve()
}

fn resolved(
    rules: &[RichParameter],
    given: &[(&str, &str)],
    previous: &[(&str, &str)],
) -> Vec<String> {
    let values = run(rules, given, previous).expect("accepted");
    values.into_iter().map(|value| value.value).collect()
}

fn refused(rules: &[RichParameter], given: &[(&str, &str)], previous: &[(&str, &str)]) -> String {
    let problems = run(rules, given, previous).expect_err("refused");
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    lines.join("\n")
}
