//! The command tree as a whole, and how it is parsed.

use super::*;

fn parsed(args: &[&str]) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(["provisionerd"].iter().chain(args))
}

#[test]
fn the_command_tree_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_noun_is_plural_and_has_its_singular() {
    for noun in [
        "organization",
        "owner",
        "limit",
        "key",
        "token",
        "template",
        "workspace",
        "job",
        "daemon",
    ] {
        for name in [noun.to_owned(), format!("{noun}s")] {
            let args = [name.as_str(), "list"];
            assert!(parsed(&args).is_ok(), "{name} list");
        }
    }
}

#[test]
fn every_command_of_the_contract_is_there() {
    let lines = [
        "quickstart --keep --data-dir /d",
        "quickstart ./t",
        "serve --data-dir /d --listen 127.0.0.1:0 --http-listen 127.0.0.1:0 --access-url u --insecure",
        "start --url u --key-file f --name n --tag a=b --slots 2 --once --drain-deadline 5 --cancel-grace 5 --job-memory 2G --engine tofu --provider-mirror /m --bind /a=~/b:rw --data-dir /d",
        "start --key-file f --exit-after-idle 5",
        "owners set o --email e --full-name n --group a --group b",
        "limits set owner o 4",
        "limits set template t --none",
        "keys create k --tag a=b",
        "keys delete k",
        "tokens create t --owner o --role admin",
        "tokens delete t",
        "templates push t -d /x --tag a=b --variable c=d --variable-file f --engine tofu",
        "templates show t",
        "templates versions t",
        "templates promote t 3",
        "templates plan t --parameter a=b --template-version 3",
        "templates plan t --template_version 3",
        "workspaces create w --template t --owner o --parameter a=b --no-wait",
        "workspaces start w --parameter a=b --no-wait",
        "workspaces stop w",
        "workspaces update w",
        "workspaces delete w --forget",
        "workspaces show w",
        "jobs list --status failed --kind workspace_build --limit 3",
        "jobs show j --timeline",
        "jobs cancel j --force",
        "jobs retry j",
        "jobs wait j",
        "jobs abandon j --force",
        "jobs logs j --follow --after 7",
        "daemons drain d",
        "state pull w",
        "state push w f --force",
        "state history w",
        "state adopt w i",
        "state discard w i",
        "inspect --plan p --state s",
        "inspect d",
        "completions bash",
        "jobs show j --output json -q --url u --token t --organization o --tls-ca-file f",
    ];
    for line in lines {
        let args: Vec<&str> = line.split(' ').collect();
        if let Err(error) = parsed(&args) {
            panic!("{line}: {error}");
        }
    }
}

#[test]
fn wrong_usage_is_refused() {
    for line in [
        "",
        "start",
        "jobs show",
        "jobs list --status done",
        "keys create k --tag nothing",
        "inspect",
        "start --key-file f --slots 0",
        "workspaces create w",
    ] {
        let args: Vec<&str> = line.split_whitespace().collect();
        assert!(parsed(&args).is_err(), "{line}");
    }
}

#[test]
fn a_long_flag_is_written_with_dashes() {
    fn with_underscores(command: &clap::Command, found: &mut Vec<String>) {
        let flags = command.get_arguments().filter_map(clap::Arg::get_long);
        found.extend(flags.filter(|flag| flag.contains('_')).map(str::to_owned));
        for child in command.get_subcommands() {
            with_underscores(child, found);
        }
    }
    let mut found = Vec::new();
    with_underscores(&Cli::command(), &mut found);
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn every_flag_has_its_variable_in_its_help() {
    let layers = Layers::load(&["--config=/dev/null".to_owned()]).expect("layers");
    let (command, _) = layers.apply(Cli::command());
    let mut missing = Vec::new();
    check(&command, &mut missing);
    assert!(missing.is_empty(), "{missing:?}");
}

fn check(command: &clap::Command, missing: &mut Vec<String>) {
    for arg in command
        .get_arguments()
        .filter(|arg| arg.get_long().is_some())
    {
        if arg.get_env().is_none() {
            missing.push(format!("{} {}", command.get_name(), arg.get_id()));
        }
    }
    for child in command.get_subcommands() {
        check(child, missing);
    }
}
