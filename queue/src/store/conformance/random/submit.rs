//! One command on both sides: what people do.

use std::collections::HashMap;

use proto::ids::JobId;

use super::super::world::{World, client, replica, submission};
use super::Difference;
use super::command::{Adopt, Back, Bring, Build, Command, DAEMONS, Wish};
use super::drive::{Case, coded, engines, same, tags_of};
use super::invariants::History;
use super::plain::builds::owner_of;
use super::plain::{Plain, Refused, SECOND};
use crate::matching::Tags;
use crate::store::model::{
    Acquire, Activate, BuildWorkspace, CreateWorkspace, DaemonContact, DaemonRef, Deadlines, Drain,
    Finish, NewKey, PlanTemplate, PushState, PushTemplate, Replace, SetLimit, Submission,
    WorkspaceName,
};
use crate::store::{BaseVersion, Error, Store};
use crate::words::{LimitOf, Outcome, Priority};
use proto::ids::{LeaseId, VersionId};

const OWNERS: [&str; 2] = ["ann", "bob"];
const TEMPLATES: [&str; 2] = ["template", "tofu"];

impl<'w, S: Store> Case<'w, S> {
    /// An organization with a key and two imported templates.
    pub(super) async fn begin(world: &'w World<S>) -> Self {
        let listed = world.store.list_organizations().await.expect("a list");
        let organization = format!("case {}", listed.len());
        let made = world.store.create_organization(organization.clone()).await;
        made.expect("an organization");
        let mut case = Self {
            world,
            organization,
            version: VersionId::generate(),
            tofu: VersionId::generate(),
            plain: Plain::default(),
            history: History::default(),
            replica: replica(),
            key_hash: [0; 32],
            instances: [0; DAEMONS],
            contents: 0,
        };
        case.create_key().await.expect("a key");
        case.version = case.import(TEMPLATES[0], "").await;
        case.tofu = case.import(TEMPLATES[1], "tofu").await;
        world.pass(21).await;
        let now = world.clock.now_ms();
        case.plain.looks = (Some(now - 20 * SECOND), now);
        case
    }

    async fn import(&mut self, template: &str, engine: &str) -> VersionId {
        let holder = client(&self.organization, "ann");
        let archive = self.world.put(b"archive", holder).await;
        let push = PushTemplate {
            organization: self.organization.clone(),
            template: template.to_owned(),
            archive: archive.0,
            variables: Vec::new(),
            engine: engine.to_owned(),
            activate: Activate::OnSuccess,
            tags: tags_of(false),
            submission: submission("ann"),
        };
        let (version, _) = self.world.store.push_template(push).await.expect("a push");
        let daemon = DaemonRef {
            name: "importer".to_owned(),
            ..self.daemon(self.who(0))
        };
        let contact = DaemonContact {
            daemon: daemon.clone(),
            key_hash: self.key_hash,
            version: "1".to_owned(),
            slots: 1,
            tags: tags_of(false),
            facts: engines("terraform,tofu"),
        };
        let kinds = Vec::new();
        let job = self.world.store.acquire(Acquire { contact, kinds }).await;
        let job = job.expect("acquire").job().expect("the import");
        self.plain.served.insert(0, self.world.clock.now_ms());
        let lease = job.lease.expect("a lease");
        let finish = Finish {
            daemon,
            job: job.id.parse().expect("an id"),
            lease: LeaseId::try_from(lease.id.as_slice()).expect("a lease id"),
            attempt: lease.attempt,
            outcome: Outcome::Succeeded,
            release: None,
            state: None,
            brings: None,
            report: Box::default(),
        };
        self.world.store.finish(finish).await.expect("imported");
        version.id
    }

