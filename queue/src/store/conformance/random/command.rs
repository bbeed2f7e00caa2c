//! The commands of the model test, as data: nothing in them depends on an answer, so
//! that any of them can be left out when a failure is made smaller.

mod draw;

pub(super) use draw::commands;

use crate::store::model::{Abandon, Deadlines, Drain, Forget, Gate, Replace};
use crate::words::{Cancel, LimitOf, Outcome, Phase, Priority, ReleaseReason, Transition};

/// Names of workspaces; the owner of each is one of two.
pub(super) const WORKSPACES: usize = 3;

/// Two daemons without tags and one with a tag of its own.
pub(super) const DAEMONS: usize = 3;

/// The untagged daemon that offers OpenTofu.
pub(super) const TOFU: usize = 1;

/// The daemon with the tag.
pub(super) const SPECIAL: usize = 2;

/// Counts from the newest back; wraps around.
#[derive(Debug, Clone, Copy)]
pub(super) struct Back(u8);

impl Back {
    /// The index it means in a list that long.
    pub(super) fn of(self, len: usize) -> Option<usize> {
        let last = len.checked_sub(1)?;
        Some(last - usize::from(self.0) % len)
    }
}

/// What a job asks for: the tag of the special daemon, or an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Nothing,
    Special,
    Tofu,
}

/// Whether a daemon confirms what it is handed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    Confirm,
    Nothing,
}

/// Whether an update is news or comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    Fresh,
    Repeated,
}

/// How a state that is brought continues the newest one known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bring {
    Nothing,
    /// The very same bytes.
    Same,
    /// Other bytes, this much above or below in serial.
    Serial(i64),
    /// Of another life.
    Stranger,
}

/// One operation of an engine on one of three addresses, by number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deed {
    pub address: usize,
    pub action: usize,
    pub ending: Ending,
}

/// How far an operation comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Open,
    Complete,
    Errored,
    Provisioning,
}

/// What an update or finish brings.
#[derive(Debug, Clone)]
pub(super) struct Load {
    /// How many lines are new, and how many before them are skipped or sent again.
    pub lines: (u64, i64),
    pub deeds: Vec<Deed>,
    pub state: Bring,
}

#[derive(Debug, Clone)]
pub(super) enum Command {
    Create {
        name: usize,
    },
    Build(Build),
    DryRun {
        wish: Wish,
        priority: Priority,
        deadlines: Deadlines,
    },
    Retry {
        job: Back,
    },
    Acquire {
        daemon: usize,
        then: Then,
    },
    Confirm {
        lease: Back,
    },
    Withdraw {
        lease: Back,
    },
    Update(Update),
    Finish(Finish),
    Foreign {
        lease: Back,
        known: Known,
    },
    Cancel {
        job: Back,
        kind: Cancel,
    },
    Abandon {
        job: Back,
        how: Abandon,
    },
    /// Seconds, with a look at the clock each second or so.
    Pass {
        seconds: u64,
    },
    /// Seconds in which nobody looks: the queue was away.
    Away {
        seconds: u64,
    },
    ControlLost {
        daemon: usize,
    },
    Touch {
        daemon: usize,
    },
    /// The daemon dies with its data, and another one comes up under its name.
    NewInstance {
        daemon: usize,
    },
    Drain {
        daemon: usize,
        drain: Drain,
    },
    DeleteKey,
    CreateKey,
    /// Of an owner or a template, by number.
    Limit {
        of: LimitOf,
        which: usize,
        most: Option<u32>,
    },
    Push {
        name: usize,
        bring: Bring,
        replace: Replace,
    },
    Resolve {
        name: usize,
        state: Back,
        adopt: Adopt,
    },
    Forget {
        name: usize,
        address: usize,
    },
    /// The current state is read, and shows these addresses.
    Show {
        name: usize,
        objects: Vec<(usize, Tracked)>,
    },
}

#[derive(Debug, Clone)]
pub(super) struct Build {
    pub name: usize,
    pub transition: Transition,
    pub forget: Forget,
    pub priority: Priority,
    pub deadlines: Deadlines,
}

#[derive(Debug, Clone)]
pub(super) struct Update {
    pub lease: Back,
    pub news: News,
    pub phase: Option<Phase>,
    pub gate: Gate,
    /// Address and action of what its plan is going to change.
    pub plan: Vec<(usize, usize)>,
    pub load: Load,
}

#[derive(Debug, Clone)]
pub(super) struct Finish {
    pub lease: Back,
    pub outcome: Outcome,
    pub reason: ReleaseReason,
    pub load: Load,
    /// Addresses it names as unconfirmed, when it knows itself.
    pub unconfirmed: Vec<usize>,
}

/// What a stranger knows of a job.
#[derive(Debug, Clone, Copy)]
pub(super) enum Known {
    /// Its id, not its lease.
    Job,
    Nothing,
}

/// Which object of an address a state tracks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tracked {
    /// The first one that is in doubt there.
    InDoubt,
    Stranger,
    /// One that the state before tracked too.
    Old,
}

/// What a person does with a state that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Adopt {
    Take,
    Discard,
}
