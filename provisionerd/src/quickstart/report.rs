//! What a quickstart says at its end: what exists, where the time went, what is next.

use proto::v1;
use serde_json::json;

use super::{Quickstart, Stay};
use crate::cli;
use crate::failure::{Exit, Failure};
use crate::render::paint::Paint;
use crate::render::{entities, job, outcome};

impl Quickstart<'_> {
    pub(super) fn failed(&self, view: &v1::JobView) -> Result<Exit, Failure> {
        if self.context.is_json() {
            self.context
                .document(&json!({ "job": job::document(view) }), String::new)?;
        }
        eprintln!("{}", outcome::verdict(view, Paint::stderr()));
        Ok(Exit::Failed)
    }

    pub(super) fn show(&self, reply: &v1::BuildReply, view: &v1::JobView) -> Result<(), Failure> {
        let document = json!({
            "url": self.url,
            "data_dir": self.options.data_dir,
            "workspace": reply.workspace.as_ref().map(entities::workspace),
            "build": reply.build.as_ref().map(entities::build),
            "job": job::document(view),
        });
        let found = view.extraction.as_ref();
        let resources = found.map_or(&[][..], |found| &found.resources);
        self.context.document(&document, || {
            format!(
                "\nworkspace {} is up\n\n{}\n{}\n{}",
                self.name,
                outcome::resources(resources),
                outcome::timeline(view),
                self.next_steps()
            )
        })
    }

    fn next_steps(&self) -> String {
        let data = self.options.data_dir.display();
        let name = &self.name;
        let program = cli::own_name();
        match self.options.stay {
            Stay::Keep => format!(
                "Queue and daemon serve until ^C. In another terminal:\n\
                 \x20 export PROVISIONERD_URL={} PROVISIONERD_DATA_DIR='{data}'\n\
                 \x20 {program} workspaces show {name}\n\
                 \x20 {program} workspaces stop {name}\n\
                 \x20 {program} state pull {name}\n",
                self.url
            ),
            Stay::Leave => {
                let directory = match &self.options.directory {
                    Some(directory) => format!(" {}", directory.display()),
                    None => String::new(),
                };
                format!(
                    "Everything is kept in {data}. Next:\n\
                     \x20 the same command again updates the workspace;\n\
                     \x20 with --keep queue and daemon go on serving, for the other commands;\n\
                     \x20 with a directory it builds a template of yours:\n\
                     \x20   {program} quickstart{directory} --keep\n\
                     \x20   {program} quickstart ./my-template\n\
                     \x20 queue and daemons as processes of their own:\n\
                     \x20   {program} serve --help\n\
                     \x20   {program} start --help\n"
                )
            }
        }
    }
}
