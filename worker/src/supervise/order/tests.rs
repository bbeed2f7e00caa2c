//! Each rule of an order, tripped.

use super::*;

fn request(process: Process) -> StartProcess {
    StartProcess {
        number: 1,
        process: process.into(),
        ..StartProcess::default()
    }
}

fn plan(plan_file: &str) -> StartProcess {
    StartProcess {
        plan_file: plan_file.to_owned(),
        ..request(Process::Plan)
    }
}

fn with_env(pairs: &[(&str, &str)]) -> StartProcess {
    let env = pairs.iter().map(|(name, value)| EnvPair {
        name: (*name).to_owned(),
        value: (*value).to_owned(),
    });
    StartProcess {
        env: env.collect(),
        ..request(Process::Version)
    }
}

#[test]
fn every_process_has_its_command() {
    let order = Order::parse(StartProcess {
        var_file: "vars/values.tfvars.json".to_owned(),
        destroy: true,
        ..plan("plan.out")
    });
    assert_eq!(
        order.expect("order").command,
        Command::Plan {
            plan_file: "plan.out".to_owned(),
            var_file: Some("vars/values.tfvars.json".to_owned()),
            goal: Goal::Destroy,
        }
    );
    for process in [Process::Version, Process::Init, Process::Show] {
        assert!(Order::parse(request(process)).is_ok(), "{process:?}");
    }
}

#[test]
fn a_kind_that_does_not_exist_is_refused() {
    for process in [0, 6, -1, i32::MAX] {
        let refused = Order::parse(StartProcess {
            process,
            ..StartProcess::default()
        });
        assert_eq!(refused, Err(Invalid::Process(process)));
    }
}

#[test]
fn names_that_leave_the_work_directory_or_look_like_options_are_refused() {
    for name in [
        "../keep/state",
        "a/../../keep",
        "/etc/passwd",
        "a//b",
        "a/",
        ".",
        "-destroy",
        "a/-b",
        "a\0b",
        "a\nb",
        &"x".repeat(256),
        &"x/".repeat(600),
    ] {
        let refused = Order::parse(plan(name)).expect_err("refused");
        assert!(matches!(refused, Invalid::FileName { .. }), "{refused}");
    }
}

#[test]
fn a_command_needs_its_fields_and_takes_no_others() {
    for process in [Process::Plan, Process::Apply] {
        let refused = Order::parse(request(process)).expect_err("no plan file");
        assert_eq!(
            refused,
            Invalid::Missing {
                field: "plan_file",
                process
            }
        );
    }
    let apply = StartProcess {
        var_file: "v".to_owned(),
        plan_file: "p".to_owned(),
        ..request(Process::Apply)
    };
    let show = StartProcess {
        destroy: true,
        ..request(Process::Show)
    };
    let surplus = StartProcess {
        plain: true,
        ..plan("p")
    };
    for (request, field) in [(apply, "var_file"), (show, "destroy"), (surplus, "plain")] {
        let refused = Order::parse(request).expect_err("surplus");
        assert!(refused.to_string().contains(field), "{refused}");
    }
}

#[test]
fn only_listed_variables_pass() {
    let good = [
        ("CODER_WORKSPACE_NAME", "w"),
        ("CODER_EXTERNAL_AUTH_ACCESS_TOKEN_primary-github", "t"),
        ("TF_IN_AUTOMATION", "1"),
        ("HOME", "/h"),
    ];
    assert!(Order::parse(with_env(&good)).is_ok());
    for name in [
        "LD_PRELOAD",
        "TF_CLI_ARGS",
        "TF_CLI_ARGS_apply",
        "TF_VAR_x",
        "AWS_SECRET_ACCESS_KEY",
        "CODER_",
        "CODER_A=B",
        "CODER_\u{e9}",
        "CODER_A B",
        "",
    ] {
        let refused = Order::parse(with_env(&[(name, "v")])).expect_err("refused");
        assert!(matches!(refused, Invalid::EnvName { .. }), "{name}");
    }
}

#[test]
fn values_without_nul_within_the_kernels_limit_and_once() {
    let nul = Order::parse(with_env(&[("CODER_A", "a\0b")]));
    assert!(matches!(nul, Err(Invalid::EnvNul { .. })));
    let twice = Order::parse(with_env(&[("CODER_A", "a"), ("CODER_A", "b")]));
    assert!(matches!(twice, Err(Invalid::EnvTwice { .. })));

    let fits = "v".repeat(limits::ENV_STRING - "CODER_A=".len());
    assert!(Order::parse(with_env(&[("CODER_A", &fits)])).is_ok());
    let refused = Order::parse(with_env(&[("CODER_A", &format!("{fits}v"))])).expect_err("long");
    assert!(
        refused.to_string().contains("over the limit of 131071"),
        "{refused}"
    );
}

#[test]
fn an_environment_in_parts_is_one_and_the_next_start_begins_anew() {
    let pair = |name: &str| EnvPair {
        name: name.to_owned(),
        value: "v".to_owned(),
    };
    let mut parts = Parts::default();
    parts.add(vec![pair("CODER_A")]);
    let whole = parts.complete(vec![pair("CODER_B")]);
    assert_eq!(whole, [pair("CODER_A"), pair("CODER_B")]);
    assert_eq!(parts.complete(Vec::new()), []);
}

#[test]
fn a_worker_that_never_stops_sending_parts_costs_no_memory_and_is_refused() {
    let part = |n: usize| {
        vec![EnvPair {
            name: format!("CODER_{n}"),
            value: "x".repeat(100_000),
        }]
    };
    let mut parts = Parts::default();
    for n in 0..1_000 {
        parts.add(part(n));
    }
    let env = parts.complete(Vec::new());
    assert!(env.len() < 20);
    let mut request = plan("p");
    request.env = env;
    let refused = Order::parse(request).expect_err("too large");
    assert!(matches!(refused, Invalid::EnvironmentTooLarge { .. }));
}
