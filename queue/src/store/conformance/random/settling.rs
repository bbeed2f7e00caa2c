//! One command on both sides: what takes resources off the list of doubts.

use proto::state_index::StateIndex;

use super::Difference;
use super::command::Tracked;
use super::drive::{Case, coded, same};
use super::plain::settling::Object;
use crate::store::Store;
use crate::store::model::{Settle, Shown};

impl<S: Store> Case<'_, S> {
    pub(super) async fn forget(&mut self, name: usize, address: usize) -> Result<(), Difference> {
        let addresses = vec![address.to_string()];
        let answer = self.world.store.forget(self.named(name), addresses).await;
        let forgotten = coded(answer).map(|list| list.len());
        same("forget", &forgotten, &self.plain.forget(name, address))
    }

    /// Somebody reads the current state.
    pub(super) async fn show(
        &mut self,
        name: usize,
        objects: &[(usize, Tracked)],
    ) -> Result<(), Difference> {
        let Some(index) = self.plain.named(name) else {
            return Ok(());
        };
        let Ok(current) = self.world.store.state(self.named(name), None).await else {
            return same("no state", &None, &self.plain.workspaces[index].current);
        };
        let objects: Vec<Object> = objects
            .iter()
            .map(|&(address, tracked)| Object {
                address,
                id: match tracked {
                    Tracked::InDoubt | Tracked::Old => self.plain.in_doubt_at(index, address),
                    Tracked::Stranger => "stranger".to_owned(),
                },
                is_new: tracked != Tracked::Old,
            })
            .collect();
        let pair = |object: &Object| (object.address.to_string(), object.id.clone());
        let now: StateIndex = objects.iter().map(pair).collect();
        let before = objects.iter().filter(|object| !object.is_new).map(pair);
        let settle = Settle {
            workspace: self.named(name),
            state: current.id.parse().expect("an id"),
            shown: Shown {
                now,
                before: before.collect(),
            },
        };
        let answer = coded(self.world.store.settle(settle).await);
        self.plain.show(index, &objects);
        same("settle", &answer, &Ok(()))
    }
}
