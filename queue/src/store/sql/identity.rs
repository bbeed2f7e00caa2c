//! Organizations, provisioner keys, client tokens, owners.

use proto::v1;
use uuid::Uuid;

use super::codec::{tags, tags_json, word};
use super::rows::{Row, values};
use super::{Snapshot, Tx};
use crate::store::model::{KeyRow, NewKey, NewToken, OwnerProfile, Role, SecretHash, TokenRow};
use crate::store::{Error, Event, Result};

/// A key's last use is noted at most this often, so that finding it stays a read.
const USE_NOTED_MS: i64 = 60_000;

impl Tx<'_> {
    pub(in crate::store) fn create_organization(&self, name: &str) -> Result<v1::Organization> {
        let added = self
            .db
            .prepare("INSERT INTO organizations VALUES (?1, ?2) ON CONFLICT DO NOTHING")
            .execute(values![name, self.now])?;
        if added == 0 {
            return Err(Error::Exists {
                what: "organization",
                name: name.to_owned(),
            });
        }
        Ok(v1::Organization {
            name: name.to_owned(),
            created_at_ms: self.now,
        })
    }

    pub(super) fn create_key(&self, key: &NewKey) -> Result<v1::Key> {
        self.organization_exists(&key.organization)?;
        let added = self
            .db
            .prepare(
                "INSERT INTO keys (hash, organization, name, tags, created_at)
                 VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
            )
            .execute(values![
                key.hash,
                key.organization,
                key.name,
                tags_json(&key.tags),
                self.now
            ])?;
        if added == 0 {
            return Err(Error::Exists {
                what: "provisioner key",
                name: key.name.clone(),
            });
        }
        Ok(v1::Key {
            name: key.name.clone(),
            tags: key.tags.clone().into_iter().collect(),
            created_at_ms: self.now,
            last_used_at_ms: None,
        })
    }

    pub(super) fn note_key_use(&self, hash: SecretHash) -> Result<()> {
        self.db
            .prepare("UPDATE keys SET last_used_at = ?2 WHERE hash = ?1")
            .execute(values![hash, self.now])?;
        Ok(())
    }

    pub(super) fn delete_key(&mut self, organization: &str, name: &str) -> Result<()> {
        let gone = self
            .db
            .prepare("DELETE FROM keys WHERE organization = ?1 AND name = ?2")
            .execute(values![organization, name])?;
        if gone == 0 {
            return Err(Error::NotFound {
                what: "provisioner key",
                name: name.to_owned(),
            });
        }
        self.emit(Event::KeyRevoked {
            organization: organization.to_owned(),
            key: name.to_owned(),
        });
        Ok(())
    }

    pub(super) fn create_token(&self, token: &NewToken) -> Result<v1::Token> {
        if let Some(organization) = &token.organization {
            self.organization_exists(organization)?;
        }
        let added = self
            .db
            .prepare(
                "INSERT INTO tokens (hash, name, organization, owner, role, created_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
            )
            .execute(values![
                token.hash,
                token.name,
                token.organization,
                token.owner,
                token.role.as_str(),
                self.now
            ])?;
        if added == 0 {
            return Err(Error::Exists {
                what: "token",
                name: token.name.clone(),
            });
        }
        Ok(v1::Token {
            name: token.name.clone(),
            owner: token.owner.clone(),
            role: token.role.as_str().to_owned(),
            created_at_ms: self.now,
        })
    }

    pub(super) fn delete_token(&mut self, name: &str) -> Result<()> {
        let gone = self
            .db
            .prepare("DELETE FROM tokens WHERE name = ?1")
            .execute(values![name])?;
        if gone == 0 {
            return Err(Error::NotFound {
                what: "token",
                name: name.to_owned(),
            });
        }
        self.emit(Event::TokenRevoked {
            token: name.to_owned(),
        });
        Ok(())
    }

    pub(super) fn put_owner(&self, organization: &str, owner: &OwnerProfile) -> Result<()> {
        self.ensure_owner(organization, &owner.name)?;
        let groups =
            serde_json::to_string(&owner.groups).expect("invariant: a list of strings is JSON");
        self.db
            .prepare(
                "UPDATE owners SET email = ?3, full_name = ?4, groups_json = ?5
                 WHERE organization = ?1 AND name = ?2",
            )
            .execute(values![
                organization,
                owner.name,
                owner.email,
                owner.full_name,
                groups
            ])?;
        Ok(())
    }

    /// Makes an owner known by name.
    pub(super) fn ensure_owner(&self, organization: &str, name: &str) -> Result<()> {
        self.organization_exists(organization)?;
        self.db
            .prepare(
                "INSERT INTO owners (id, organization, name) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO NOTHING",
            )
            .execute(values![Uuid::now_v7().to_string(), organization, name])?;
        Ok(())
    }
}

