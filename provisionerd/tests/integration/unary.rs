//! Daemons behind proxies that let no streams through: they find out, say so, work all the
//! same, and go back to streams when those come through again.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{Daemon, Fleet, LONG, Lets, Strict, Waits, printed, template, wait_for};

/// As the daemon is listed, once it reaches the queue in this way.
fn reaches_by(fleet: &Fleet, transport: &str) -> Value {
    wait_for(&format!("the daemon is on {transport}"), LONG, || {
        let daemons = fleet.json(&["daemons", "list"]);
        let daemon = daemons.as_array()?.first()?.clone();
        (daemon["transport"] == transport && daemon["status"] != "offline").then_some(daemon)
    })
}

/// What the daemon says when it leaves streams.
fn warnings(daemon: &Daemon) -> Vec<String> {
    let log = daemon.process.log();
    let said = log
        .lines()
        .filter(|line| line.contains("short calls are used"));
    said.map(str::to_owned).collect()
}

/// Import and build with states of several MiB, thousands of lines and a ledger.
fn builds_whole(fleet: &Fleet) {
    let (state_mib, lines) = (6, 2_000);
    let variables = [
        format!("state_mib={state_mib}"),
        "event_mib=1".to_owned(),
        format!("lines={lines}"),
    ];
    let variables: Vec<&str> = variables
        .iter()
        .flat_map(|variable| ["--variable", variable.as_str()])
        .collect();
    fleet.push("large", &template("sizes"), &variables).exits(0);
    let create = ["workspaces", "create", "large", "--template", "large"];
    for build in [&create[..], &["workspaces", "start", "large"]] {
        let made = fleet.json(build);
        assert_eq!(made["job"]["status"], "succeeded", "{made:#}");
        assert_eq!(made["job"]["attempt"], 1, "{made:#}");
        let job = made["job"]["id"].as_str().expect("id");
        let wanted: String = (1..=lines).map(|n| format!("line{n:09}")).collect();
        assert_eq!(printed(&fleet.log(job)), wanted);
    }
    let state = fleet.run(&["state", "pull", "large"]).exits(0);
    assert!(state.stdout.len() > state_mib << 20, "the state is whole");
    state.json();
}

/// A build that is cancelled while its engine works; how long that took from the ask to the
/// engine's interrupt.
fn is_canceled(fleet: &Fleet, daemon: &Daemon) -> Duration {
    let minute = ["--variable", "seconds=60"];
    fleet.push("slow", &template("slow"), &minute).exits(0);
    let job = fleet.create("slow", "slow");
    fleet.says(&job, "slow 1: tick");
    let told = || daemon.process.log().matches("engine interrupted").count();
    let before = told();
    let asked = Instant::now();
    fleet.run(&["jobs", "cancel", &job]).exits(0);
    wait_for("the engine is interrupted", LONG, || {
        (told() > before).then_some(())
    });
    let took = asked.elapsed();
    let ended = fleet.ended(&job);
    assert_eq!(ended["status"], "canceled", "{ended:#}");
    took
}

/// Everything that a fleet does, through the proxy, and back to streams without it.
fn works(waits: Waits, lets: Lets, saw: &str) {
    let fleet = Fleet::with(waits);
    let proxy = Strict::before(&fleet.url, lets);
    let more = ["--stream-retry", "15"];
    let mut daemon = fleet.daemon_by(&proxy.url, "one", &more);
    // The call that shows whether it is the queue that is away comes before.
    wait_for("it says that it leaves streams", LONG, || {
        warnings(&daemon).pop()
    });
    reaches_by(&fleet, "unary");
    let table = fleet.run(&["daemons", "list"]).exits(0).stdout;
    assert!(table.contains("unary"), "{table}");
    let said = warnings(&daemon);
    assert_eq!(said.len(), 1, "{said:#?}");
    assert!(said[0].contains(saw), "{said:#?}");
    builds_whole(&fleet);
    let took = is_canceled(&fleet, &daemon);
    eprintln!(
        "measured: cancel to interrupt on short calls: {} ms",
        took.as_millis()
    );
    // The stated wait is two seconds; the command, the log and a busy machine take some.
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(
        warnings(&daemon).len(),
        1,
        "streams are tried without a word"
    );
    proxy.lets(Lets::All);
    reaches_by(&fleet, "streams");
    let again = fleet.json(&["workspaces", "start", "large"]);
    assert_eq!(again["job"]["status"], "succeeded", "{again:#}");
    // Said once the stream has stood for a while.
    wait_for("it says that streams work", LONG, || {
        let log = daemon.process.log();
        log.contains("streams to the queue work again")
            .then_some(())
    });
    fleet.run(&["daemons", "drain", "one"]).exits(0);
    assert!(daemon.process.ended(LONG).success());
    fleet.assert_nothing_left(&mut daemon);
}

#[test]
fn a_daemon_behind_a_proxy_that_holds_answers_back_works_by_short_calls() {
    works(
        Waits::Short,
        Lets::WholeAnswers,
        "2 streams in a row brought nothing",
    );
}

#[test]
fn a_daemon_behind_a_proxy_that_cuts_streams_works_by_short_calls() {
    let two_seconds = Lets::Short(Duration::from_secs(2));
    works(Waits::Whole, two_seconds, "3 streams in a row were cut");
}

#[test]
fn a_daemon_on_short_calls_is_drained_and_its_death_is_seen() {
    let fleet = Fleet::with(Waits::Short);
    let proxy = Strict::before(&fleet.url, Lets::WholeAnswers);
    let mut dies = fleet.daemon_by(&proxy.url, "dies", &[]);
    // Before, it lives as long as the proxy holds its stream.
    wait_for("it says that it leaves streams", LONG, || {
        warnings(&dies).pop()
    });
    reaches_by(&fleet, "unary");
    dies.process.signal(Signal::SIGKILL);
    // The proxy still holds its streams open.
    wait_for("it is offline", LONG, || {
        let daemons = fleet.json(&["daemons", "list"]);
        (daemons[0]["status"] == "offline").then_some(())
    });
    let mut again = fleet.again_by(&proxy.url, "dies", &[]);
    reaches_by(&fleet, "unary");
    fleet.run(&["daemons", "drain", "dies"]).exits(0);
    assert!(again.process.ended(LONG).success());
    let _killed = dies.process.ended(LONG);
}

#[test]
fn streams_that_work_are_not_given_up_for_a_queue_that_is_away() {
    let mut fleet = Fleet::with(Waits::Short);
    let proxy = Strict::before(&fleet.url, Lets::All);
    let daemon = fleet.daemon_by(&proxy.url, "one", &[]);
    for _ in 0..2 {
        fleet.restart_queue();
        reaches_by(&fleet, "streams");
    }
    fleet.signal_queue(Signal::SIGSTOP);
    // Longer than two silent streams take.
    let long = Instant::now() + Duration::from_secs(4);
    wait_for("two streams would have been silent", LONG, || {
        (Instant::now() > long).then_some(())
    });
    fleet.signal_queue(Signal::SIGCONT);
    reaches_by(&fleet, "streams");
    assert_eq!(warnings(&daemon), Vec::<String>::new());
}