    pub(super) async fn people(&mut self, command: &Command) -> Result<(), Difference> {
        match command {
            Command::Create { name } => self.create(*name).await,
            Command::Build(build) => self.build(build).await,
            Command::DryRun {
                wish,
                priority,
                deadlines,
            } => self.dry_run(*wish, *priority, *deadlines).await,
            Command::Retry { job } => self.retry(*job).await,
            Command::Cancel { job, kind } => {
                let Some(job) = job.of(self.plain.jobs.len()) else {
                    return Ok(());
                };
                let (organization, id) = (self.organization.clone(), self.plain.jobs[job].id);
                let answer = self.world.store.cancel(organization, id, *kind).await;
                let expected = self.plain.cancel(job, *kind);
                same("cancel", &coded(answer).map(drop), &expected)
            }
            Command::Abandon { job, how } => {
                let Some(job) = job.of(self.plain.jobs.len()) else {
                    return Ok(());
                };
                let (organization, id) = (self.organization.clone(), self.plain.jobs[job].id);
                let answer = self.world.store.abandon(organization, id, *how).await;
                same(
                    "abandon",
                    &coded(answer).map(drop),
                    &self.plain.abandon(job, *how),
                )
            }
            Command::Limit { of, which, most } => self.limit(*of, *which, *most).await,
            Command::Drain { daemon, drain } => self.drain(*daemon, *drain).await,
            Command::DeleteKey => self.delete_key().await,
            Command::CreateKey => self.create_key().await,
            Command::Push {
                name,
                bring,
                replace,
            } => self.push(*name, *bring, *replace).await,
            Command::Resolve { name, state, adopt } => self.resolve(*name, *state, *adopt).await,
            Command::Forget { name, address } => self.forget(*name, *address).await,
            Command::Show { name, objects } => self.show(*name, objects).await,
            Command::Acquire { .. }
            | Command::Confirm { .. }
            | Command::Withdraw { .. }
            | Command::Update(_)
            | Command::Finish(_)
            | Command::Foreign { .. }
            | Command::Pass { .. }
            | Command::Away { .. }
            | Command::ControlLost { .. }
            | Command::Touch { .. }
            | Command::NewInstance { .. } => Ok(()),
        }
    }

    pub(super) fn named(&self, name: usize) -> WorkspaceName {
        WorkspaceName {
            organization: self.organization.clone(),
            owner: OWNERS[owner_of(name)].to_owned(),
            name: format!("ws-{name}"),
        }
    }

    fn submission(
        owner: usize,
        priority: Priority,
        wish: Wish,
        deadlines: Deadlines,
    ) -> Submission {
        Submission {
            priority,
            deadlines,
            tags: tags_of(wish == Wish::Special),
            ..submission(OWNERS[owner])
        }
    }

    /// Both made a job, or both refused alike.
    fn submitted(
        &mut self,
        what: &str,
        store: Result<JobId, Error>,
        model: Result<usize, Refused>,
    ) -> Result<(), Difference> {
        let store = coded(store);
        same(what, &store.map(drop), &model.map(drop))?;
        if let (Ok(id), Ok(job)) = (store, model) {
            self.plain.called(job, id);
        }
        Ok(())
    }

    async fn create(&mut self, name: usize) -> Result<(), Difference> {
        let create = CreateWorkspace {
            workspace: self.named(name),
            version: self.version,
            parameters: Vec::new(),
            submission: submission(OWNERS[owner_of(name)]),
        };
        let made = self.world.store.create_workspace(create).await;
        let model = self.plain.create(name);
        self.submitted("create", made.map(|it| it.id), model)
    }

    async fn build(&mut self, build: &Build) -> Result<(), Difference> {
        let built = self.try_build(build).await;
        let model = self.plain.build(build);
        self.submitted("build", built, model)
    }

    async fn try_build(&self, build: &Build) -> Result<JobId, Error> {
        let store = &self.world.store;
        let base = store.build_base(self.named(build.name), BaseVersion::Own);
        let base = base.await?;
        let owner = owner_of(build.name);
        let built = store.build_workspace(BuildWorkspace {
            workspace: base.workspace,
            base: base.number,
            transition: build.transition,
            version: base.version.id,
            parameters: base.previous,
            forget: build.forget,
            submission: Self::submission(owner, build.priority, Wish::Nothing, build.deadlines),
        });
        Ok(built.await?.id)
    }

    async fn dry_run(
        &mut self,
        wish: Wish,
        priority: Priority,
        deadlines: Deadlines,
    ) -> Result<(), Difference> {
        let plan = PlanTemplate {
            organization: self.organization.clone(),
            version: if wish == Wish::Tofu {
                self.tofu
            } else {
                self.version
            },
            parameters: Vec::new(),
            submission: Self::submission(1, priority, wish, deadlines),
        };
        let made = self.world.store.plan_template(plan).await;
        let model = self.plain.dry_run(wish, priority, deadlines);
        self.submitted("dry run", made.map(|it| it.id), Ok(model))
    }

    async fn retry(&mut self, back: Back) -> Result<(), Difference> {
        let Some(job) = back.of(self.plain.jobs.len()) else {
            return Ok(());
        };
        let (organization, id) = (self.organization.clone(), self.plain.jobs[job].id);
        let made = self
            .world
            .store
            .retry(organization, id, HashMap::new())
            .await;
        let model = self.plain.retry(job);
        self.submitted("retry", made.map(|it| it.id), model)
    }

