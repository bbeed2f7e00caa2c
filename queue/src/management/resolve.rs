//! From what a client asked to what a job is: parameters checked and completed, tags
//! evaluated, before anything is stored. All problems come in one answer.

use std::time::Duration;

use proto::limits;
use proto::parameters::{Check, Resolve};
use proto::tags::Tags;
use proto::v1::{self, ParameterValue};
use proto::workspace_tags::{self, Values};

use crate::auth::Client;
use crate::refusal::{Refusal, shown};
use crate::shared::Shared;
use crate::store::Store;
use crate::store::model::{Deadlines, Submission, Submitted, VersionRow, VersionSelector};
use crate::words::Priority;

/// What a build or dry run of a version is asked to be.
pub struct Wish<'a> {
    pub version: &'a VersionRow,
    pub given: &'a [ParameterValue],
    pub previous: &'a [ParameterValue],
    pub check: Check,
    pub owner: &'a str,
    pub turn: Turn,
}

/// What a client asks of the queue for a job, as it travels.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    pub priority: i32,
    pub queue_deadline_ms: u64,
    pub run_deadline_ms: u64,
}

/// The fields that every request which submits a job has.
macro_rules! turn {
    ($request:expr) => {
        $crate::management::resolve::Turn {
            priority: $request.priority,
            queue_deadline_ms: $request.queue_deadline_ms,
            run_deadline_ms: $request.run_deadline_ms,
        }
    };
}
pub(super) use turn;

/// Resolved values and the job's submission.
pub fn resolve(
    client: &Client,
    wish: &Wish<'_>,
) -> Result<(Vec<ParameterValue>, Submission), Refusal> {
    let parameters = parameters(wish)?;
    let tags = tags(wish, &parameters)?;
    let submission = submission(client, wish.owner, wish.turn, tags)?;
    Ok((parameters, submission))
}

/// What every submitted job has.
pub fn submission(
    client: &Client,
    owner: &str,
    turn: Turn,
    tags: Tags,
) -> Result<Submission, Refusal> {
    Ok(Submission {
        owner: owner.to_owned(),
        priority: Priority::from_wire(turn.priority).unwrap_or(Priority::Interactive),
        tags: for_owner(tags, owner)?.into_pairs(),
        trace_context: client.submits(),
        deadlines: Deadlines {
            queue: deadline(turn.queue_deadline_ms)?,
            run: deadline(turn.run_deadline_ms)?,
        },
    })
}

/// None for 0.
fn deadline(ms: u64) -> Result<Option<Duration>, Refusal> {
    if ms > limits::DEADLINE_MS {
        let message = format!(
            "a deadline of {ms} ms is longer than the limit of {} ms",
            limits::DEADLINE_MS
        );
        return Err(Refusal::invalid("INVALID_REQUEST", message));
    }
    Ok((ms > 0).then(|| Duration::from_millis(ms)))
}

fn parameters(wish: &Wish<'_>) -> Result<Vec<ParameterValue>, Refusal> {
    let facts = wish.version.facts.as_ref();
    let rules = facts
        .and_then(|facts| facts.start.as_ref())
        .map_or(&[][..], |start| start.parameters.as_slice());
    let resolve = Resolve {
        rules,
        given: wish.given,
        previous: wish.previous,
        check: wish.check,
    };
    resolve.resolve().map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Refusal::invalid("PARAMETER_INVALID", lines.join("; ")).hint(format!(
            "see `provisionerd templates show {}`, then give --parameter NAME=VALUE",
            wish.version.template
        ))
    })
}

/// Tags of the version with the evaluated workspace tags laid over them.
fn tags(wish: &Wish<'_>, parameters: &[ParameterValue]) -> Result<Tags, Refusal> {
    let version = Tags::new(wish.version.tags.clone()).map_err(bad_tags)?;
    let Some(facts) = &wish.version.facts else {
        return Ok(version);
    };
    let values = Values {
        variables: &facts.variables,
        variable_values: &wish.version.variables,
        parameters,
    };
    let over = workspace_tags::evaluate(&facts.workspace_tags, values)
        .map_err(|error| Refusal::invalid("WORKSPACE_TAGS", error.to_string()))?;
    version.overlaid(over).map_err(bad_tags)
}

/// A job of scope `user` is its owner's, whatever the template says.
pub fn for_owner(tags: Tags, owner: &str) -> Result<Tags, Refusal> {
    if tags.get(proto::tags::SCOPE) != Some("user") {
        return Ok(tags);
    }
    tags.overlaid([(proto::tags::OWNER, owner)])
        .map_err(bad_tags)
}

#[allow(clippy::needless_pass_by_value)] // for `map_err`
pub fn bad_tags(error: proto::tags::Error) -> Refusal {
    Refusal::invalid("INVALID_TAGS", error.to_string())
}

/// A version by id or number; nothing means the active one.
pub fn selector(version: &str) -> Result<VersionSelector, Refusal> {
    if version.is_empty() {
        return Ok(VersionSelector::Active);
    }
    if let Ok(number) = version.parse() {
        return Ok(VersionSelector::Number(number));
    }
    version.parse().map(VersionSelector::Id).map_err(|_| {
        let message = format!(
            "`{}` is neither the id nor the number of a version",
            shown(version)
        );
        Refusal::invalid("INVALID_ID", message)
            .hint("`provisionerd templates versions NAME` shows both")
    })
}

/// The answer to a submitted build.
pub async fn build_reply<S: Store>(shared: &Shared<S>, submitted: Submitted) -> v1::BuildReply {
    let (workspace, build) = (submitted.workspace.clone(), submitted.build.clone());
    v1::BuildReply {
        workspace,
        build,
        job: Some(foreseen(shared, submitted).await),
    }
}

/// A job just submitted, with what is foreseen of it.
pub async fn foreseen<S: Store>(shared: &Shared<S>, submitted: Submitted) -> v1::JobView {
    let mut view = submitted.job;
    let place = submitted.place.as_ref();
    shared.forecasts.tell(&shared.store, &mut view, place).await;
    view
}
