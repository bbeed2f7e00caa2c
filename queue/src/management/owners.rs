//! What templates may know of the people whose workspaces they make. The queue is no
//! identity provider: it holds what an admin tells it, and no session, token or key of
//! anybody.

use proto::limits;
use proto::v1;
use tonic::Status;

use crate::auth::Client;
use crate::names;
use crate::refusal::{Refusal, shown};
use crate::shared::Shared;
use crate::store::Store;
use crate::store::model::OwnerProfile;

pub async fn put<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    request: v1::Owner,
) -> Result<v1::Owner, Status> {
    client.must_be_admin("describe owners")?;
    check(&request)?;
    let profile = OwnerProfile {
        name: request.name.clone(),
        email: request.email.clone(),
        full_name: request.full_name.clone(),
        groups: request.groups.clone(),
    };
    let organization = client.organization.clone();
    shared.by(client).put_owner(organization, profile).await?;
    Ok(request)
}

pub async fn list<S: Store>(
    shared: &Shared<S>,
    client: &Client,
    _request: v1::ListOwnersRequest,
) -> Result<v1::ListOwnersReply, Status> {
    client.must_be_admin("see owners")?;
    let found = shared.store.list_owners(client.organization.clone());
    let owners = found.await?.into_iter().map(|profile| v1::Owner {
        name: profile.name,
        email: profile.email,
        full_name: profile.full_name,
        groups: profile.groups,
    });
    Ok(v1::ListOwnersReply {
        owners: owners.collect(),
    })
}

/// All of it goes into the environment of engines, where neither a zero byte nor a text
/// without an end can stand.
fn check(owner: &v1::Owner) -> Result<(), Refusal> {
    names::check("owner", &owner.name)?;
    if owner.groups.len() > limits::OWNER_GROUPS {
        let (given, limit) = (owner.groups.len(), limits::OWNER_GROUPS);
        let message = format!("{given} groups are more than the limit of {limit}");
        return Err(Refusal::invalid("INVALID_OWNER", message));
    }
    let groups = owner.groups.iter().map(|group| ("group", group));
    let texts = [("email", &owner.email), ("full name", &owner.full_name)];
    for (what, text) in texts.into_iter().chain(groups) {
        if text.len() > limits::OWNER_TEXT || text.chars().any(char::is_control) {
            let message = format!("`{}` cannot be the {what} of an owner", shown(text));
            let hint = format!("use up to {} bytes of plain text", limits::OWNER_TEXT);
            return Err(Refusal::invalid("INVALID_OWNER", message).hint(hint));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::CODE;

    fn owner() -> v1::Owner {
        v1::Owner {
            name: "ada".to_owned(),
            email: "ada@example.com".to_owned(),
            full_name: "Ada Lovelace".to_owned(),
            groups: vec!["dev".to_owned()],
        }
    }

    #[test]
    fn what_cannot_stand_in_an_environment_is_refused() {
        assert!(check(&owner()).is_ok());
        let long = "x".repeat(limits::OWNER_TEXT + 1);
        for text in ["a\0b", "a\nb", &long] {
            for field in 0..3 {
                let mut owner = owner();
                match field {
                    0 => owner.email = text.to_owned(),
                    1 => owner.full_name = text.to_owned(),
                    _ => owner.groups.push(text.to_owned()),
                }
                let refused = Status::from(check(&owner).expect_err(text));
                let code = refused.metadata().get(CODE).expect("a code");
                assert_eq!(code, "INVALID_OWNER");
            }
        }
    }

    #[test]
    fn more_groups_than_the_limit_are_refused() {
        let mut owner = owner();
        owner.groups = vec!["g".to_owned(); limits::OWNER_GROUPS];
        assert!(check(&owner).is_ok());
        owner.groups.push("g".to_owned());
        let refused = Status::from(check(&owner).expect_err("too many"));
        assert!(refused.message().contains("501"), "{refused:?}");
    }
}
