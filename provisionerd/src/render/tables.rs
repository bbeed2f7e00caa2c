//! Tables for people. A table without rows is one sentence instead.

use std::collections::HashMap;
use std::fmt;

use comfy_table::{ContentArrangement, TableStyle};

use proto::tags;
use proto::v1::{
    AuditEntry, Daemon, JobStatus, JobView, Key, Limit, Organization, Owner, StateRecord, Template,
    TemplateVersion, Token, UnclaimedFinish, Workspace,
};

use super::outcome::what;
use super::paint::harmless;
use super::time::{ago, now_ms, short};
use super::words;

/// A table that fits the terminal it is printed on.
pub struct Table(comfy_table::Table);

impl Table {
    /// With a line of headers.
    pub fn new(headers: &[&str]) -> Self {
        let mut table = Self::bare();
        table
            .0
            .set_header(headers.iter().map(|header| header.to_uppercase()));
        table
    }

    /// Without headers.
    pub fn bare() -> Self {
        let mut table = comfy_table::Table::new();
        table
            .load_style(TableStyle::new())
            .set_content_arrangement(ContentArrangement::Dynamic);
        Self(table)
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.0.add_row(cells);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.0.lines() {
            // The style without borders still pads both sides.
            writeln!(f, "{}", line.strip_prefix(' ').unwrap_or(&line).trim_end())?;
        }
        Ok(())
    }
}

fn filled<T, const N: usize>(
    rows: &[T],
    none: &str,
    headers: [&str; N],
    row: impl Fn(&T) -> [String; N],
) -> String {
    if rows.is_empty() {
        return format!("{none}\n");
    }
    let mut table = Table::new(&headers);
    for item in rows {
        table.row(row(item));
    }
    table.to_string()
}

/// `k=v` pairs, sorted.
pub fn tags(given: &HashMap<String, String>) -> String {
    // Every job and daemon has these two when it was given none.
    let own = given.iter().filter(|(key, value)| {
        let scope = *key == tags::SCOPE && *value == "organization";
        let nobody = *key == tags::OWNER && value.is_empty();
        !(scope || nobody)
    });
    let mut pairs: Vec<_> = own.map(|(k, v)| format!("{k}={v}")).collect();
    pairs.sort_unstable();
    harmless(&pairs.join(" "))
}

fn status(status: JobStatus) -> String {
    words::status(status).unwrap_or("-").to_owned()
}

fn dash(text: &str) -> String {
    match text {
        "" => "-".to_owned(),
        text => harmless(text),
    }
}

pub fn organizations(rows: &[Organization]) -> String {
    filled(rows, "no organizations", ["name", "created"], |row| {
        [row.name.clone(), short(row.created_at_ms)]
    })
}

pub fn owners(rows: &[Owner]) -> String {
    let headers = ["name", "email", "full name", "groups"];
    filled(rows, "no owners", headers, |row| {
        [
            row.name.clone(),
            dash(&row.email),
            dash(&row.full_name),
            dash(&row.groups.join(", ")),
        ]
    })
}

pub fn limits(rows: &[Limit]) -> String {
    let headers = ["of", "name", "running", "most"];
    filled(rows, "no limits", headers, |row| {
        [
            words::limit_of(row.of()).unwrap_or("-").to_owned(),
            harmless(&row.name),
            row.running.to_string(),
            row.most
                .map_or("no limit".to_owned(), |most| most.to_string()),
        ]
    })
}

pub fn keys(rows: &[Key]) -> String {
    let headers = ["name", "tags", "created", "last used"];
    filled(rows, "no keys", headers, |row| {
        [
            row.name.clone(),
            dash(&tags(&row.tags)),
            short(row.created_at_ms),
            row.last_used_at_ms.map_or("never".to_owned(), short),
        ]
    })
}

pub fn tokens(rows: &[Token]) -> String {
    filled(
        rows,
        "no tokens",
        ["name", "owner", "role", "created"],
        |row| {
            [
                row.name.clone(),
                row.owner.clone(),
                row.role.clone(),
                short(row.created_at_ms),
            ]
        },
    )
}

pub fn daemons(rows: &[Daemon]) -> String {
    let now = now_ms();
    let headers = [
        "name",
        "status",
        "slots",
        "tags",
        "engine",
        "sandbox",
        "transport",
        "version",
        "jobs",
        "last seen",
    ];
    filled(rows, "no daemons", headers, |row| {
        let fact = |name: &str| dash(row.facts.get(name).map_or("", String::as_str));
        [
            row.name.clone(),
            match row.drained {
                true if row.status == "offline" => "offline (drained)".to_owned(),
                _ => row.status.clone(),
            },
            format!("{}/{}", row.jobs.len(), row.slots),
            dash(&tags(&row.tags)),
            fact("engine"),
            fact("sandbox"),
            super::entities::transport(row).to_owned(),
            dash(&row.version),
            dash(&row.jobs.join(" ")),
            ago(now, row.last_seen_at_ms),
        ]
    })
}

