//! Who calls: a daemon by its provisioner key and identity, a client by its token and
//! organization. Checked at every call, by what the queue knows of credentials
//! ([`credentials`](crate::credentials)), so a deleted one ends at once, and what is open
//! with it too: a stream that lasts watches its [`Live`].
//!
//! Credentials are 256 random bits, stored as SHA-256 and looked up by that hash: what
//! the lookup's timing tells is about the hash, not about the credential.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use proto::credential::{Credential, hash};
use proto::ids::JobId;
use proto::secret::Secret;
use tonic::metadata::MetadataMap;
use tracing::Span;

use crate::credentials::Live;
use crate::listen::conn::Peer;
use crate::names;
use crate::refusal::{Refusal, shown};
use crate::shared::Shared;
use crate::store::model::{Act, Actor, DaemonRef, Holder, KeyRow, Role, SecretHash, TokenRow};
use crate::store::{self, Store};
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
    /// Its key, and the tags that it may have by it.
    pub key: Arc<KeyRow>,
    /// Hash of its key; compared again at every claim.
    pub key_hash: SecretHash,
    /// Over when its key is deleted.
    pub live: Live,
    /// Where it called from.
    peer: IpAddr,
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
    /// Over when its token is deleted.
    pub live: Live,
    /// The token's name.
    token: String,
    /// Where it called from.
    peer: IpAddr,
    /// What this request is about to do, when that is to be noted.
    act: Option<Arc<Act>>,
    /// W3C trace context of the request.
    trace_context: HashMap<String, String>,
    /// Open from a submit to the end of its request.
    submitting: Arc<OnceLock<Span>>,
}

impl Daemon {
    /// What who comes after its key was deleted is told.
    #[must_use]
    pub fn deleted() -> Refusal {
        wrong(Credential::Key)
    }

    /// Finds the key and reads the identity of a daemon's request.
    ///
    /// # Errors
    /// Unauthenticated, or an identity that is no name.
    pub async fn authenticate<S: Store>(
        shared: &Shared<S>,
        metadata: &MetadataMap,
        peer: &Peer,
    ) -> Result<Self, Refusal> {
        let key_hash = hash(&bearer(metadata, Credential::Key)?);
        let found = shared.credentials.key(&shared.store, key_hash).await?;
        let (key, live) = found.ok_or_else(|| wrong(Credential::Key))?;
        let name = text(metadata, DAEMON_NAME)?.unwrap_or_default();
        let instance = text(metadata, DAEMON_INSTANCE)?.unwrap_or_default();
        names::check("daemon", name)?;
        names::check("daemon instance", instance)?;
        Ok(Self {
            id: DaemonRef {
                organization: key.organization.clone(),
                key: key.name.clone(),
                name: name.to_owned(),
                instance: instance.to_owned(),
            },
            key,
            key_hash,
            live,
            peer: peer.exact(),
        })
    }

    /// What it is about to do with a job.
    #[must_use]
    pub fn doing(&self, call: &'static str, job: JobId) -> Arc<Act> {
        Arc::new(Act {
            organization: self.id.organization.clone(),
            actor: Actor::Key {
                name: self.id.key.clone(),
                daemon: self.id.name.clone(),
            },
            call: Cow::Borrowed(call),
            object: job.to_string(),
            peer: self.peer.to_string(),
        })
    }
}

/// The store did not find the key at a claim: it was deleted since the call began.
pub fn key_deleted(error: store::Error) -> Refusal {
    match error {
        store::Error::NotFound {
            what: "provisioner key",
            ..
        } => wrong(Credential::Key),
        error => error.into(),
    }
}

/// A mistyped organization would look like an empty one.
async fn must_exist<S: Store>(shared: &Shared<S>, organization: &str) -> Result<(), Refusal> {
    let known = shared.credentials.organization(&shared.store, organization);
    if known.await? {
        return Ok(());
    }
    Err(Refusal::not_found("organization", organization)
        .hint("`provisionerd organizations list` shows those that exist"))
}

impl Client {
    /// What who comes after its token was deleted is told.
    #[must_use]
    pub fn deleted() -> Refusal {
        wrong(Credential::Token)
    }

    /// Finds the token and the organization of a client's request.
    ///
    /// # Errors
    /// Unauthenticated, or an organization that the token may not name.
    pub async fn authenticate<S: Store>(
        shared: &Shared<S>,
        metadata: &MetadataMap,
        peer: &Peer,
    ) -> Result<Self, Refusal> {
        let hash = hash(&bearer(metadata, Credential::Token)?);
        let found = shared.credentials.token(&shared.store, hash).await?;
        let (token, live) = found.ok_or_else(|| wrong(Credential::Token))?;
        let bound_to = token.organization.clone();
        let named = text(metadata, ORGANIZATION)?.filter(|name| !name.is_empty());
        let organization = named
            .or(bound_to.as_deref())
            .unwrap_or(DEFAULT_ORGANIZATION)
            .to_owned();
        if bound_to.as_ref().is_some_and(|only| *only != organization) {
            let message = format!("this token may not act in `{}`", shown(&organization));
            let home = bound_to.unwrap_or_default();
            let refusal = Refusal::not_allowed("ORGANIZATION_NOT_ALLOWED", message);
            return Err(refusal.to(home, actor(&token)));
        }
        if organization != DEFAULT_ORGANIZATION && bound_to.is_none() {
            must_exist(shared, &organization).await?;
        }
        Ok(Self {
            organization,
            owner: token.owner.clone(),
            role: token.role,
            bound_to,
            live,
            token: token.name.clone(),
            peer: peer.exact(),
            act: None,
            trace_context: trace::of_request(metadata),
            submitting: Arc::default(),
        })
    }

    /// The same client, about to do something that is to be noted.
    #[must_use]
    pub fn doing(mut self, call: Cow<'static, str>, object: &str) -> Self {
        self.act = Some(Arc::new(self.act_of(call, object)));
        self
    }

    /// What it is about to do, when that is to be noted.
    #[must_use]
    pub fn act(&self) -> Option<&Arc<Act>> {
        self.act.as_ref()
    }

    /// A call of this client.
    #[must_use]
    pub fn act_of(&self, call: Cow<'static, str>, object: &str) -> Act {
        Act {
            organization: self.organization.clone(),
            actor: Actor::Token {
                name: self.token.clone(),
                owner: self.owner.clone(),
            },
            call,
            object: shown(object),
            peer: self.peer.to_string(),
        }
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

    /// As who it uploads.
    #[must_use]
    pub fn holder(&self) -> Holder {
        Holder::Client {
            organization: self.organization.clone(),
            owner: self.owner.clone(),
        }
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

fn actor(token: &TokenRow) -> Actor {
    Actor::Token {
        name: token.name.clone(),
        owner: token.owner.clone(),
    }
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

/// Refuses who showed no credential that exists.
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
