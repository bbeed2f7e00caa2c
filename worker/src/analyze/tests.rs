use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use proto::v1::tag_part::Part;
use proto::v1::{JobError, TagPart};

use super::*;

fn template(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    dir
}

fn analyse(files: &[(&str, &str)]) -> Analysis {
    directory(template(files).path()).unwrap()
}

#[track_caller]
fn refused(files: &[(&str, &str)], code: &str, words: &[&str]) {
    let error = JobError::from(directory(template(files).path()).expect_err(code));
    assert_eq!(error.code, code, "{}", error.message);
    for word in words {
        assert!(
            error.message.contains(word),
            "no {word:?} in {:?}",
            error.message
        );
    }
}

fn shown(parts: &[TagPart]) -> String {
    parts
        .iter()
        .map(|part| match part.part.as_ref().unwrap() {
            Part::Literal(text) => text.clone(),
            Part::Variable(name) => format!("<var {name}>"),
            Part::Parameter(name) => format!("<parameter {name}>"),
        })
        .collect()
}

fn tags(analysis: &Analysis) -> Vec<(String, String)> {
    analysis
        .workspace_tags
        .iter()
        .map(|tag| (shown(&tag.key), shown(&tag.value)))
        .collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn variables_come_by_file_and_line_with_what_their_author_wrote() {
    let analysis = analyse(&[
        (
            "b.tf",
            r#"
variable "second" {
  type = list(object({ a = string, b = optional(number) }))
  default = [{ a = "x", b = -1.5 }]
}
variable "first" {}
"#,
        ),
        (
            "a.tf",
            r#"
variable "zone" {
  type        = string
  description = <<-EOT
    Two
      lines
  EOT
  default     = "eu"
  sensitive   = true
}
variable "nothing" {
  type    = string
  default = null
}
variable "old" {
  type    = "map"
  default = { "k" = true }
}
"#,
        ),
    ]);
    let got: Vec<_> = analysis
        .variables
        .iter()
        .map(|v| {
            (
                v.name.as_str(),
                v.r#type.as_str(),
                v.default_value.as_str(),
                v.required,
                v.sensitive,
            )
        })
        .collect();
    assert_eq!(
        got,
        [
            ("zone", "string", "eu", false, true),
            ("nothing", "string", "", false, false),
            ("old", "map", r#"{"k":true}"#, false, false),
            (
                "second",
                "list(object({ a = string, b = optional(number) }))",
                r#"[{"a":"x","b":-1.5}]"#,
                false,
                false
            ),
            ("first", "", "", true, false),
        ]
    );
    assert_eq!(analysis.variables[0].description, "Two\n  lines\n");
    assert_eq!(analysis.warnings, Vec::<String>::new());
}

#[test]
fn json_files_declare_variables_and_tags_too() {
    let analysis = analyse(&[(
        "main.tf.json",
        r#"{
  "variable": [
    {"region": {"type": "string", "default": "eu", "description": "Where"}},
    {"size": {"default": 3, "sensitive": true}}
  ],
  "data": {
    "coder_parameter": {"p": {"name": "Real Name"}},
    "coder_workspace_tags": {"t": {"tags": {
      "region": "${var.region}",
      "${var.region}-x": "a-${data.coder_parameter.p.value}",
      "flag": true
    }}}
  },
  "locals": {"agent": "${coder_agent.main.id}"}
}"#,
    )]);
    let got: Vec<_> = analysis
        .variables
        .iter()
        .map(|v| (v.name.as_str(), v.default_value.as_str(), v.sensitive))
        .collect();
    assert_eq!(got, [("region", "eu", false), ("size", "3", true)]);
    let expected = [
        ("<var region>-x", "a-<parameter Real Name>"),
        ("flag", "true"),
        ("region", "<var region>"),
    ];
    assert_eq!(tags(&analysis), pairs(&expected));
    assert_eq!(analysis.locals[0].references, ["coder_agent.main.id"]);
}

#[test]
fn an_override_file_replaces_what_it_names_again() {
    let analysis = analyse(&[
        (
            "a_override.tf",
            "variable \"x\" {\n  default = \"new\"\n}\n",
        ),
        (
            "main.tf",
            "variable \"x\" {\n  type    = string\n  default = \"old\"\n}\n",
        ),
    ]);
    assert_eq!(analysis.variables.len(), 1);
    assert_eq!(analysis.variables[0].default_value, "new");
    assert_eq!(analysis.variables[0].r#type, "string");
}

#[test]
fn a_real_template_is_read_as_its_author_wrote_it() {
    let dir =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../testdata/templates/kubernetes-ollama");
    let analysis = directory(&dir).unwrap();
    let got: Vec<_> = analysis
        .variables
        .iter()
        .map(|v| {
            (
                v.name.as_str(),
                v.r#type.as_str(),
                v.default_value.as_str(),
                v.required,
            )
        })
        .collect();
    assert_eq!(
        got,
        [
            ("use_kubeconfig", "bool", "false", false),
            ("namespace", "string", "", true)
        ]
    );
    let description = &analysis.variables[0].description;
    assert!(description.starts_with("Use host kubeconfig? (true/false)\n\nSet this to false if"));
    assert!(description.ends_with("must be present on the Coder host.\n"));
    assert_eq!(analysis.workspace_tags, []);
}

#[test]
fn tags_are_taken_apart_into_text_variables_and_parameters() {
    let analysis = analyse(&[(
        "main.tf",
        r#"
variable "env" {}
data "coder_parameter" "label" {
  name = "Zone name"
}
data "coder_workspace_tags" "one" {
  tags = {
    plain             = "text"
    "quoted"          = 7
    on                = true
    (var.env)         = "by variable"
    "p-${var.env}"    = "${data.coder_parameter.label.value}"
    mixed             = "a-${var.env}-${data.coder_parameter.label.value}-z"
    alone             = data.coder_parameter.label.value
  }
}
data "coder_workspace_tags" "two" {
  tags = {
    more = (var.env)
  }
}
"#,
    )]);
    let expected = [
        ("plain", "text"),
        ("quoted", "7"),
        ("on", "true"),
        ("<var env>", "by variable"),
        ("p-<var env>", "<parameter Zone name>"),
        ("mixed", "a-<var env>-<parameter Zone name>-z"),
        ("alone", "<parameter Zone name>"),
        ("more", "<var env>"),
    ];
    assert_eq!(tags(&analysis), pairs(&expected));
}

fn with_tag(tag: &str) -> String {
    format!(
        "data \"coder_workspace_tags\" \"t\" {{\n  tags = {{\n    ok = \"x\"\n    {tag}\n  }}\n}}\n"
    )
}

#[test]
fn a_tag_that_needs_an_engine_is_refused_with_its_place() {
    for (tag, words) in [
        ("bad = lower(\"X\")", "only text, variables and parameters"),
        ("bad = local.x", "local.x is not known"),
        (
            "bad = data.coder_workspace.me.name",
            "data.coder_workspace.me.name is not known",
        ),
        ("bad = var.x[0]", "is not known"),
        ("bad = true ? \"a\" : \"b\"", "only text"),
        ("bad = \"%{ if true }a%{ endif }\"", "%{ }"),
        (
            "bad = data.coder_parameter.none.value",
            "no data.coder_parameter.none",
        ),
        ("bad = null", "only text"),
    ] {
        let file = with_tag(tag);
        refused(
            &[("main.tf", &file)],
            "WORKSPACE_TAG_UNSUPPORTED",
            &["main.tf:4", "bad", words],
        );
    }
    let computed = with_tag("bad = data.coder_parameter.p.value")
        + "data \"coder_parameter\" \"p\" {\n  name = lower(\"X\")\n}\n";
    refused(
        &[("main.tf", &computed)],
        "WORKSPACE_TAG_UNSUPPORTED",
        &["not written out"],
    );
    let whole = "data \"coder_workspace_tags\" \"t\" {\n  tags = local.tags\n}\n";
    refused(
        &[("main.tf", whole)],
        "WORKSPACE_TAG_UNSUPPORTED",
        &["main.tf:2", "{ key = value"],
    );
}

#[test]
fn a_tag_may_be_set_once() {
    let one = with_tag("");
    refused(
        &[("a.tf", &one), ("b.tf", &one)],
        "WORKSPACE_TAG_DUPLICATE",
        &["b.tf:3", "ok"],
    );
    // Within one object the parser itself refuses it.
    let twice = with_tag("ok = \"y\"");
    refused(
        &[("main.tf", &twice)],
        "WORKSPACE_TAG_UNSUPPORTED",
        &["main.tf:4", "redefined"],
    );
}

#[test]
fn a_file_that_does_not_parse_is_left_out_unless_it_holds_tags() {
    let analysis = analyse(&[
        ("bad.tf", "variable \"x\" {\n  default = \n"),
        ("bad.tf.json", "{"),
        ("good.tf", "variable \"y\" {}\n"),
        ("latin.tf", "# \u{e9}"),
        (".hidden.tf", "("),
    ]);
    assert_eq!(analysis.variables.len(), 1);
    assert_eq!(analysis.warnings.len(), 2);
    assert!(
        analysis.warnings[0].starts_with("bad.tf:2 "),
        "{}",
        analysis.warnings[0]
    );
    assert!(
        analysis.warnings[1].starts_with("bad.tf.json:1 "),
        "{}",
        analysis.warnings[1]
    );
    let lost = "data \"coder_workspace_tags\" \"t\" {";
    refused(
        &[("bad.tf", lost)],
        "WORKSPACE_TAG_UNSUPPORTED",
        &["bad.tf:1"],
    );
}

#[test]
fn hostile_nesting_neither_crashes_nor_hangs() {
    for (open, close) in [
        ("(", ")"),
        ("[", "]"),
        ("{ a = ", " }"),
        ("\"${", "}\""),
        ("f(", ")"),
        ("-", ""),
        ("a ? b : ", ""),
        ("1 + ", ""),
        ("[for x in ", " : x]"),
    ] {
        for depth in [20, 60, 100_000 / open.len()] {
            let body = format!(
                "locals {{\n  x = {}1{}\n}}\n",
                open.repeat(depth),
                close.repeat(depth)
            );
            let _ = analyse(&[("main.tf", &body)]);
        }
    }
    let blocks = "a {\n".repeat(50_000) + &"}\n".repeat(50_000);
    analyse(&[("main.tf", &blocks)]);
    let path = format!("locals {{\n  x = a{}\n}}\n", ".b".repeat(100_000));
    analyse(&[("main.tf", &path)]);
    let json = "[".repeat(100_000);
    assert_eq!(analyse(&[("main.tf.json", &json)]).warnings.len(), 1);
}

#[test]
fn readme_is_read_whole_and_links_are_not_followed() {
    assert_eq!(analyse(&[("README.md", "# Hi\n")]).readme, b"# Hi\n");
    assert_eq!(analyse(&[]).readme, b"");
    let dir = template(&[]);
    std::os::unix::fs::symlink("/etc/hostname", dir.path().join("README.md")).unwrap();
    let error = directory(dir.path()).unwrap_err();
    assert_eq!(error.code(), "TEMPLATE_UNREADABLE");
}

#[test]
fn a_file_too_large_is_left_out_with_a_warning() {
    let large = " ".repeat(usize::try_from(CONFIGURATION_FILE).unwrap() + 1);
    let analysis = analyse(&[("main.tf", &large)]);
    assert!(analysis.warnings[0].contains(&CONFIGURATION_FILE.to_string()));
}

#[test]
fn locals_tell_what_they_refer_to_in_every_module() {
    let analysis = analyse(&[
        (
            "main.tf",
            r#"
locals {
  agent  = coder_agent.main
  script = "run ${local.agent.init_script} ${join(",", [for a in module.m[0].tokens : a.x])}"
  all    = coder_agent.many[*].id
  plain  = "text"
}
"#,
        ),
        ("deep/x.tf", "locals {\n  id = var.agent_id\n}\n"),
        (
            MODULES,
            r#"{"Modules":[{"Key":"","Dir":"."},{"Key":"a.b","Dir":"deep"},{"Key":"out","Dir":"../.."}]}"#,
        ),
    ]);
    let got: Vec<_> = analysis
        .locals
        .iter()
        .map(|l| (l.module.as_str(), l.name.as_str(), l.references.join(" ")))
        .collect();
    assert_eq!(
        got,
        [
            ("", "agent", "coder_agent.main".to_owned()),
            (
                "",
                "script",
                "local.agent.init_script module.m[*].tokens".to_owned()
            ),
            ("", "all", "coder_agent.many".to_owned()),
            ("a.b", "id", "var.agent_id".to_owned()),
        ]
    );
}

#[test]
fn configuration_beyond_the_limit_of_a_template_is_left_out_with_a_warning() {
    let file = "#".repeat(usize::try_from(CONFIGURATION_FILE).unwrap());
    let names: Vec<String> = (0..=CONFIGURATION / CONFIGURATION_FILE)
        .map(|n| format!("f{n:02}.tf"))
        .collect();
    let files: Vec<_> = names
        .iter()
        .map(|name| (name.as_str(), file.as_str()))
        .collect();
    let warnings = analyse(&files).warnings;
    assert!(
        warnings[0].contains(&CONFIGURATION.to_string()),
        "{warnings:?}"
    );
    assert_eq!(warnings.len(), 2);
}

#[test]
fn more_tags_than_a_job_can_have_are_refused() {
    let tags: String = (0..=proto::limits::TAGS)
        .map(|n| format!("    t{n} = 1\n"))
        .collect();
    let file = format!("data \"coder_workspace_tags\" \"t\" {{\n  tags = {{\n{tags}  }}\n}}\n");
    refused(
        &[("main.tf", &file)],
        "WORKSPACE_TAG_UNSUPPORTED",
        &["t64", "main.tf:67"],
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_file_panics(
        native in "(data|variable|locals|\"x\"|coder_workspace_tags|tags|default|var\\.x|[{}=\\[\\]()$%\"\n .0-9<-]){0,40}",
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let dir = template(&[("a.tf", &native), ("b.tf.json", &native)]);
        fs::write(dir.path().join("c.tf"), bytes).unwrap();
        let _ = directory(dir.path());
    }
}

#[test]
fn defaults_of_parameters_are_known_where_they_are_written_out() {
    let analysis = analyse(&[
        (
            "main.tf",
            r#"
data "coder_parameter" "region" {
  name    = "region"
  default = "eu"
}
data "coder_parameter" "cores" {
  name    = "cpu"
  default = 4
}
data "coder_parameter" "asked" {
  name = "asked"
}
data "coder_parameter" "computed" {
  name    = "computed"
  default = var.x
}
"#,
        ),
        (
            "more.tf.json",
            r#"{"data": {"coder_parameter": {
                "plain": {"name": "plain", "default": true},
                "template": {"name": "template", "default": "${var.x}"}
            }}}"#,
        ),
        (
            "override.tf",
            "data \"coder_parameter\" \"region\" {\n  default = \"us\"\n}\n",
        ),
    ]);
    let found: Vec<(&str, &str)> = analysis
        .parameters
        .iter()
        .map(|parameter| (&*parameter.name, &*parameter.value))
        .collect();
    assert_eq!(found, [("cpu", "4"), ("plain", "true"), ("region", "us")]);
}
