//! Which daemon may take which job, and which of several jobs it gets. Pure.
//!
//! A daemon may take a job when the job's tags are a subset of its own, with one
//! exception: a job with exactly `{scope: organization, owner: ""}` (nobody asked for
//! anything special) goes only to a daemon with exactly those tags, so that a daemon
//! with special tags is kept for those who asked for them. Facts about a daemon (engine,
//! sandbox) may be asked for like tags, but that exception does not see them. The rule
//! itself is `proto::tags`; organization and kind are compared by the caller. A job whose
//! template names an engine goes only to daemons that offer it.
//!
//! Order: priority class, then the owner with the fewest jobs in daemons' hands, then the
//! owner who was served longest ago, then age. An automatic job that has waited
//! [`AUTOMATIC_WAITS`] goes before everything that has not, whatever its owner has in hand:
//! otherwise new interactive jobs could hold it back for ever.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::lease::millis;
use crate::words::Priority;

/// Tags of a job, a daemon or a key.
pub type Tags = BTreeMap<String, String>;

/// How long an automatic job waits behind interactive ones at most.
pub const AUTOMATIC_WAITS: Duration = Duration::from_secs(600);

/// The fact that lists a daemon's engines.
const ENGINE: &str = "engine";

/// What a job asks of its daemon.
#[derive(Debug, Clone, Copy)]
pub struct Needs<'a> {
    /// Its tags.
    pub tags: &'a Tags,
    /// `terraform`, `tofu` or empty for any.
    pub engine: &'a str,
}

/// What a daemon has for jobs to ask for.
#[derive(Debug, Clone, Copy)]
pub struct Offer<'a> {
    /// Its tags.
    pub tags: &'a Tags,
    /// Its facts.
    pub facts: &'a Tags,
}

/// What of a job a daemon may still have at hand from another one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Affinity {
    /// Its template version's id.
    pub version: String,
    /// Name of that version's providers; empty when it is not known.
    pub providers: String,
}

impl Offer<'_> {
    /// Whether the daemon may take a job that needs this.
    #[must_use]
    pub fn may_take(self, job: Needs<'_>) -> bool {
        self.has_engine(job.engine) && proto::tags::can_run(self.tags, self.facts, job.tags)
    }

    fn has_engine(self, engine: &str) -> bool {
        engine.is_empty() || proto::tags::has_fact(self.facts, ENGINE, engine)
    }

    fn missing(self, job: &Tags) -> Vec<String> {
        proto::tags::missing(self.tags, self.facts, job)
            .into_iter()
            .map(|(key, value)| format!("`{key}={value}`"))
            .collect()
    }
}

/// In plain words, what keeps a job from every one of these daemons; `None` when one of
/// them may take it.
#[must_use]
pub fn obstacle(daemons: &[Offer<'_>], job: Needs<'_>) -> Option<String> {
    if daemons.iter().any(|daemon| daemon.may_take(job)) {
        return None;
    }
    if daemons.is_empty() {
        return Some("no daemon is connected".to_owned());
    }
    let able: Vec<_> = daemons
        .iter()
        .filter(|daemon| daemon.has_engine(job.engine))
        .collect();
    if able.is_empty() {
        return Some(format!(
            "no connected daemon offers the engine `{}` that the template names",
            job.engine
        ));
    }
    if proto::tags::is_untagged(job.tags) {
        return Some(
            "the job has no tags of its own and every connected daemon that could run it has: \
             start a daemon without `--tag`, or tag the template"
                .to_owned(),
        );
    }
    let missing = able
        .iter()
        .map(|daemon| daemon.missing(job.tags))
        .min_by_key(Vec::len)?;
    let noun = if missing.len() == 1 { "tag" } else { "tags" };
    let whose = match job.engine {
        "" => String::new(),
        engine => format!(" with the engine `{engine}`"),
    };
    Some(format!(
        "no connected daemon{whose} has the {noun} {}",
        missing.join(", ")
    ))
}

/// A pending job that a daemon may take, as its turn depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Grows with age of submission: the lower the older.
    pub row: i64,
    /// Who waits for it.
    pub priority: Priority,
    /// When it was submitted, in Unix milliseconds.
    pub created_ms: i64,
    /// How many jobs of its owner are in daemons' hands.
    pub running: u32,
    /// When its owner last got a job handed out, if ever.
    pub served_ms: Option<i64>,
}

