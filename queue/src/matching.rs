//! Which daemon may take which job, and which of several jobs it gets. Pure.
//!
//! A daemon may take a job when the job's tags are a subset of its own, with one
//! exception: a job with exactly `{scope: organization, owner: ""}` (nobody asked for
//! anything special) goes only to a daemon with exactly those tags, so that a daemon
//! with special tags is kept for those who asked for them. Facts about a daemon (engine,
//! sandbox) may be asked for like tags, but that exception does not see them. The rule
//! itself is `proto::tags`; organization and kind are compared by the caller.
//!
//! Order: priority class, then the owner with the fewest jobs in daemons' hands, then
//! age. An automatic job that has waited [`AUTOMATIC_WAITS`] competes as an interactive.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::lease::millis;
use crate::words::Priority;

/// Tags of a job, a daemon or a key.
pub type Tags = BTreeMap<String, String>;

/// How long an automatic job waits behind interactive ones at most.
pub const AUTOMATIC_WAITS: Duration = Duration::from_secs(600);

/// What a daemon has for jobs to ask for.
#[derive(Debug, Clone, Copy)]
pub struct Offer<'a> {
    /// Its tags.
    pub tags: &'a Tags,
    /// Its facts.
    pub facts: &'a Tags,
}

impl Offer<'_> {
    /// Whether the daemon may take a job with these tags.
    #[must_use]
    pub fn may_take(self, job: &Tags) -> bool {
        proto::tags::can_run(self.tags, self.facts, job)
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
pub fn obstacle(daemons: &[Offer<'_>], job: &Tags) -> Option<String> {
    if daemons.iter().any(|daemon| daemon.may_take(job)) {
        return None;
    }
    if daemons.is_empty() {
        return Some("no daemon is connected".to_owned());
    }
    if proto::tags::is_untagged(job) {
        return Some(
            "the job has no tags of its own and every connected daemon has: \
             start a daemon without `--tag`, or tag the template"
                .to_owned(),
        );
    }
    let missing = daemons
        .iter()
        .map(|daemon| daemon.missing(job))
        .min_by_key(Vec::len)?;
    let noun = if missing.len() == 1 { "tag" } else { "tags" };
    Some(format!(
        "no connected daemon has the {noun} {}",
        missing.join(", ")
    ))
}

/// The oldest pending job of one owner and priority that a daemon may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Grows with age of submission: the lower the older.
    pub row: i64,
    /// Whose it is.
    pub owner: String,
    /// Who waits for it.
    pub priority: Priority,
    /// When it was submitted, in Unix milliseconds.
    pub created_ms: i64,
}

/// The candidate whose turn it is. `running` counts jobs in daemons' hands by owner.
#[must_use]
pub fn choose<'a>(
    candidates: &'a [Candidate],
    running: &HashMap<String, u32>,
    now_ms: i64,
) -> Option<&'a Candidate> {
    candidates.iter().min_by_key(|candidate| {
        let share = running.get(&candidate.owner).copied().unwrap_or(0);
        (class(candidate, now_ms), share, candidate.row)
    })
}

fn class(candidate: &Candidate, now_ms: i64) -> u8 {
    let waited = now_ms.saturating_sub(candidate.created_ms);
    match candidate.priority {
        Priority::Interactive => 0,
        Priority::Automatic if waited >= millis(AUTOMATIC_WAITS) => 0,
        Priority::Automatic => 1,
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
            assert_eq!(offer.may_take(&job), expected, "{daemon:?} {job:?}");
        }
    }

    #[test]
    fn a_fact_may_be_asked_for_and_does_not_tag_its_daemon() {
        let (daemon, facts) = (org(&[]), tags(&[("engine", "tofu")]));
        let offer = offer(&daemon, &facts);
        assert!(offer.may_take(&org(&[])));
        assert!(offer.may_take(&org(&[("engine", "tofu")])));
        let other = org(&[("engine", "terraform")]);
        assert!(!offer.may_take(&other));
        let reason = obstacle(&[offer], &other).expect("an obstacle");
        assert!(reason.contains("`engine=terraform`"), "{reason}");
    }

    #[test]
    fn an_obstacle_names_the_fewest_missing_tags() {
        let job = org(&[("env", "on-prem"), ("dc", "chicago")]);
        let (plain, tagged) = (org(&[]), org(&[("env", "on-prem")]));
        let daemons = [offer(&plain, &NO_FACTS), offer(&tagged, &NO_FACTS)];
        assert_eq!(
            obstacle(&daemons, &job).as_deref(),
            Some("no connected daemon has the tag `dc=chicago`")
        );
        assert_eq!(obstacle(&[offer(&job, &NO_FACTS)], &job), None);
        assert_eq!(
            obstacle(&[], &job).as_deref(),
            Some("no daemon is connected")
        );
    }

    #[test]
    fn an_untagged_job_before_tagged_daemons_says_why_it_waits() {
        let tagged = org(&[("env", "x")]);
        let text = obstacle(&[offer(&tagged, &NO_FACTS)], &org(&[])).expect("an obstacle");
        assert!(text.contains("without `--tag`"), "{text}");
    }

    fn candidate(row: i64, owner: &str, priority: Priority) -> Candidate {
        Candidate {
            row,
            owner: owner.to_owned(),
            priority,
            created_ms: 0,
        }
    }

    fn chosen(candidates: &[Candidate], running: &[(&str, u32)], now_ms: i64) -> i64 {
        let running = running
            .iter()
            .map(|&(owner, n)| (owner.to_owned(), n))
            .collect();
        choose(candidates, &running, now_ms)
            .expect("a candidate")
            .row
    }

    #[test]
    fn interactive_goes_before_automatic_and_age_decides_last() {
        let jobs = [
            candidate(1, "a", Priority::Automatic),
            candidate(3, "b", Priority::Interactive),
            candidate(2, "c", Priority::Interactive),
        ];
        assert_eq!(chosen(&jobs, &[], 1_000), 2);
    }

    #[test]
    fn the_owner_with_the_fewest_running_jobs_goes_first() {
        let jobs = [
            candidate(1, "busy", Priority::Interactive),
            candidate(2, "idle", Priority::Interactive),
        ];
        assert_eq!(chosen(&jobs, &[("busy", 3)], 1_000), 2);
    }

    #[test]
    fn automatic_waits_ten_minutes_behind_at_most() {
        let jobs = [
            candidate(1, "a", Priority::Automatic),
            candidate(2, "a", Priority::Interactive),
        ];
        assert_eq!(chosen(&jobs, &[], 599_999), 2);
        assert_eq!(chosen(&jobs, &[], 600_000), 1);
    }
}
