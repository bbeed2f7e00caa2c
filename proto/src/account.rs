//! What a person reads after a build that did not end as it should: what is in doubt, why,
//! and the exact commands that lead on. Pure; the queue writes it into the job's log, the
//! command line below the job and the workspace.

use crate::v1::{LedgerAction, UnconfirmedResource};

/// Names that the commands take.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// The workspace of the build.
    pub workspace: &'a str,
    /// The build's job, when it can be tried again.
    pub job: Option<&'a str>,
}

/// One sentence per resource in doubt: what was done to it and what is not known.
#[must_use]
pub fn doubts(unconfirmed: &[UnconfirmedResource]) -> Vec<String> {
    unconfirmed.iter().map(doubt).collect()
}

fn doubt(resource: &UnconfirmedResource) -> String {
    let id = match resource.id.as_str() {
        "" => String::new(),
        id => format!(" (id {id})"),
    };
    let reason = match resource.reason.as_str() {
        "" => "it is not proved in the saved state",
        reason => reason,
    };
    format!("{} of {}{id}: {reason}", word(resource), resource.address)
}

fn word(resource: &UnconfirmedResource) -> &'static str {
    match resource.action() {
        LedgerAction::Create => "create",
        LedgerAction::Update => "update",
        LedgerAction::Delete => "delete",
        LedgerAction::Replace => "replace",
        LedgerAction::Read => "read",
        LedgerAction::Unspecified => "change",
    }
}

/// What to do, in order, each with its command.
#[must_use]
pub fn steps(names: Names<'_>, unconfirmed: &[UnconfirmedResource]) -> Vec<String> {
    let w = names.workspace;
    let mut steps = Vec::new();
    let made: Vec<&UnconfirmedResource> = unconfirmed.iter().filter(|it| may_exist(it)).collect();
    if !made.is_empty() {
        steps.push(format!(
            "see what the state holds: provisionerd workspaces show {w}; look in the cloud for {}",
            addresses(&made)
        ));
        steps.push(format!(
            "bring in what exists and the state does not hold: provisionerd state pull {w} > \
             {w}.tfstate; in the template's directory {}; provisionerd state push {w} {w}.tfstate",
            imports(w, &made)
        ));
        steps.push("or remove it by hand, so that nothing is made twice".to_owned());
    } else if !unconfirmed.is_empty() {
        steps.push(
            "nothing can exist untracked: the next build looks at the rest again and settles it"
                .to_owned(),
        );
    }
    steps.push(match names.job {
        Some(job) => format!("go on from the saved state: provisionerd jobs retry {job}"),
        None => format!("go on from the saved state: provisionerd workspaces start {w}"),
    });
    if !made.is_empty() {
        steps.push(format!(
            "once it is gone, or never was: provisionerd workspaces forget {w} {}",
            quoted(&made)
        ));
        steps.push(format!(
            "to give it up instead: provisionerd workspaces delete {w} --forget"
        ));
    }
    steps
}

/// An object may stand in the world that no state tracks.
fn may_exist(resource: &UnconfirmedResource) -> bool {
    match resource.action() {
        LedgerAction::Create | LedgerAction::Replace | LedgerAction::Unspecified => true,
        LedgerAction::Update | LedgerAction::Delete | LedgerAction::Read => false,
    }
}

/// Addresses that a line of a person's screen can hold.
const NAMED: usize = 20;

fn addresses(resources: &[&UnconfirmedResource]) -> String {
    named(resources, str::to_owned).join(", ")
}

/// As arguments of a shell.
fn quoted(resources: &[&UnconfirmedResource]) -> String {
    named(resources, |address| format!("'{address}'")).join(" ")
}

/// Each address once, and `…` for those beyond what can be read.
fn named(resources: &[&UnconfirmedResource], write: impl Fn(&str) -> String) -> Vec<String> {
    let mut names: Vec<String> = resources.iter().map(|it| write(&it.address)).collect();
    names.dedup();
    if names.len() > NAMED {
        names.truncate(NAMED);
        names.push("…".to_owned());
    }
    names
}

/// `terraform import` for the first of them; an id that is known stands in it.
fn imports(workspace: &str, resources: &[&UnconfirmedResource]) -> String {
    let known = resources.iter().find(|it| !it.id.is_empty());
    let Some(first) = known.or_else(|| resources.first()) else {
        return String::new();
    };
    let id = match first.id.as_str() {
        "" => "ID",
        id => id,
    };
    let more = match resources.len() {
        0 | 1 => "",
        _ => " and so on for each",
    };
    format!(
        "terraform import -state={workspace}.tfstate '{}' {id}{more}",
        first.address
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(address: &str, action: LedgerAction, id: &str) -> UnconfirmedResource {
        UnconfirmedResource {
            address: address.to_owned(),
            action: action.into(),
            id: id.to_owned(),
            reason: "its creation had not ended".to_owned(),
        }
    }

    const NAMES: Names<'_> = Names {
        workspace: "dev",
        job: Some("j1"),
    };

    #[test]
    fn without_a_doubt_the_next_command_is_a_retry() {
        let expected = ["go on from the saved state: provisionerd jobs retry j1"];
        assert_eq!(steps(NAMES, &[]), expected);
    }

    #[test]
    fn what_may_exist_is_imported_with_its_id_or_forgotten() {
        let found = [
            resource("a.x", LedgerAction::Create, ""),
            resource("a.y[\"k\"]", LedgerAction::Create, "i-1"),
        ];
        let steps = steps(NAMES, &found).join("\n");
        for part in [
            "look in the cloud for a.x, a.y[\"k\"]",
            "provisionerd state pull dev > dev.tfstate",
            "terraform import -state=dev.tfstate 'a.y[\"k\"]' i-1",
            "provisionerd state push dev dev.tfstate",
            "provisionerd jobs retry j1",
            "provisionerd workspaces forget dev 'a.x' 'a.y[\"k\"]'",
            "provisionerd workspaces delete dev --forget",
        ] {
            assert!(steps.contains(part), "{part}: {steps}");
        }
        assert_eq!(
            doubts(&found)[1],
            "create of a.y[\"k\"] (id i-1): its creation had not ended"
        );
    }

    #[test]
    fn what_a_refresh_settles_needs_no_import() {
        let found = [resource("a.x", LedgerAction::Delete, "i-1")];
        let steps = steps(NAMES, &found).join("\n");
        assert!(
            !steps.contains("import") && !steps.contains("--forget"),
            "{steps}"
        );
        assert!(steps.contains("settles it"), "{steps}");
    }
}
