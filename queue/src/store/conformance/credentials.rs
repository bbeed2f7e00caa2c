//! Organizations, keys, tokens.

use super::world::{ORG, World, tags, told};
use crate::store::model::{NewKey, NewToken, OwnerProfile, Role};
use crate::store::{Error, Event, Store};

pub(crate) async fn keys_are_found_by_hash_and_gone_when_deleted<S: Store>(world: World<S>) {
    let key = NewKey {
        organization: ORG.to_owned(),
        name: "second".to_owned(),
        tags: tags(&[("env", "*")]),
        hash: [7; 32],
    };
    world.store.create_key(key.clone()).await.expect("a key");
    let twice = world
        .store
        .create_key(NewKey {
            hash: [8; 32],
            ..key
        })
        .await;
    assert!(matches!(twice, Err(Error::Exists { .. })));
    let found = world
        .store
        .find_key([7; 32])
        .await
        .expect("a query")
        .expect("the key");
    assert_eq!(found.tags, tags(&[("env", "*")]));
    let listed = world.store.list_keys(ORG.to_owned()).await.expect("a list");
    let second = listed
        .iter()
        .find(|key| key.name == "second")
        .expect("listed");
    assert!(second.last_used_at_ms.is_some());
    let mut events = world.store.subscribe();
    let gone = world
        .store
        .delete_key(ORG.to_owned(), "second".to_owned())
        .await;
    gone.expect("deleted");
    let revoked = Event::KeyRevoked {
        organization: ORG.to_owned(),
        key: "second".to_owned(),
    };
    assert_eq!(told(&mut events).await, revoked);
    assert_eq!(world.store.find_key([7; 32]).await.expect("a query"), None);
}

pub(crate) async fn tokens_are_found_by_hash_and_gone_when_deleted<S: Store>(world: World<S>) {
    let token = NewToken {
        organization: None,
        name: "token".to_owned(),
        owner: "ann".to_owned(),
        role: Role::Member,
        hash: [9; 32],
    };
    world
        .store
        .create_token(token.clone())
        .await
        .expect("a token");
    let twice = world.store.create_token(token).await;
    assert!(matches!(twice, Err(Error::Exists { .. })));
    let found = world
        .store
        .find_token([9; 32])
        .await
        .expect("a query")
        .expect("the token");
    assert_eq!((found.owner.as_str(), found.role), ("ann", Role::Member));
    assert_eq!(
        world.store.list_tokens(None).await.expect("a list").len(),
        1
    );
    world
        .store
        .delete_token("token".to_owned())
        .await
        .expect("deleted");
    assert_eq!(
        world.store.find_token([9; 32]).await.expect("a query"),
        None
    );
}

pub(crate) async fn the_default_organization_is_there_and_others_are_apart<S: Store>(
    world: World<S>,
) {
    world.template("template").await;
    world
        .store
        .create_organization("other".to_owned())
        .await
        .expect("made");
    let twice = world.store.create_organization("other".to_owned()).await;
    assert!(matches!(twice, Err(Error::Exists { .. })));
    let all = world.store.list_organizations().await.expect("a list");
    let names: Vec<_> = all.into_iter().map(|org| org.name).collect();
    assert_eq!(names, [ORG, "other"]);
    let foreign = world
        .store
        .template("other".to_owned(), "template".to_owned())
        .await;
    assert!(matches!(foreign, Err(Error::NotFound { .. })));
    let nowhere = world.store.list_templates("nowhere".to_owned()).await;
    assert!(matches!(nowhere, Err(Error::NotFound { .. })));
}

pub(crate) async fn an_owners_profile_is_set_whole<S: Store>(world: World<S>) {
    let profile = |email: &str, groups: &[&str]| OwnerProfile {
        name: "ada".to_owned(),
        email: email.to_owned(),
        full_name: "Ada Lovelace".to_owned(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
    };
    for profile in [
        profile("old@example.com", &["a", "b"]),
        profile("ada@example.com", &["dev"]),
    ] {
        let put = world.store.put_owner(ORG.to_owned(), profile);
        put.await.expect("put");
    }
    let listed = world.store.list_owners(ORG.to_owned()).await;
    let listed = listed.expect("a list");
    let ada: Vec<_> = listed.iter().filter(|owner| owner.name == "ada").collect();
    assert_eq!(ada, [&profile("ada@example.com", &["dev"])]);
    let other = world.store.create_organization("other".to_owned());
    other.await.expect("made");
    let theirs = world.store.list_owners("other".to_owned()).await;
    assert_eq!(theirs.expect("a list"), []);
}
