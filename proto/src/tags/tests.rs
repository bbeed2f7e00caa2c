use super::*;

fn tags(pairs: &[(&str, &str)]) -> Tags {
    Tags::new(pairs.iter().copied()).expect("tags")
}

fn runs(daemon: &[(&str, &str)], job: &[(&str, &str)]) -> bool {
    tags(daemon).can_run(&BTreeMap::new(), &tags(job))
}

#[test]
fn the_match_table_of_coder_holds() {
    let user = |id| [("scope", "user"), ("owner", id)];
    let on_prem = ("env", "on-prem");
    let chicago = ("dc", "chicago");
    assert!(runs(&[], &[]));
    assert!(runs(&[on_prem], &[on_prem]));
    assert!(runs(&[on_prem, chicago], &[on_prem]));
    assert!(runs(&user("aaa"), &user("aaa")));
    let more = [("scope", "user"), ("owner", "aaa"), on_prem];
    assert!(runs(&more, &user("aaa")));
    assert!(!runs(&[], &[on_prem]));
    assert!(
        !runs(&[on_prem], &[]),
        "a tagged daemon is kept for tagged jobs"
    );
    assert!(!runs(&[on_prem], &[on_prem, chicago]));
    assert!(!runs(&[("env", "cloud")], &[on_prem]));
    assert!(!runs(&user("aaa"), &[]));
    assert!(!runs(&user("aaa"), &user("bbb")));
    assert!(!runs(&user("aaa"), &more));
    assert!(!runs(&[], &user("aaa")));
}

#[test]
fn facts_are_matched_but_do_not_make_a_daemon_tagged() {
    let facts = BTreeMap::from([("engine".to_owned(), "tofu".to_owned())]);
    let daemon = Tags::untagged();
    assert!(daemon.can_run(&facts, &Tags::untagged()));
    assert!(daemon.can_run(&facts, &tags(&[("engine", "tofu")])));
    assert!(!daemon.can_run(&facts, &tags(&[("engine", "terraform")])));
    let facts = BTreeMap::from([("engine".to_owned(), "terraform,tofu".to_owned())]);
    for engine in ["tofu", "terraform", "tofu,terraform"] {
        assert!(
            daemon.can_run(&facts, &tags(&[("engine", engine)])),
            "{engine}"
        );
    }
    for engine in ["terra", "", "tofu,other"] {
        assert!(
            !daemon.can_run(&facts, &tags(&[("engine", engine)])),
            "{engine}"
        );
    }
}

#[test]
fn a_fact_that_nobody_knows_stands_for_no_tag() {
    let facts = BTreeMap::from(["region", "engine"].map(|key| (key.to_owned(), "eu".to_owned())));
    let job = tags(&[("region", "eu")]);
    assert!(!Tags::untagged().can_run(&facts, &job));
    assert_eq!(
        Tags::untagged().missing_for(&facts, &job),
        [("region", "eu")]
    );
}

#[test]
fn the_missing_tags_are_named() {
    let job = tags(&[("env", "prod"), ("dc", "chicago")]);
    let daemon = tags(&[("env", "prod")]);
    assert_eq!(
        daemon.missing_for(&BTreeMap::new(), &job),
        [("dc", "chicago")]
    );
}

#[test]
fn an_owner_without_scope_user_is_dropped() {
    assert_eq!(tags(&[("owner", "aaa")]), Tags::untagged());
    assert_eq!(
        tags(&[("scope", "user"), ("owner", "aaa")]).get(OWNER),
        Some("aaa")
    );
}

#[test]
fn workspace_tags_lie_over_version_tags() {
    let version = tags(&[("env", "dev"), ("dc", "chicago")]);
    let job = version.overlaid([("env", "prod")]).expect("tags");
    assert_eq!(
        job.to_string(),
        "dc=chicago, env=prod, owner=, scope=organization"
    );
}

#[test]
fn bad_tags_are_refused_by_name() {
    let long = "x".repeat(limits::TAG + 1);
    let many = (0..=limits::TAGS).map(|n| (n.to_string(), "x"));
    assert_eq!(Tags::parse(&["env"]), Err(Error::Form("env".to_owned())));
    assert_eq!(Tags::parse(&["=x"]), Err(Error::Form("=x".to_owned())));
    assert_eq!(
        Tags::parse(&["a=1", "a=2"]),
        Err(Error::Twice("a".to_owned()))
    );
    assert_eq!(Tags::new([("a", "x\0")]), Err(Error::Nul("a".to_owned())));
    assert_eq!(Tags::new([("", "x")]), Err(Error::Form("=x".to_owned())));
    assert_eq!(
        Tags::new([("scope", "x")]),
        Err(Error::Scope("x".to_owned()))
    );
    assert_eq!(
        Tags::new(many),
        Err(Error::TooMany {
            count: limits::TAGS + 1
        })
    );
    let refused = Tags::new([("a", &*long)]).expect_err("long");
    assert_eq!(refused.to_string(), "tag `a` is longer than 256 bytes");
    assert_eq!(Tags::parse(&["a=b=c"]).expect("tags").get("a"), Some("b=c"));
}

#[test]
fn a_key_allows_its_pairs_any_value_by_star_and_nothing_else() {
    let key = Allowed::new([("env", "prod"), ("dc", "*")]).expect("pairs");
    let key = key.into_pairs();
    assert_eq!(outside(&key, &Tags::untagged()), None);
    assert_eq!(outside(&key, &tags(&[("env", "prod"), ("dc", "x")])), None);
    assert_eq!(
        outside(&key, &tags(&[("env", "dev")])),
        Some(("env", "dev"))
    );
    assert_eq!(
        outside(&key, &tags(&[("gpu", "yes")])),
        Some(("gpu", "yes"))
    );
    let user = tags(&[("scope", "user"), ("owner", "aaa")]);
    assert_eq!(outside(&key, &user), Some(("owner", "aaa")));
}
