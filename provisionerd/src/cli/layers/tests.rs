//! Which layer wins, and which names are warned of.

use clap::{CommandFactory, Parser};

use super::*;

#[derive(Parser)]
struct Tool {
    #[arg(long, global = true)]
    quiet: bool,
    #[command(subcommand)]
    noun: Noun,
}

#[derive(clap::Subcommand)]
enum Noun {
    Start {
        #[arg(long)]
        url: Option<String>,
        #[arg(long)]
        tag: Vec<String>,
        #[arg(long, required = true)]
        key_file: String,
    },
    Stop {
        #[arg(long)]
        url: Option<String>,
    },
}

fn layers(environment: &[(&str, &str)], file: &str) -> Layers {
    Layers {
        environment: environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        file: file.parse().expect("toml"),
        path: Some("/etc/p.toml".into()),
    }
}

fn start(layers: &Layers, args: &[&str]) -> clap::ArgMatches {
    let (command, _) = layers.apply(Tool::command());
    let args = ["tool", "start"].iter().chain(args);
    let matches = command.try_get_matches_from(args).expect("parses");
    matches.subcommand_matches("start").expect("start").clone()
}

fn one(matches: &clap::ArgMatches, name: &str) -> String {
    matches.get_one::<String>(name).expect("a value").clone()
}

#[test]
fn a_flag_wins_over_the_file() {
    let layers = layers(&[], "url = 'file'\nkey_file = 'k'");
    assert_eq!(one(&start(&layers, &["--url", "flag"]), "url"), "flag");
    assert_eq!(one(&start(&layers, &[]), "url"), "file");
}

#[test]
fn a_table_of_a_command_counts_for_that_command_only() {
    let layers = layers(&[], "url = 'all'\nkey_file = 'k'\n[start]\nurl = 'mine'");
    assert_eq!(one(&start(&layers, &[]), "url"), "mine");
    let (command, warnings) = layers.apply(Tool::command());
    let matches = command
        .try_get_matches_from(["tool", "stop"])
        .expect("stop");
    let stop = matches.subcommand_matches("stop").expect("stop");
    assert_eq!(one(stop, "url"), "all");
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn repeated_flags_come_from_arrays_and_from_lines() {
    let tags = |layers: &Layers| -> Vec<String> {
        let matches = start(layers, &["--key-file", "k"]);
        matches
            .get_many::<String>("tag")
            .expect("tags")
            .cloned()
            .collect()
    };
    assert_eq!(tags(&layers(&[], "tag = ['a=1', 'b=2']")), ["a=1", "b=2"]);
    let environment = [("PROVISIONERD_TAG", "a=1,b=2\nc=3")];
    assert_eq!(
        tags(&layers(&environment, "tag = ['z=9']")),
        ["a=1", "b=2", "c=3"]
    );
}

#[test]
fn unknown_names_are_warned_of_with_the_nearest_known_one() {
    let environment = [
        ("PROVISIONERD_ULR", "x"),
        ("PROVISIONERD_TEST_PROVIDERS", "x"),
    ];
    let (_, warnings) = layers(&environment, "key_fiel = 'x'\n").apply(Tool::command());
    assert_eq!(
        warnings,
        [
            "unknown environment variable: PROVISIONERD_ULR (did you mean PROVISIONERD_URL?)",
            "unknown key in /etc/p.toml: key_fiel (did you mean key_file?)",
        ]
    );
}

#[test]
fn the_config_flag_wins_over_its_variable() {
    let environment = [("PROVISIONERD_CONFIG".to_owned(), "/env".to_owned())];
    let args = ["start", "--config=/flag"].map(str::to_owned);
    assert_eq!(named_file(&args, &environment), Some("/flag".into()));
    assert_eq!(named_file(&[], &environment), Some("/env".into()));
}

#[test]
fn credentials_that_nobody_would_get_refuse_the_file() {
    for file in [
        "[profile.aws]\nenv = { AWS_REGION = 'eu' }",
        "[[use]]\nprofile = 'aws'",
        "[start.profile.aws]\nenv_file = '/etc/aws'",
    ] {
        let refused = layers(&[], file).refuse_profiles();
        let refused = refused.expect_err("refused");
        assert_eq!(refused.code, "PROFILES_UNSUPPORTED");
        assert!(refused.message.contains("/etc/p.toml"), "{refused}");
    }
    assert!(layers(&[], "url = 'u'").refuse_profiles().is_ok());
}

#[test]
fn a_client_is_warned_that_profiles_are_not_read() {
    let (_, warnings) =
        layers(&[], "[profile.aws]\n[[use]]\nprofile = 'aws'").apply(Tool::command());
    assert_eq!(
        warnings,
        [
            "profile in /etc/p.toml is not read",
            "use in /etc/p.toml is not read"
        ]
    );
}
