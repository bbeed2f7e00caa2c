//! The audit log: who did what.

use std::time::Duration;

use proto::limits;
use proto::v1;

use super::{Connection, Context, turn};
use crate::failure::{Exit, Failure};
use crate::render::{entities, tables, time};

/// The audit log: who did what, and who was refused. Admins only.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Lists calls that changed something, pulled a state or were refused, and the verdicts
    /// on jobs; newest first.
    #[command(after_help = "Examples:
  provisionerd audit list --since 24h --actor ci
  provisionerd audit list --object dev              a workspace, a template, a job's id, …
  provisionerd audit list --call DeleteKey --output json | jq -r .[].peer
  provisionerd audit list --strangers               wrong credentials")]
    List(List),
}

#[derive(Debug, clap::Args)]
struct List {
    /// Not before this time (RFC 3339), or not longer ago than this, such as `24h`.
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<i64>,
    /// Only this token, key, owner or daemon.
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// Only this call, such as `PushState`; `Verdict` for the ends of jobs.
    #[arg(long, value_name = "CALL")]
    call: Option<String>,
    /// Only what is about this: a name, or the id of a job.
    #[arg(long, value_name = "NAME")]
    object: Option<String>,
    /// Calls of nobody known instead, whatever organization they named.
    #[arg(long)]
    strangers: bool,
    /// At most so many.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let mut client = context.connect(&args.connection)?;
    let Action::List(list) = args.action;
    let mut request = v1::ListAuditRequest {
        since_ms: list.since.unwrap_or(0),
        actor: list.actor.unwrap_or_default(),
        call: list.call.unwrap_or_default(),
        object: list.object.unwrap_or_default(),
        strangers: list.strangers,
        ..v1::ListAuditRequest::default()
    };
    let mut entries = Vec::new();
    let wanted = list.limit as usize;
    loop {
        let left = u32::try_from(wanted - entries.len()).unwrap_or(u32::MAX);
        request.limit = left.min(limits::AUDIT_PAGE);
        let page = client.list_audit(request.clone()).await?;
        entries.extend(page.entries);
        if page.next == 0 || entries.len() >= wanted {
            break;
        }
        request.before = page.next;
    }
    context.documents(&entries, entities::audit, || tables::audit(&entries))?;
    Ok(Exit::Done)
}

/// A time, or how long ago it was, in Unix milliseconds.
fn since(text: &str) -> Result<i64, String> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(time.as_millisecond());
    }
    let ago: Duration = turn::duration(text).map_err(|_| {
        format!(
            "`{text}` is neither a time such as 2026-01-31T08:00:00Z nor a duration such as 24h"
        )
    })?;
    let ago = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
    Ok(time::now_ms().saturating_sub(ago))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_time_or_a_while_ago() {
        // `date -u -d 2026-11-22T15:30:00Z +%s`
        assert_eq!(since("2026-11-22T15:30:00Z"), Ok(1_795_361_400_000));
        let day = time::now_ms() - since("24h").expect("a duration");
        assert!((86_399_000..=86_401_000).contains(&day), "{day}");
        assert!(since("yesterday").is_err());
    }
}
