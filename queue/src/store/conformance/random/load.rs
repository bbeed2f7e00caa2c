//! What an engine prints and saves, as a command says it: lines, ledger entries, states.

use std::collections::BTreeMap;

use proto::ids::Digest;
use proto::v1::{self, LedgerAction, LedgerEntry, LedgerEvent};

use super::super::world::line;
use super::command::{Bring, Deed, Ending, Load};
use super::drive::Case;
use super::plain::State;
use crate::store::Store;
use crate::store::model::{BlobContent, BlobId, Checkpoint, Holder, NewBlob};

impl<S: Store> Case<'_, S> {
    /// New lines of a lease, some sent again or some before them left out.
    pub(super) fn lines(&self, lease: usize, load: &Load) -> Vec<u64> {
        let (new, shift) = load.lines;
        let last = self.plain.leases[lease].lines.last().copied().unwrap_or(0);
        let from = last.saturating_add_signed(1 + shift).max(1);
        (from..last + 1 + new.max(1)).collect()
    }

    pub(super) fn texts(&self, lease: usize, lines: &[u64]) -> Vec<v1::LogLine> {
        let attempt = self.plain.leases[lease].attempt;
        let text = |&seq: &u64| line(seq, &format!("{attempt} {seq}"));
        lines.iter().map(text).collect()
    }

    /// What the engine did since, told with all it did before: entries are stored once.
    pub(super) fn ledger(&mut self, lease: usize, load: &Load, open: bool) -> Vec<LedgerEntry> {
        let told = &mut self.plain.leases[lease].told;
        for deed in load.deeds.iter().filter(|_| open) {
            // No engine begins anew what it has not ended.
            let last = told
                .iter()
                .rfind(|it| it.address == deed.address.to_string());
            let ended = |it: &LedgerEntry| {
                matches!(it.event(), LedgerEvent::Complete | LedgerEvent::Errored)
            };
            if last.is_some_and(|it| !ended(it)) {
                continue;
            }
            for (event, action) in events(*deed) {
                let seq = told.len() as u64 + 1;
                let id = match event {
                    LedgerEvent::Complete => format!("i-{lease}-{seq}"),
                    _other => String::new(),
                };
                told.push(LedgerEntry {
                    seq,
                    id_value: id,
                    address: deed.address.to_string(),
                    action: action.into(),
                    event: event.into(),
                    ..LedgerEntry::default()
                });
            }
        }
        told.clone()
    }

    /// A state that this lease's engine may bring.
    pub(super) fn state_for(&mut self, lease: usize, bring: Bring) -> Option<State> {
        let given = &self.plain.leases[lease];
        let job = &self.plain.jobs[given.job];
        let workspace = job.workspace.map(|index| &self.plain.workspaces[index])?;
        let base = job.base.map(|base| workspace.states[base].clone());
        let newest = given.checkpoint.clone().or(base);
        let proved = given.told.len() as u64;
        let state = self.state_after(newest, bring)?;
        Some(State {
            ledger_seq: proved.saturating_sub(state.content % 3),
            lease: Some(lease),
            source: "checkpoint",
            ..state
        })
    }

    pub(super) fn state_after(&mut self, newest: Option<State>, bring: Bring) -> Option<State> {
        self.contents += 1;
        let known = newest.unwrap_or(State {
            content: self.contents,
            serial: 1,
            lineage: "life".to_owned(),
            ledger_seq: 0,
            source: "push",
            lease: None,
            waiting: false,
        });
        let known = State {
            source: "push",
            lease: None,
            waiting: false,
            ledger_seq: 0,
            ..known
        };
        match bring {
            Bring::Nothing => None,
            Bring::Same => Some(known),
            Bring::Serial(above) => Some(State {
                content: self.contents,
                serial: known.serial.saturating_add_signed(above),
                ..known
            }),
            Bring::Stranger => Some(State {
                content: self.contents,
                lineage: format!("life {}", self.contents),
                ..known
            }),
        }
    }

    pub(super) fn bytes(&self, content: u64) -> String {
        format!("state {content} of {}", self.organization)
    }

    /// A state, put by whoever is about to name it.
    /// The state of a finish: every second one is put, the others come with it.
    pub(super) async fn brought(
        &self,
        state: Option<&State>,
        holder: Holder,
    ) -> (Option<Checkpoint>, Option<NewBlob>) {
        let Some(wanted) = state.filter(|state| state.serial % 2 == 1) else {
            return (self.put(state, holder).await, None);
        };
        let bytes = self.bytes(wanted.content).as_bytes().to_vec();
        let id = BlobId {
            digest: Digest::of(&bytes),
            size: bytes.len() as u64,
        };
        let checkpoint = Checkpoint {
            blob: id,
            serial: wanted.serial,
            lineage: wanted.lineage.clone(),
            ledger_seq: wanted.ledger_seq,
        };
        let content = BlobContent::Inline(bytes);
        (Some(checkpoint), Some(NewBlob::new(id, content)))
    }

    pub(super) async fn put(&self, state: Option<&State>, holder: Holder) -> Option<Checkpoint> {
        let state = state?;
        let bytes = self.bytes(state.content);
        let (blob, _) = self.world.put(bytes.as_bytes(), holder).await;
        Some(Checkpoint {
            blob,
            serial: state.serial,
            lineage: state.lineage.clone(),
            ledger_seq: state.ledger_seq,
        })
    }
}

const ACTIONS: [LedgerAction; 5] = [
    LedgerAction::Create,
    LedgerAction::Update,
    LedgerAction::Delete,
    LedgerAction::Replace,
    LedgerAction::Read,
];

/// A plan names an address once.
pub(super) fn planned(plan: &[(usize, usize)]) -> Vec<(usize, LedgerAction)> {
    let by_address: BTreeMap<usize, usize> = plan.iter().copied().collect();
    let each = by_address.into_iter();
    each.map(|(address, action)| (address, ACTIONS[action]))
        .collect()
}

pub(super) fn change((address, action): &(usize, LedgerAction)) -> v1::IntendedChange {
    v1::IntendedChange {
        address: address.to_string(),
        action: (*action).into(),
        id: String::new(),
    }
}

/// The events of one operation, in order: it ends before another one begins.
fn events(deed: Deed) -> Vec<(LedgerEvent, LedgerAction)> {
    let action = ACTIONS[deed.action];
    let then = match deed.ending {
        Ending::Open => None,
        Ending::Complete => Some(LedgerEvent::Complete),
        Ending::Errored => Some(LedgerEvent::Errored),
        Ending::Provisioning => Some(LedgerEvent::ProvisionStarted),
    };
    let all = [Some(LedgerEvent::Started), then];
    all.into_iter()
        .flatten()
        .map(|event| (event, action))
        .collect()
}
