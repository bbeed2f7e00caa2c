//! Many who want the same thing at once: one of them gets it, whichever store it is.

use super::world::{Held, ORG, World, contact, named, submission};
use crate::store::model::{Abandon, BuildWorkspace, DaemonContact, DaemonRef, Forget};
use crate::store::{BaseVersion, Error, Result, Store};
use crate::words::{Cancel, Outcome, Transition};
use proto::v1::JobStatus;

const MANY: usize = 12;

/// Runs them all at once.
async fn at_once<T, F>(tasks: impl Iterator<Item = F>) -> Vec<Result<T>>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let tasks: Vec<_> = tasks.map(tokio::spawn).collect();
    let mut done = Vec::new();
    for task in tasks {
        done.push(task.await.expect("a task"));
    }
    done
}

pub(crate) async fn one_of_many_builds_begins<S: Store>(world: World<S>) {
    let version = world.template("template").await;
    world.create("ws", &version).await;
    let held = world.take("worker").await;
    world.done(&held.finish(Outcome::Succeeded)).await;
    let base = world.store.build_base(named("ws"), BaseVersion::Own).await;
    let base = base.expect("a base");
    let builds = at_once((0..MANY).map(|_| {
        let build = BuildWorkspace {
            workspace: base.workspace,
            base: base.number,
            transition: Transition::Start,
            version: base.version.id,
            parameters: Vec::new(),
            forget: Forget::Refuse,
            submission: submission("ann"),
        };
        let store = world.store.clone();
        async move { store.build_workspace(build).await }
    }));
    let (begun, refused): (Vec<_>, Vec<_>) = builds.await.into_iter().partition(Result::is_ok);
    assert_eq!(begun.len(), 1);
    for refusal in refused {
        assert!(
            matches!(refusal, Err(Error::BuildRunning { .. })),
            "{refusal:?}"
        );
    }
}

pub(crate) async fn one_of_many_namesakes_is_made<S: Store>(world: World<S>) {
    let made = at_once((0..MANY).map(|_| {
        let store = world.store.clone();
        async move { store.create_organization("same".to_owned()).await }
    }));
    let (made, refused): (Vec<_>, Vec<_>) = made.await.into_iter().partition(Result::is_ok);
    assert_eq!(made.len(), 1);
    for refusal in refused {
        assert!(matches!(refusal, Err(Error::Exists { .. })), "{refusal:?}");
    }
}

pub(crate) async fn versions_pushed_at_once_have_numbers_of_their_own<S: Store>(world: World<S>) {
    world.template("template").await;
    let archive = world.upload(b"archive").await;
    let pushed = at_once((0..MANY).map(|_| {
        let push = crate::store::model::PushTemplate {
            organization: ORG.to_owned(),
            template: "template".to_owned(),
            archive,
            variables: Vec::new(),
            engine: String::new(),
            activate: crate::store::model::Activate::OnSuccess,
            tags: super::world::untagged(),
            submission: submission("ann"),
        };
        let store = world.store.clone();
        async move { store.push_template(push).await }
    }));
    let pushed = pushed
        .await
        .into_iter()
        .map(|it| it.expect("a version").0.number);
    let mut numbers: Vec<_> = pushed.collect();
    numbers.sort_unstable();
    assert_eq!(
        numbers,
        (2..2 + u32::try_from(MANY).expect("few")).collect::<Vec<_>>()
    );
}

pub(crate) async fn one_of_many_instances_gets_the_name<S: Store>(world: World<S>) {
    let seen = at_once((0..MANY).map(|n| {
        let contact = DaemonContact {
            daemon: DaemonRef {
                instance: format!("instance {n}"),
                ..contact("same").daemon
            },
            ..contact("same")
        };
        let store = world.store.clone();
        async move { store.see_daemon(contact).await }
    }));
    let (seen, refused): (Vec<_>, Vec<_>) = seen.await.into_iter().partition(Result::is_ok);
    assert_eq!(seen.len(), 1);
    for refusal in refused {
        assert!(
            matches!(refusal, Err(Error::DaemonNameTaken { .. })),
            "{refusal:?}"
        );
    }
}

/// Finish, cancel, abandon and updates of one job, all at once.
pub(crate) async fn one_verdict_stands_whoever_gives_it<S: Store>(world: World<S>) {
    for _ in 0..5 {
        world.push("template").await;
        let held = world.take("worker").await;
        let (finished, canceled, abandoned, updated) = tokio::join!(
            finish(world.store.clone(), held.clone()),
            world.store.cancel(ORG.to_owned(), held.id, Cancel::Cancel),
            world.store.abandon(ORG.to_owned(), held.id, Abandon::Force),
            world.store.update(held.update(1)),
        );
        finished.expect("a finish is always stored");
        updated.expect("an update is always answered");
        // These may come too late.
        drop((canceled, abandoned));
        let first = world.job(held.id).await;
        let ended = [JobStatus::Succeeded, JobStatus::Canceled, JobStatus::Failed];
        assert!(ended.contains(&first.status()), "{:?}", first.status());
        finish(world.store.clone(), held.clone())
            .await
            .expect("again");
        assert_eq!(world.job(held.id).await.status(), first.status());
    }
}

async fn finish<S: Store>(store: S, held: Held) -> Result<()> {
    store
        .finish(held.finish(Outcome::Succeeded))
        .await
        .map(drop)
}
