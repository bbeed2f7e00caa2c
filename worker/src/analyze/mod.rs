//! Reads a template directory without an engine: variables, workspace tags, defaults of
//! parameters, README, and what local values refer to.
//!
//! What it finds are hints; the engine decides what is valid. A file that does not parse
//! is left out with a warning, unless it holds workspace tags: those choose where a job
//! runs and are not lost quietly.

mod document;
mod error;
mod files;
mod literal;
mod locals;
mod parameters;
mod tags;
mod variables;

#[cfg(test)]
mod tests;

pub use error::Error;

use std::collections::HashSet;
use std::path::Path;

use proto::limits::{CONFIGURATION, CONFIGURATION_FILE};
use proto::v1::{ParameterValue, TemplateVariable, WorkspaceTag};

use crate::extract::{self, LocalHint};
use document::Declaration;
use files::{Content, Directory};

/// Where init notes the modules it installed.
const MODULES: &str = ".terraform/modules/modules.json";

/// What a template's own files say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Analysis {
    /// Variables of the root module, by file and line.
    pub variables: Vec<TemplateVariable>,
    /// All `coder_workspace_tags` data sources of the root module, in order.
    pub workspace_tags: Vec<WorkspaceTag>,
    /// Parameters of the root module whose name and default are written out.
    pub parameters: Vec<ParameterValue>,
    /// README.md, empty when there is none.
    pub readme: Vec<u8>,
    /// Local values of the root module and, after init, of the modules it calls.
    pub locals: Vec<LocalHint>,
    /// Files that were left out, and why.
    pub warnings: Vec<String>,
}

/// Analyses the root module in `dir`. Run it again after init to know the locals of
/// child modules. Blocks: call it off the async threads.
pub fn directory(dir: &Path) -> Result<Analysis, Error> {
    let root = Directory::open(dir)?;
    let mut survey = Survey {
        left: CONFIGURATION,
        warnings: Vec::new(),
    };
    let files = survey.module(&root, "")?;
    let workspace_tags = tags::collect(&files)?;
    let readme = survey.readme(&root)?;
    let mut locals = locals::collect("", &files);
    survey.child_locals(&root, &mut locals);
    Ok(Analysis {
        variables: variables::collect(&files),
        workspace_tags,
        parameters: parameters::collect(&files),
        readme,
        locals,
        warnings: survey.warnings,
    })
}

/// Reads the modules of one template.
struct Survey {
    /// Bytes of configuration that may still be held in memory.
    left: u64,
    warnings: Vec<String>,
}

impl Survey {
    /// The files of one module with their declarations, overrides last.
    fn module(
        &mut self,
        directory: &Directory,
        shown: &str,
    ) -> Result<Vec<(String, Vec<Declaration>)>, Error> {
        let names = directory.configuration()?;
        let replaced = replaced_by_tofu(&names);
        let mut files = Vec::new();
        for name in names.into_iter().filter(|name| !replaced.contains(name)) {
            let shown = format!("{shown}{name}");
            match directory.read(&name)? {
                Content::Absent => {}
                Content::TooLarge => self.warnings.push(format!(
                    "{shown} was not analysed: more than {CONFIGURATION_FILE} bytes"
                )),
                Content::Bytes(content) => match self.declarations(&name, &content) {
                    Ok(declarations) => files.push((shown, declarations)),
                    Err(unreadable) => self.left_out(&shown, &content, &unreadable)?,
                },
            }
        }
        files.sort_by_key(|(name, _)| is_override(name));
        Ok(files)
    }

    fn declarations(
        &mut self,
        name: &str,
        content: &[u8],
    ) -> Result<Vec<Declaration>, document::Unreadable> {
        self.left = self.left.saturating_sub(content.len() as u64);
        if self.left == 0 {
            return Err(document::Unreadable {
                line: 1,
                reason: format!(
                    "the template has more than {CONFIGURATION} bytes of configuration"
                ),
            });
        }
        document::read(name, content)
    }

    fn left_out(
        &mut self,
        shown: &str,
        content: &[u8],
        unreadable: &document::Unreadable,
    ) -> Result<(), Error> {
        let (line, reason) = (unreadable.line, &unreadable.reason);
        let kind = tags::KIND.as_bytes();
        if content.windows(kind.len()).any(|window| window == kind) {
            return Err(Error::WorkspaceTag {
                file: shown.to_owned(),
                line,
                tag: "block".to_owned(),
                reason: format!("the file cannot be read: {reason}"),
            });
        }
        self.warnings
            .push(format!("{shown}:{line} was not analysed: {reason}"));
        Ok(())
    }

    fn readme(&mut self, root: &Directory) -> Result<Vec<u8>, Error> {
        match root.read("README.md")? {
            Content::Absent => Ok(Vec::new()),
            Content::Bytes(bytes) => Ok(bytes),
            Content::TooLarge => {
                self.warnings.push(format!(
                    "README.md was left out: more than {CONFIGURATION_FILE} bytes"
                ));
                Ok(Vec::new())
            }
        }
    }

    /// Adds the locals of installed modules. The engine says what is wrong in those.
    fn child_locals(&mut self, root: &Directory, locals: &mut Vec<LocalHint>) {
        let Ok(Content::Bytes(json)) = root.read(MODULES) else {
            return;
        };
        let Ok(modules) = extract::modules(&json) else {
            self.warnings.push(format!("{MODULES} cannot be read"));
            return;
        };
        for module in modules {
            // A module may lie where only the engine can reach; then it brings no hints.
            if let Ok(directory) = root.below(&module.dir)
                && let Ok(files) = self.module(&directory, &format!("{}/", module.dir))
            {
                locals.extend(locals::collect(&module.key, &files));
            }
        }
    }
}

/// `OpenTofu` reads `a.tofu` instead of `a.tf`, Terraform reads only `a.tf`. Authors who
/// have both declare the same in both.
fn replaced_by_tofu(names: &[String]) -> HashSet<String> {
    names
        .iter()
        .filter_map(|name| {
            let stem = name.strip_suffix(".tofu");
            let json = name.strip_suffix(".tofu.json");
            stem.map(|stem| format!("{stem}.tf"))
                .or_else(|| json.map(|stem| format!("{stem}.tf.json")))
        })
        .collect()
}

fn is_override(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default();
    stem == "override" || stem.ends_with("_override")
}
