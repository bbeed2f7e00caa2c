//! Reading a template before it has a job: only the archive and the template's own files.

use proto::v1::analysis::Result as Answer;
use proto::v1::{Analysis, Extraction, JobError, Limits, RichParameter, TemplateFacts};

use super::files;
use super::session::blocking;
use crate::analyze;
use crate::archive;
use crate::job_dir::JobDir;

/// Unpacks `keep/archive` of `dir` within `limits` and reads what it holds.
pub(super) async fn run(dir: JobDir, limits: Option<Limits>) -> Analysis {
    let limits = limits.unwrap_or_else(proto::limits::for_worker);
    let answer = blocking(move || read(&dir, &limits)).await;
    Analysis {
        result: Some(answer.unwrap_or_else(Answer::Unreadable)),
    }
}

fn read(dir: &JobDir, limits: &Limits) -> Answer {
    let archive = match files::open(&dir.keep(), "archive") {
        Ok(archive) => archive,
        Err(error) => return Answer::Unreadable(error.into()),
    };
    if let Err(error) = archive::unpack(archive, &dir.work(), limits) {
        // A disk that failed us says nothing about the archive.
        let ours = matches!(
            error,
            archive::Error::Read { .. } | archive::Error::Write { .. }
        );
        let error = JobError::from(error);
        return if ours {
            Answer::Unreadable(error)
        } else {
            Answer::Refused(error)
        };
    }
    match analyze::directory(&dir.work()) {
        Ok(analysis) => Answer::Facts(facts(analysis)),
        Err(error) => Answer::Unreadable(error.into()),
    }
}

fn facts(analysis: analyze::Analysis) -> TemplateFacts {
    let parameters = analysis.parameters.into_iter();
    let parameters = parameters.map(|parameter| RichParameter {
        name: parameter.name,
        default_value: parameter.value,
        ..RichParameter::default()
    });
    TemplateFacts {
        variables: analysis.variables,
        workspace_tags: analysis.workspace_tags,
        readme: analysis.readme,
        start: Some(Extraction {
            parameters: parameters.collect(),
            ..Extraction::default()
        }),
        ..TemplateFacts::default()
    }
}