/// Whose turn it is: the least of several goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Turn {
    /// An automatic job that has waited long enough, by age.
    Due(i64),
    /// Someone waits for it: by share, last service and age.
    Interactive(u32, Option<i64>, i64),
    /// Nobody does; in the same order.
    Automatic(u32, Option<i64>, i64),
}

impl Turn {
    /// Whether it would not come before `other` if its job were younger, and perhaps not due.
    #[must_use]
    pub fn rests_on_age(self, other: Self) -> bool {
        match (self, other) {
            (Self::Due(_), _) => true,
            (Self::Interactive(running, served, _), Self::Interactive(others, theirs, _))
            | (Self::Automatic(running, served, _), Self::Automatic(others, theirs, _)) => {
                (running, served) == (others, theirs)
            }
            (Self::Interactive(..) | Self::Automatic(..), _) => false,
        }
    }
}

/// Where a job stands in line.
#[must_use]
pub fn turn(claim: &Claim, now_ms: i64) -> Turn {
    let waited = now_ms.saturating_sub(claim.created_ms);
    let (running, served, row) = (claim.running, claim.served_ms, claim.row);
    match claim.priority {
        Priority::Interactive => Turn::Interactive(running, served, row),
        Priority::Automatic if waited >= millis(AUTOMATIC_WAITS) => Turn::Due(row),
        Priority::Automatic => Turn::Automatic(running, served, row),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(pairs: &[(&str, &str)]) -> Tags {
        pairs
            .iter()
            .map(|&(k, v)| (k.to_owned(), v.to_owned()))
            .collect()
    }

    static NO_FACTS: Tags = Tags::new();

    fn offer<'a>(tags: &'a Tags, facts: &'a Tags) -> Offer<'a> {
        Offer { tags, facts }
    }

    /// Of any engine.
    fn any(tags: &Tags) -> Needs<'_> {
        Needs { tags, engine: "" }
    }

    fn org(extra: &[(&str, &str)]) -> Tags {
        let mut all = tags(&[("scope", "organization"), ("owner", "")]);
        all.extend(tags(extra));
        all
    }

    fn user(owner: &str, extra: &[(&str, &str)]) -> Tags {
        let mut all = tags(&[("scope", "user"), ("owner", owner)]);
        all.extend(tags(extra));
        all
    }

    #[test]
    fn the_published_table_of_the_match_rule() {
        let on_prem = ("env", "on-prem");
        let chicago = ("dc", "chicago");
        let table = [
            (org(&[]), org(&[]), true),
            (org(&[on_prem]), org(&[on_prem]), true),
            (org(&[on_prem, chicago]), org(&[on_prem]), true),
            (user("aaa", &[]), user("aaa", &[]), true),
            (user("aaa", &[on_prem]), user("aaa", &[on_prem]), true),
            (
                user("aaa", &[on_prem, chicago]),
                user("aaa", &[on_prem]),
                true,
            ),
            (org(&[]), org(&[on_prem]), false),
            (org(&[on_prem]), org(&[]), false),
            (org(&[on_prem]), org(&[on_prem, chicago]), false),
            (org(&[("env", "cloud")]), org(&[on_prem]), false),
            (user("aaa", &[]), org(&[]), false),
            (user("aaa", &[]), user("bbb", &[]), false),
            (user("aaa", &[]), user("aaa", &[on_prem]), false),
            (org(&[]), user("aaa", &[]), false),
        ];
        for (daemon, job, expected) in table {
            let offer = offer(&daemon, &NO_FACTS);
            assert_eq!(offer.may_take(any(&job)), expected, "{daemon:?} {job:?}");
        }
    }

    #[test]
    fn a_fact_may_be_asked_for_and_does_not_tag_its_daemon() {
        let (daemon, facts) = (org(&[]), tags(&[("engine", "tofu")]));
        let offer = offer(&daemon, &facts);
        assert!(offer.may_take(any(&org(&[]))));
        assert!(offer.may_take(any(&org(&[("engine", "tofu")]))));
        let other = org(&[("engine", "terraform")]);
        assert!(!offer.may_take(any(&other)));
        let reason = obstacle(&[offer], any(&other)).expect("an obstacle");
        assert!(reason.contains("`engine=terraform`"), "{reason}");
    }

    #[test]
    fn an_obstacle_names_the_fewest_missing_tags() {
        let job = org(&[("env", "on-prem"), ("dc", "chicago")]);
        let (plain, tagged) = (org(&[]), org(&[("env", "on-prem")]));
        let daemons = [offer(&plain, &NO_FACTS), offer(&tagged, &NO_FACTS)];
        assert_eq!(
            obstacle(&daemons, any(&job)).as_deref(),
            Some("no connected daemon has the tag `dc=chicago`")
        );
        assert_eq!(obstacle(&[offer(&job, &NO_FACTS)], any(&job)), None);
        assert_eq!(
            obstacle(&[], any(&job)).as_deref(),
            Some("no daemon is connected")
        );
    }

    #[test]
    fn an_untagged_job_before_tagged_daemons_says_why_it_waits() {
        let tagged = org(&[("env", "x")]);
        let text = obstacle(&[offer(&tagged, &NO_FACTS)], any(&org(&[]))).expect("an obstacle");
        assert!(text.contains("without `--tag`"), "{text}");
    }

    #[test]
    fn a_job_of_a_named_engine_goes_only_where_it_is_offered() {
        let (plain, tofu) = (org(&[]), org(&[]));
        let job = |engine| Needs {
            tags: &tofu,
            engine,
        };
        let facts = ["terraform", "terraform,tofu", "tofu"].map(|it| tags(&[("engine", it)]));
        let takes = |engine| {
            facts
                .each_ref()
                .map(|f| offer(&plain, f).may_take(job(engine)))
        };
        assert_eq!(takes("tofu"), [false, true, true]);
        assert_eq!(takes("terraform"), [true, true, false]);
        assert_eq!(takes(""), [true, true, true]);
        // A daemon that does not say what it has is not guessed at.
        assert!(!offer(&plain, &NO_FACTS).may_take(job("tofu")));
    }

    #[test]
    fn an_obstacle_names_the_engine_before_tags() {
        let gpu = org(&[("gpu", "yes")]);
        let job = Needs {
            tags: &gpu,
            engine: "tofu",
        };
        let (plain, terraform) = (org(&[]), tags(&[("engine", "terraform")]));
        let only = [offer(&gpu, &terraform)];
        let text = obstacle(&only, job).expect("an obstacle");
        assert!(
            text.contains("engine `tofu`") && !text.contains("gpu"),
            "{text}"
        );
        let tofu = tags(&[("engine", "terraform,tofu")]);
        let text = obstacle(&[only[0], offer(&plain, &tofu)], job).expect("an obstacle");
        assert!(
            text.contains("engine `tofu`") && text.contains("`gpu=yes`"),
            "{text}"
        );
        assert_eq!(obstacle(&[offer(&gpu, &tofu)], job), None);
    }

    fn claim(row: i64, priority: Priority) -> Claim {
        Claim {
            row,
            priority,
            created_ms: 0,
            running: 0,
            served_ms: None,
        }
    }

    fn first(claims: &[Claim], now_ms: i64) -> i64 {
        let first = claims.iter().min_by_key(|claim| turn(claim, now_ms));
        first.expect("a claim").row
    }

    #[test]
    fn interactive_goes_before_automatic_and_age_decides_last() {
        let jobs = [
            claim(1, Priority::Automatic),
            claim(3, Priority::Interactive),
            claim(2, Priority::Interactive),
        ];
        assert_eq!(first(&jobs, 1_000), 2);
    }

    #[test]
    fn the_owner_with_the_fewest_running_jobs_goes_first() {
        let busy = Claim {
            running: 3,
            ..claim(1, Priority::Interactive)
        };
        let idle = Claim {
            served_ms: Some(900),
            ..claim(2, Priority::Interactive)
        };
        assert_eq!(first(&[busy, idle], 1_000), 2);
    }

    #[test]
    fn of_equal_shares_the_owner_served_longest_ago_goes_first() {
        let served = |row, at| Claim {
            served_ms: at,
            ..claim(row, Priority::Interactive)
        };
        assert_eq!(first(&[served(1, Some(8)), served(2, Some(7))], 9), 2);
        assert_eq!(first(&[served(1, Some(0)), served(2, None)], 9), 2);
    }

    #[test]
    fn automatic_waits_ten_minutes_behind_at_most() {
        // Not even behind an owner who has nothing and never had anything.
        let cron = Claim {
            running: 7,
            served_ms: Some(599_000),
            ..claim(2, Priority::Automatic)
        };
        let jobs = [claim(1, Priority::Interactive), cron];
        assert_eq!(first(&jobs, 599_999), 1);
        assert_eq!(first(&jobs, 600_000), 2);
    }
}