    async fn drain(&mut self, name: usize, drain: Drain) -> Result<(), Difference> {
        let organization = self.organization.clone();
        let daemon = self.daemon(self.who(name)).name;
        let answer = self
            .world
            .store
            .set_drain(organization, daemon, drain)
            .await;
        let model = match self.plain.daemons.get_mut(&name) {
            None => Err("NOT_FOUND"),
            Some(seen) => {
                seen.draining = drain == Drain::On;
                Ok(())
            }
        };
        same("drain", &coded(answer).map(drop), &model)
    }

    async fn delete_key(&mut self) -> Result<(), Difference> {
        let organization = self.organization.clone();
        let answer = self.world.store.delete_key(organization, "key".to_owned());
        let deleted = std::mem::replace(&mut self.plain.key_deleted, true);
        let model = if deleted { Err("NOT_FOUND") } else { Ok(()) };
        same("delete key", &coded(answer.await), &model)
    }

    async fn create_key(&mut self) -> Result<(), Difference> {
        self.contents += 1;
        let number = self.contents.to_le_bytes();
        let organization = self.organization.clone();
        let secret = [organization.as_bytes(), &number].concat();
        let key = NewKey {
            organization,
            name: "key".to_owned(),
            tags: Tags::new(),
            hash: *proto::ids::Digest::of(&secret).as_bytes(),
        };
        let hash = key.hash;
        let answer = coded(self.world.store.create_key(key).await).map(drop);
        if answer.is_ok() {
            self.key_hash = hash;
        }
        let exists = !std::mem::replace(&mut self.plain.key_deleted, false);
        let model = if exists {
            Err("ALREADY_EXISTS")
        } else {
            Ok(())
        };
        if self.plain.jobs.is_empty() && answer.is_ok() {
            return Ok(());
        }
        same("create key", &answer, &model)
    }

    async fn push(&mut self, name: usize, bring: Bring, how: Replace) -> Result<(), Difference> {
        let workspace = self.plain.named(name).map(|it| &self.plain.workspaces[it]);
        let current = workspace.and_then(|it| Some(it.states[it.current?].clone()));
        let Some(state) = self.state_after(current, bring) else {
            return Ok(());
        };
        let workspace = self.named(name);
        let holder = client(&self.organization, &workspace.owner);
        let uploaded = self.put(Some(&state), holder).await.ok_or("no state")?;
        let push = PushState {
            by: workspace.owner.clone(),
            workspace,
            blob: uploaded.blob,
            serial: state.serial,
            lineage: state.lineage.clone(),
            replace: how,
        };
        let answer = coded(self.world.store.push_state(push).await).map(drop);
        same("push", &answer, &self.plain.push(name, state, how))
    }

    async fn limit(
        &mut self,
        of: LimitOf,
        which: usize,
        most: Option<u32>,
    ) -> Result<(), Difference> {
        let name = match of {
            LimitOf::Owner => OWNERS[which],
            LimitOf::Template => TEMPLATES[which],
        };
        let set = SetLimit {
            organization: self.organization.clone(),
            of,
            name: name.to_owned(),
            most,
        };
        match most {
            Some(most) => self.plain.limits.insert((of, which), most),
            None => self.plain.limits.remove(&(of, which)),
        };
        same(
            "limit",
            &coded(self.world.store.set_limit(set).await).map(|it| it.most),
            &Ok(most),
        )
    }

    async fn resolve(&mut self, name: usize, back: Back, adopt: Adopt) -> Result<(), Difference> {
        let Some(index) = self.plain.named(name) else {
            return Ok(());
        };
        let states = &self.plain.workspaces[index].states;
        // Mostly one that waits.
        let waiting = |state: &usize| states[*state].waiting;
        let waiting: Vec<usize> = (0..states.len()).filter(waiting).collect();
        let chosen = back.of(waiting.len()).map(|it| waiting[it]);
        let Some(chosen) = chosen.or_else(|| back.of(states.len())) else {
            return Ok(());
        };
        let id = self.state_id(index, chosen).await?;
        let workspace = self.named(name);
        let answer = match adopt {
            Adopt::Take => self.world.store.adopt_state(workspace, id).await,
            Adopt::Discard => self.world.store.discard_state(workspace, id).await,
        };
        let model = self.plain.resolve(name, chosen, adopt == Adopt::Take);
        same("resolve", &coded(answer).map(drop), &model)
    }
}
