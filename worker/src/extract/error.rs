//! Why a plan or state cannot be told in Coder's terms. Where Coder has words for a
//! mistake in a template, these are close to them.

use proto::v1::JobError;

/// Why a plan or state cannot be told in Coder's terms.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not the JSON that engines write.
    #[error("the {document} JSON cannot be read")]
    Json {
        /// `plan`, `state` or `modules`.
        document: &'static str,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// A format this version does not know.
    #[error("the {document} JSON has format {version:?}, which is not known here")]
    Format {
        /// `plan` or `state`.
        document: &'static str,
        /// As the document names it.
        version: String,
    },
    /// The values of a resource are not of the types its provider declares.
    #[error("the values of {address} cannot be read")]
    Values {
        /// Of the resource.
        address: String,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// Agent names become host names.
    #[error("agent name {name:?} {reason}")]
    AgentName {
        /// As the template has it.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Two agents of one workspace with one name.
    #[error("duplicate agent name: {name:?} ({first} and {second}); letter case does not count")]
    AgentNameDuplicate {
        /// Of the second one.
        name: String,
        /// Address.
        first: String,
        /// Address.
        second: String,
    },
    /// App slugs become parts of host names.
    #[error(
        "app slug {slug:?} of {address} must be lower-case letters and digits, \
         in groups joined by single hyphens"
    )]
    AppSlug {
        /// Of the app.
        address: String,
        /// As the template has it.
        slug: String,
    },
    /// Two apps with one slug.
    #[error(
        "duplicate app slug, they must be unique per template: {slug:?} ({first} and {second})"
    )]
    AppSlugDuplicate {
        /// Of both.
        slug: String,
        /// Address.
        first: String,
        /// Address.
        second: String,
    },
    /// Two `coder_metadata` for one resource.
    #[error("duplicate metadata resource: {target} has {first} and {second}")]
    MetadataDuplicate {
        /// Address of the resource.
        target: String,
        /// Address.
        first: String,
        /// Address.
        second: String,
    },
    /// Two parameters with one name.
    #[error("coder_parameter names must be unique but {name:?} appears multiple times")]
    ParameterDuplicate {
        /// Of both.
        name: String,
    },
    /// Two presets with one name.
    #[error("coder_workspace_preset names must be unique but {name:?} appears multiple times")]
    PresetDuplicate {
        /// Of both.
        name: String,
    },
    /// More than one default preset.
    #[error("a maximum of 1 coder_workspace_preset can be marked as default, but {} are: {}", names.len(), names.join(", "))]
    PresetDefaultDuplicate {
        /// Of all of them.
        names: Vec<String>,
    },
}

impl Error {
    /// The stable code, as in `docs/errors/`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Json { .. } => "EXTRACT_JSON_INVALID",
            Self::Format { .. } => "EXTRACT_FORMAT_UNSUPPORTED",
            Self::Values { .. } => "EXTRACT_VALUES_INVALID",
            Self::AgentName { .. } => "AGENT_NAME_INVALID",
            Self::AgentNameDuplicate { .. } => "AGENT_NAME_DUPLICATE",
            Self::AppSlug { .. } => "APP_SLUG_INVALID",
            Self::AppSlugDuplicate { .. } => "APP_SLUG_DUPLICATE",
            Self::MetadataDuplicate { .. } => "METADATA_DUPLICATE",
            Self::ParameterDuplicate { .. } => "PARAMETER_DUPLICATE",
            Self::PresetDuplicate { .. } => "PRESET_DUPLICATE",
            Self::PresetDefaultDuplicate { .. } => "PRESET_DEFAULT_DUPLICATE",
        }
    }
}

impl From<Error> for JobError {
    fn from(error: Error) -> Self {
        let code = error.code();
        match error {
            Error::Json { ref source, .. } | Error::Values { ref source, .. } => {
                Self::internal(code, format!("{error}: {source}"))
            }
            Error::Format { .. } => Self::internal(code, error.to_string())
                .hint("use an engine version that this version supports"),
            other => Self::user(code, other.to_string()).hint("change it in the template"),
        }
    }
}
