//! The template of a quickstart: built in, or a directory; imported only when its files
//! have changed since the last run.

use std::path::Path;

use proto::v1;

use super::{NAME, Quickstart};
use crate::cli::{self, Context, PushSource, pack};
use crate::failure::Failure;

/// Runs on any machine with an engine; needs no provider.
const BUILT_IN: [(&str, &str); 2] = [
    (
        "README.md",
        include_str!("../../../testdata/templates/quickstart/README.md"),
    ),
    (
        "main.tf",
        include_str!("../../../testdata/templates/quickstart/main.tf"),
    ),
];

/// What importing came to.
pub enum Import {
    /// The active version holds the same files.
    Known,
    /// A job that imports them.
    Started(Box<v1::JobView>),
}

/// Name of the template and its workspace.
///
/// # Errors
/// A directory that does not exist or whose name holds nothing usable.
pub fn name(directory: Option<&Path>) -> Result<String, Failure> {
    let Some(directory) = directory else {
        return Ok(NAME.to_owned());
    };
    let full = directory
        .canonicalize()
        .map_err(|error| Failure::file("read", directory, &error))?;
    let last = full.file_name().unwrap_or_default().to_string_lossy();
    let name = cleaned(&last);
    if name.is_empty() {
        return Err(Failure::usage(format!(
            "{} has no name to call a template by",
            full.display()
        )));
    }
    Ok(name)
}

/// Lower case letters, digits and single dashes, not longer than a name may be.
fn cleaned(text: &str) -> String {
    let mut name = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            name.push(c.to_ascii_lowercase());
        } else if !name.ends_with('-') && !name.is_empty() {
            name.push('-');
        }
    }
    name.truncate(32);
    name.trim_end_matches('-').to_owned()
}

/// The template's archive.
///
/// # Errors
/// The directory cannot be packed.
pub async fn pack(context: &Context, directory: Option<&Path>) -> Result<pack::Archive, Failure> {
    match directory {
        Some(directory) => cli::pack_directory(context, directory).await,
        None => pack::built_in(&BUILT_IN),
    }
}

/// Starts the import unless nothing has changed.
///
/// # Errors
/// The queue refuses it.
pub async fn import(quickstart: &mut Quickstart<'_>) -> Result<Import, Failure> {
    let Some(archive) = quickstart.archive.take() else {
        return Ok(Import::Known);
    };
    let request = v1::GetTemplateRequest {
        name: quickstart.name.clone(),
    };
    let active = match quickstart.client.get_template(request).await {
        Ok(template) => template.active_version,
        Err(failure) if failure.code.ends_with("NOT_FOUND") => None,
        Err(failure) => return Err(failure),
    };
    let is_same = active
        .as_ref()
        .is_some_and(|version| cli::is_same(version.archive.as_ref(), &archive.digest));
    // Sensitive values do not come back from the queue, so they cannot be compared.
    if is_same && quickstart.options.variables.is_empty() {
        return Ok(Import::Known);
    }
    let source = PushSource {
        name: quickstart.name.clone(),
        tags: std::collections::HashMap::new(),
        variables: quickstart.options.variables.clone(),
        engine: String::new(),
        turn: None,
    };
    let reply =
        cli::push_template(quickstart.context, &mut quickstart.client, archive, source).await?;
    Ok(Import::Started(Box::new(reply.job.unwrap_or_default())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_gives_a_name_that_the_queue_accepts() {
        assert_eq!(cleaned("My Template (v2)"), "my-template-v2");
        assert_eq!(cleaned("__x__"), "x");
        assert_eq!(cleaned(&"a".repeat(80)).len(), 32);
        assert_eq!(name(None).expect("built in"), "quickstart");
    }

    #[test]
    fn the_built_in_template_packs_to_the_same_digest_each_time() {
        let one = pack::built_in(&BUILT_IN).expect("packs");
        let two = pack::built_in(&BUILT_IN).expect("packs");
        assert_eq!(one.digest, two.digest);
    }
}