impl Snapshot<'_> {
    pub(super) fn organization_exists(self, name: &str) -> Result<()> {
        let statement = self
            .db
            .prepare("SELECT 1 FROM organizations WHERE name = ?1");
        if statement.exists(values![name])? {
            return Ok(());
        }
        Err(Error::NotFound {
            what: "organization",
            name: name.to_owned(),
        })
    }

    pub(super) fn list_keys(self, organization: &str) -> Result<Vec<v1::Key>> {
        let statement = self.db.prepare(
            "SELECT name, tags, created_at, last_used_at FROM keys
             WHERE organization = ?1 ORDER BY name",
        );
        statement.all(values![organization], |row| {
            Ok(v1::Key {
                name: row.get(0)?,
                tags: tags(row, 1)?.into_iter().collect(),
                created_at_ms: row.get(2)?,
                last_used_at_ms: row.get(3)?,
            })
        })
    }

    pub(super) fn list_owners(self, organization: &str) -> Result<Vec<OwnerProfile>> {
        let statement = self.db.prepare(
            "SELECT name, email, full_name, groups_json FROM owners
             WHERE organization = ?1 ORDER BY name",
        );
        statement.all(values![organization], |row| {
            Ok(OwnerProfile {
                name: row.get(0)?,
                email: row.get(1)?,
                full_name: row.get(2)?,
                groups: word(row, 3, |text| serde_json::from_str(text).ok())?,
            })
        })
    }

    /// The key, and whether its use should be noted.
    pub(super) fn find_key(self, hash: SecretHash) -> Result<Option<(KeyRow, NoteUse)>> {
        let statement = self.db.prepare(
            "SELECT organization, name, tags, COALESCE(last_used_at, 0) FROM keys WHERE hash = ?1",
        );
        let found = statement.first(values![hash], |row| {
            let key = KeyRow {
                organization: row.get(0)?,
                name: row.get(1)?,
                tags: tags(row, 2)?,
            };
            let age = self.now - row.get::<i64>(3)?;
            Ok((
                key,
                if age >= USE_NOTED_MS {
                    NoteUse::Due
                } else {
                    NoteUse::Recent
                },
            ))
        })?;
        Ok(found)
    }

    pub(super) fn list_tokens(self, organization: Option<&str>) -> Result<Vec<v1::Token>> {
        let statement = self.db.prepare(
            "SELECT name, owner, role, created_at FROM tokens
             WHERE ?1 IS NULL OR organization = ?1 ORDER BY name",
        );
        statement.all(values![organization], |row| {
            Ok(v1::Token {
                name: row.get(0)?,
                owner: row.get(1)?,
                role: row.get(2)?,
                created_at_ms: row.get(3)?,
            })
        })
    }

    pub(super) fn find_token(self, hash: SecretHash) -> Result<Option<TokenRow>> {
        let statement = self
            .db
            .prepare("SELECT organization, name, owner, role FROM tokens WHERE hash = ?1");
        let found = statement.first(values![hash], token_row)?;
        Ok(found)
    }
}

/// All organizations, by name.
pub(super) fn organizations(view: Snapshot<'_>) -> Result<Vec<v1::Organization>> {
    let statement = view
        .db
        .prepare("SELECT name, created_at FROM organizations ORDER BY name");
    statement.all(values![], |row| {
        Ok(v1::Organization {
            name: row.get(0)?,
            created_at_ms: row.get(1)?,
        })
    })
}

/// Whether a key's use was noted lately.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum NoteUse {
    Due,
    Recent,
}

fn token_row(row: Row<'_>) -> Result<TokenRow> {
    Ok(TokenRow {
        organization: row.get(0)?,
        name: row.get(1)?,
        owner: row.get(2)?,
        role: word(row, 3, Role::from_text)?,
    })
}
