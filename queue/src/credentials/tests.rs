use proto::timings::Timings;

use super::*;
use crate::matching::Tags;
use crate::store::model::{NewKey, NewToken, Role};
use crate::store::sqlite::{Sqlite, TimeSource};

const ORG: &str = "default";
const HASH: SecretHash = [1; 32];

#[tokio::test]
async fn a_key_that_was_shown_is_not_asked_for_again() {
    let (store, _dir) = with_key(HASH).await;
    let known = Credentials::default();
    assert!(key(&known, &store).await.is_some());
    // Behind the back of the process: no event comes here.
    delete(&store).await;
    assert!(key(&known, &store).await.is_some());
}

#[tokio::test]
async fn a_key_that_nobody_has_seen_for_five_seconds_is_asked_for() {
    let (store, _dir) = with_key(HASH).await;
    let known = Credentials::default();
    assert!(key(&known, &store).await.is_some());
    delete(&store).await;
    known.older(FRESH);
    assert!(key(&known, &store).await.is_none());
}

#[tokio::test]
async fn a_deletion_that_was_told_ends_what_is_open_at_once() {
    let (store, _dir) = with_key(HASH).await;
    let known = Credentials::default();
    let (_, live) = key(&known, &store).await.expect("the key");
    known.key_deleted(ORG, "another");
    assert!(!live.is_over());
    delete(&store).await;
    known.key_deleted(ORG, "key");
    assert!(live.is_over());
    assert!(key(&known, &store).await.is_none());
}

#[tokio::test]
async fn a_look_ends_what_is_gone_and_renews_what_is_there() {
    let (store, _dir) = with_key(HASH).await;
    let token = NewToken {
        organization: None,
        name: "token".into(),
        owner: "ann".into(),
        role: Role::Member,
        hash: [2; 32],
    };
    store.create_token(token).await.expect("a token");
    let known = Credentials::default();
    let (_, key_live) = key(&known, &store).await.expect("the key");
    let (_, token_live) = known
        .token(&store, [2; 32])
        .await
        .expect("a query")
        .expect("the token");
    known.older(FRESH);
    assert!(known.keep(&HashSet::from([HASH]), Instant::now()));
    assert_eq!((key_live.is_over(), token_live.is_over()), (false, true));
    delete(&store).await;
    assert!(key(&known, &store).await.is_some(), "it was renewed");
}

#[tokio::test]
async fn a_look_that_began_before_a_key_was_read_does_not_end_it() {
    let (store, _dir) = with_key(HASH).await;
    let known = Credentials::default();
    let then = Instant::now();
    let (_, live) = key(&known, &store).await.expect("the key");
    assert!(!known.keep(&HashSet::new(), then));
    assert!(!live.is_over());
}

#[tokio::test]
async fn a_key_read_before_its_deletion_was_told_is_read_again() {
    let known = Credentials::default();
    let (_, deletions) = known.look_up(|state| &mut state.keys, HASH);
    known.key_deleted(ORG, "key");
    assert!(known.unless_deleted(deletions, |_| ()).is_none());
}

#[tokio::test]
async fn what_is_open_keeps_its_entry_and_the_rest_goes() {
    let (store, _dir) = with_key(HASH).await;
    let known = Credentials::default();
    let found = key(&known, &store).await;
    known.older(UNUSED);
    assert!(!known.keep(&HashSet::from([HASH]), Instant::now()));
    assert!(!known.is_empty());
    drop(found);
    assert!(!known.keep(&HashSet::from([HASH]), Instant::now()));
    assert!(known.is_empty());
}

impl Credentials {
    /// As if so much more time had passed.
    fn older(&self, by: Duration) {
        let mut state = self.lock();
        for entry in state.keys.values_mut() {
            let past = |time: Instant| time.checked_sub(by).expect("a time");
            (entry.checked, entry.read, entry.used) =
                (past(entry.checked), past(entry.read), past(entry.used));
        }
        for entry in state.tokens.values_mut() {
            let past = |time: Instant| time.checked_sub(by).expect("a time");
            (entry.checked, entry.read, entry.used) =
                (past(entry.checked), past(entry.read), past(entry.used));
        }
    }
}

async fn with_key(hash: SecretHash) -> (Sqlite, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("queue.db");
    let store = Sqlite::open(&path, Timings::default(), TimeSource::System).expect("a store");
    let key = NewKey {
        organization: ORG.into(),
        name: "key".into(),
        tags: Tags::new(),
        hash,
    };
    store.create_key(key).await.expect("a key");
    (store, dir)
}

async fn key(known: &Credentials, store: &Sqlite) -> Option<(Arc<KeyRow>, Live)> {
    known.key(store, HASH).await.expect("a query")
}

async fn delete(store: &Sqlite) {
    let gone = store.delete_key(ORG.into(), "key".into());
    gone.await.expect("deleted");
}
