//! Who calls: a daemon by its provisioner key and identity, a client by its token and
//! organization. Checked at every call, so a deleted credential ends at once.
//!
//! Credentials are 256 random bits, stored as SHA-256 and looked up by that hash: what
//! the lookup's timing tells is about the hash, not about the credential.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use proto::credential::{Credential, hash};
use proto::secret::Secret;
use proto::tags::Allowed;
use tonic::metadata::MetadataMap;
use tracing::Span;

use crate::names;
use crate::refusal::{Refusal, shown};
use crate::store::Store;
use crate::store::model::{DaemonRef, KeyRow, Role, TokenRow};
use crate::trace;

/// The organization of a client that names none.
pub const DEFAULT_ORGANIZATION: &str = "default";

const AUTHORIZATION: &str = "authorization";
const DAEMON_NAME: &str = "x-daemon-name";
const DAEMON_INSTANCE: &str = "x-daemon-instance";
const ORGANIZATION: &str = "x-organization";

/// A daemon whose key was found.
#[derive(Debug, Clone)]
pub struct Daemon {
    /// Who it is.
    pub id: DaemonRef,
    /// Tags it may have.
    pub allowed: Allowed,
    secret: Secret,
}

/// A client whose token was found.
#[derive(Debug, Clone)]
pub struct Client {
    /// The organization it acts in.
    pub organization: String,
    /// Whose requests it carries.
    pub owner: String,
    /// What it may do.
    pub role: Role,
    /// The one organization its token may name; `None` for all.
    pub bound_to: Option<String>,
    /// W3C trace context of the request.
    trace_context: HashMap<String, String>,
    /// Open from a submit to the end of its request.
    submitting: Arc<OnceLock<Span>>,
}

impl Daemon {
    /// Finds the key and reads the identity of a daemon's request.
    ///
    /// # Errors
    /// Unauthenticated, or an identity that is no name.
    pub async fn authenticate<S: Store>(
        store: &S,
        metadata: &MetadataMap,
    ) -> Result<Self, Refusal> {
        let secret = bearer(metadata, Credential::Key)?;
        let key = find_key(store, &secret).await?;
        let name = text(metadata, DAEMON_NAME)?.unwrap_or_default();
        let instance = text(metadata, DAEMON_INSTANCE)?.unwrap_or_default();
        names::check("daemon", name)?;
        names::check("daemon instance", instance)?;
        let allowed = Allowed::new(key.tags)
            .map_err(|error| Refusal::internal("KEY_TAGS", error.to_string()))?;
        Ok(Self {
            id: DaemonRef {
                organization: key.organization,
                key: key.name,
                name: name.to_owned(),
                instance: instance.to_owned(),
            },
            allowed,
            secret,
        })
    }

    /// Whether the key still exists; asked again at every claim.
    ///
    /// # Errors
    /// Unauthenticated when it was deleted.
    pub async fn still_allowed<S: Store>(&self, store: &S) -> Result<(), Refusal> {
        find_key(store, &self.secret).await.map(drop)
    }
}

/// A mistyped organization would look like an empty one.
async fn must_exist<S: Store>(store: &S, organization: &str) -> Result<(), Refusal> {
    let known = store.list_organizations().await?;
    if known.iter().any(|known| known.name == organization) {
        return Ok(());
    }
    Err(Refusal::not_found("organization", organization)
        .hint("`provisionerd organizations list` shows those that exist"))
}

impl Client {
    /// Finds the token and the organization of a client's request.
    ///
    /// # Errors
    /// Unauthenticated, or an organization that the token may not name.
    pub async fn authenticate<S: Store>(
        store: &S,
        metadata: &MetadataMap,
    ) -> Result<Self, Refusal> {
        let secret = bearer(metadata, Credential::Token)?;
        let found = store.find_token(hash(&secret)).await?;
        let TokenRow {
            organization: bound_to,
            owner,
            role,
            ..
        } = found.ok_or_else(|| wrong(Credential::Token))?;
        let named = text(metadata, ORGANIZATION)?.filter(|name| !name.is_empty());
        let organization = named
            .or(bound_to.as_deref())
            .unwrap_or(DEFAULT_ORGANIZATION)
            .to_owned();
        if bound_to.as_ref().is_some_and(|only| *only != organization) {
            let message = format!("this token may not act in `{}`", shown(&organization));
            return Err(Refusal::not_allowed("ORGANIZATION_NOT_ALLOWED", message));
        }
        if organization != DEFAULT_ORGANIZATION && bound_to.is_none() {
            must_exist(store, &organization).await?;
        }
        Ok(Self {
            organization,
            owner,
            role,
            bound_to,
            trace_context: trace::of_request(metadata),
            submitting: Arc::default(),
        })
    }