pub fn templates(rows: &[Template]) -> String {
    let headers = [
        "name",
        "active version",
        "versions",
        "workspaces",
        "created",
    ];
    filled(rows, "no templates", headers, |row| {
        let active = row.active_version.as_ref();
        [
            row.name.clone(),
            active.map_or("-".to_owned(), |version| version.number.to_string()),
            row.versions.to_string(),
            row.workspaces.to_string(),
            short(row.created_at_ms),
        ]
    })
}

pub fn versions(rows: &[TemplateVersion]) -> String {
    let headers = ["version", "id", "import", "active", "tags", "created"];
    filled(rows, "no versions", headers, |row| {
        [
            row.number.to_string(),
            row.id.clone(),
            status(row.import_status()),
            if row.active { "yes" } else { "" }.to_owned(),
            dash(&tags(&row.tags)),
            short(row.created_at_ms),
        ]
    })
}

pub fn workspaces(rows: &[Workspace]) -> String {
    let headers = ["name", "owner", "template", "last build", "status", "notes"];
    filled(rows, "no workspaces", headers, |row| {
        let build = row.latest_build.as_ref();
        let transition = build.and_then(|build| words::transition(build.transition()));
        [
            row.name.clone(),
            row.owner.clone(),
            row.template.clone(),
            transition.unwrap_or("-").to_owned(),
            build.map_or("-".to_owned(), |build| status(build.status())),
            notes(row),
        ]
    })
}

/// What a person should know of a workspace besides its last build.
pub fn notes(workspace: &Workspace) -> String {
    let mut notes = Vec::new();
    if workspace.deleted {
        notes.push("deleted".to_owned());
    }
    if workspace.state_conflict {
        notes.push("a late state waits: state adopt or discard".to_owned());
    }
    match workspace.unconfirmed.len() {
        0 => {}
        1 => notes.push("1 unconfirmed resource".to_owned()),
        count => notes.push(format!("{count} unconfirmed resources")),
    }
    notes.join(", ")
}

pub fn jobs(rows: &[JobView]) -> String {
    let headers = [
        "id",
        "kind",
        "status",
        "template",
        "workspace",
        "daemon",
        "created",
    ];
    filled(rows, "no jobs", headers, |row| {
        let name = |text: &Option<String>| dash(text.as_deref().unwrap_or(""));
        let mut status = status(row.status());
        if let Some(error) = &row.error {
            status = format!("{status} {}", error.code);
        }
        [
            row.id.clone(),
            what(row),
            status,
            name(&row.template),
            name(&row.workspace),
            name(&row.daemon),
            short(row.created_at_ms),
        ]
    })
}

pub fn unclaimed(rows: &[UnclaimedFinish]) -> String {
    let headers = [
        "id", "job", "daemon", "outcome", "received", "state", "reason",
    ];
    filled(rows, "no unclaimed endings", headers, |row| {
        let state = row.state.as_ref();
        [
            row.id.to_string(),
            dash(&row.job_id),
            dash(&row.daemon),
            words::outcome(row.outcome()).unwrap_or("-").to_owned(),
            short(row.received_at_ms),
            state.map_or("-".to_owned(), |state| format!("serial {}", state.serial)),
            row.reason.clone(),
        ]
    })
}

pub fn states(rows: &[StateRecord]) -> String {
    let headers = ["id", "source", "serial", "size", "job", "created", "notes"];
    filled(rows, "no states", headers, |row| {
        let notes = match (row.current, row.waiting) {
            (true, _) => "current",
            (false, true) => "waits for adopt or discard",
            (false, false) => "",
        };
        [
            row.id.clone(),
            row.source.clone(),
            row.serial.to_string(),
            row.blob.as_ref().map_or(0, |blob| blob.size).to_string(),
            dash(row.job_id.as_deref().unwrap_or("")),
            short(row.created_at_ms),
            notes.to_owned(),
        ]
    })
}

pub fn audit(rows: &[AuditEntry]) -> String {
    let headers = ["time", "actor", "for", "call", "object", "from", "outcome"];
    filled(rows, "nothing is noted", headers, |row| {
        let outcome = match row.times {
            0 | 1 => harmless(&row.outcome),
            times => format!("{} ×{times}", harmless(&row.outcome)),
        };
        let actor = match row.actor.as_str() {
            "" => &row.actor_kind,
            name => name,
        };
        [
            short(row.at_ms),
            harmless(actor),
            dash(&row.owner),
            dash(&row.call),
            dash(&row.object),
            dash(&row.peer),
            outcome,
        ]
    })
}