    /// This request submits a job: the trace context that the job carries.
    #[must_use]
    pub fn submits(&self) -> HashMap<String, String> {
        let (span, context) = trace::submit(&self.trace_context);
        // Nothing submits twice in one request; a second span would end at once.
        let _ = self.submitting.set(span);
        context
    }

    /// Refuses members.
    ///
    /// # Errors
    /// Not allowed, naming what was asked.
    pub fn must_be_admin(&self, to: &str) -> Result<(), Refusal> {
        match self.role {
            Role::Admin => Ok(()),
            Role::Member => Err(Refusal::not_allowed(
                "ADMIN_ONLY",
                format!("only an admin may {to}"),
            )
            .hint("ask an admin, or use a token with --role admin")),
        }
    }

    /// The owner a request is for: the caller's own unless it names another, which
    /// only an admin may.
    ///
    /// # Errors
    /// Not allowed for a member who names another owner; an owner that is no name.
    pub fn acting_for(&self, owner: &str) -> Result<String, Refusal> {
        if owner.is_empty() || owner == self.owner {
            return Ok(self.owner.clone());
        }
        self.must_be_admin("act for another owner")?;
        names::check("owner", owner)?;
        Ok(owner.to_owned())
    }

    /// Whether things of `owner` are shown to this caller.
    #[must_use]
    pub fn may_see(&self, owner: &str) -> bool {
        match self.role {
            Role::Admin => true,
            Role::Member => self.owner == owner,
        }
    }
}

async fn find_key<S: Store>(store: &S, secret: &Secret) -> Result<KeyRow, Refusal> {
    let found = store.find_key(hash(secret)).await?;
    found.ok_or_else(|| wrong(Credential::Key))
}

fn bearer(metadata: &MetadataMap, expected: Credential) -> Result<Secret, Refusal> {
    let value = text(metadata, AUTHORIZATION)?
        .and_then(|value| value.strip_prefix("Bearer "))
        .map(str::trim)
        .filter(|value| !value.is_empty())
        .ok_or_else(|| {
            let message = format!("the request carries no {}", word(expected));
            Refusal::unauthenticated("NO_CREDENTIAL", message).hint(where_from(expected))
        })?;
    let other = match expected {
        Credential::Key => Credential::Token,
        Credential::Token => Credential::Key,
    };
    if value.starts_with(other.prefix()) {
        let message = format!("this is a {}, not a {}", word(other), word(expected));
        return Err(
            Refusal::unauthenticated("WRONG_CREDENTIAL", message).hint(where_from(expected))
        );
    }
    Ok(Secret::from(value.to_owned()))
}

fn wrong(expected: Credential) -> Refusal {
    let message = format!("the {} is not known, or was deleted", word(expected));
    Refusal::unauthenticated("WRONG_CREDENTIAL", message).hint(where_from(expected))
}

fn word(credential: Credential) -> &'static str {
    match credential {
        Credential::Key => "provisioner key",
        Credential::Token => "client token",
    }
}

fn where_from(credential: Credential) -> &'static str {
    match credential {
        Credential::Key => "make one with `provisionerd keys create` and give it by --key-file",
        Credential::Token => {
            "make one with `provisionerd tokens create` and give it by --token-file or PROVISIONERD_TOKEN"
        }
    }
}

fn text<'a>(metadata: &'a MetadataMap, key: &'static str) -> Result<Option<&'a str>, Refusal> {
    metadata
        .get(key)
        .map(|value| {
            value.to_str().map_err(|_| {
                Refusal::invalid("INVALID_METADATA", format!("`{key}` is not plain text"))
            })
        })
        .transpose()
}
