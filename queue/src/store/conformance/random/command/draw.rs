//! How commands are drawn: what is likely, and within which bounds.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

fn back() -> impl Strategy<Value = Back> {
    prop_oneof![5 => Just(0), 3 => 0..4_u8, 1 => any::<u8>()].prop_map(Back)
}

fn bring() -> impl Strategy<Value = Bring> {
    prop_oneof![
        4 => Just(Bring::Nothing),
        5 => (1..3_i64).prop_map(Bring::Serial),
        1 => (-1..1_i64).prop_map(Bring::Serial),
        1 => Just(Bring::Same),
        1 => Just(Bring::Stranger),
    ]
}

fn deed() -> impl Strategy<Value = Deed> {
    let endings = [
        Ending::Open,
        Ending::Complete,
        Ending::Complete,
        Ending::Errored,
        Ending::Provisioning,
    ];
    (0..3_usize, 0..5_usize, select(endings.to_vec())).prop_map(|(address, action, ending)| Deed {
        address,
        action,
        ending,
    })
}

fn load() -> impl Strategy<Value = Load> {
    (0..4_u64, -2..2_i64, vec(deed(), 0..3), bring()).prop_map(|(new, shift, deeds, state)| Load {
        lines: (new, shift),
        deeds,
        state,
    })
}

fn priority() -> impl Strategy<Value = Priority> {
    select(vec![Priority::Interactive, Priority::Automatic])
}

/// Mostly none.
fn deadlines() -> impl Strategy<Value = Deadlines> {
    let some = |seconds: std::ops::Range<u64>| {
        let some = seconds.prop_map(|it| Some(Duration::from_secs(it)));
        prop_oneof![3 => Just(None), 1 => some]
    };
    (some(5..60), some(2..30)).prop_map(|(queue, run)| Deadlines { queue, run })
}

fn transition() -> impl Strategy<Value = Transition> {
    prop_oneof![
        4 => Just(Transition::Start),
        1 => Just(Transition::Stop),
        2 => Just(Transition::Delete),
    ]
}

fn submit() -> impl Strategy<Value = Command> {
    let forget = select(vec![Forget::Refuse, Forget::Refuse, Forget::Drop]);
    let build = (0..WORKSPACES, transition(), forget, priority(), deadlines()).prop_map(
        |(name, transition, forget, priority, deadlines)| {
            Command::Build(Build {
                name,
                transition,
                forget,
                priority,
                deadlines,
            })
        },
    );
    prop_oneof![
        3 => (0..WORKSPACES).prop_map(|name| Command::Create { name }),
        7 => build,
        2 => (select(vec![Wish::Nothing, Wish::Special, Wish::Tofu]), priority(), deadlines())
            .prop_map(|(wish, priority, deadlines)| Command::DryRun { wish, priority, deadlines }),
        2 => back().prop_map(|job| Command::Retry { job }),
    ]
}

fn update() -> impl Strategy<Value = Command> {
    let news = select(vec![News::Fresh, News::Fresh, News::Fresh, News::Repeated]);
    let phase = proptest::option::of(select(Phase::ALL.to_vec()));
    let gate = select(vec![Gate::Asked, Gate::Asked, Gate::NotAsked]);
    let plan = vec((0..4_usize, 0..5_usize), 0..4);
    (back(), news, phase, gate, plan, load()).prop_map(|(lease, news, phase, gate, plan, load)| {
        Command::Update(Update {
            lease,
            news,
            phase,
            gate,
            plan,
            load,
        })
    })
}

fn finish() -> impl Strategy<Value = Command> {
    // Three releases of one job are rare enough.
    let outcome = select([Outcome::ALL, &[Outcome::Released]].concat());
    let reason = select(ReleaseReason::ALL.to_vec());
    (back(), outcome, reason, load(), vec(0..3_usize, 0..2)).prop_map(
        |(lease, outcome, reason, load, unconfirmed)| {
            Command::Finish(Finish {
                lease,
                outcome,
                reason,
                load,
                unconfirmed,
            })
        },
    )
}

fn acquire() -> impl Strategy<Value = Command> {
    let then = select(vec![
        Then::Confirm,
        Then::Confirm,
        Then::Confirm,
        Then::Nothing,
    ]);
    // Most jobs have no wish.
    let daemon = prop_oneof![6 => 0..SPECIAL, 1 => Just(SPECIAL)];
    (daemon, then).prop_map(|(daemon, then)| Command::Acquire { daemon, then })
}

fn hand() -> impl Strategy<Value = Command> {
    prop_oneof![
        7 => acquire(),
        2 => back().prop_map(|lease| Command::Confirm { lease }),
        1 => back().prop_map(|lease| Command::Withdraw { lease }),
        12 => update(),
        5 => finish(),
        1 => (back(), select(vec![Known::Job, Known::Nothing]))
            .prop_map(|(lease, known)| Command::Foreign { lease, known }),
    ]
}

fn people() -> impl Strategy<Value = Command> {
    let cancel = select(vec![Cancel::Cancel, Cancel::Force]);
    let abandon = select(vec![Abandon::Careful, Abandon::Force]);
    let replace = select(vec![Replace::Continue, Replace::Force]);
    let adopt = select(vec![Adopt::Take, Adopt::Discard]);
    let tracked = select(vec![
        Tracked::InDoubt,
        Tracked::InDoubt,
        Tracked::Stranger,
        Tracked::Old,
    ]);
    prop_oneof![
        2 => (back(), cancel).prop_map(|(job, kind)| Command::Cancel { job, kind }),
        2 => (back(), abandon).prop_map(|(job, how)| Command::Abandon { job, how }),
        1 => (0..WORKSPACES, bring(), replace)
            .prop_map(|(name, bring, replace)| Command::Push { name, bring, replace }),
        2 => (0..WORKSPACES, back(), adopt)
            .prop_map(|(name, state, adopt)| Command::Resolve { name, state, adopt }),
        1 => (0..WORKSPACES, 0..4_usize)
            .prop_map(|(name, address)| Command::Forget { name, address }),
        2 => (0..WORKSPACES, vec((0..4_usize, tracked), 0..3))
            .prop_map(|(name, objects)| Command::Show { name, objects }),
    ]
}

fn fleet() -> impl Strategy<Value = Command> {
    let drain = select(vec![Drain::On, Drain::Off, Drain::Off]);
    prop_oneof![
        3 => (0..DAEMONS).prop_map(|daemon| Command::ControlLost { daemon }),
        2 => (0..DAEMONS).prop_map(|daemon| Command::Touch { daemon }),
        2 => (0..DAEMONS).prop_map(|daemon| Command::NewInstance { daemon }),
        1 => (0..DAEMONS, drain).prop_map(|(daemon, drain)| Command::Drain { daemon, drain }),
        1 => Just(Command::DeleteKey),
        6 => Just(Command::CreateKey),
        2 => limit(),
    ]
}

/// Lifted as often as not: what is limited to nothing does nothing.
fn limit() -> impl Strategy<Value = Command> {
    let most = prop_oneof![3 => Just(None), 2 => (1..3_u32).prop_map(Some), 1 => Just(Some(0))];
    (select(LimitOf::ALL.to_vec()), 0..2_usize, most).prop_map(|(of, which, most)| Command::Limit {
        of,
        which,
        most,
    })
}

fn time() -> impl Strategy<Value = Command> {
    prop_oneof![
        12 => (1..4_u64).prop_map(|seconds| Command::Pass { seconds }),
        3 => (4..24_u64).prop_map(|seconds| Command::Pass { seconds }),
        1 => (6..700_u64).prop_map(|seconds| Command::Away { seconds }),
        1 => Just(Command::Away { seconds: 600 }),
    ]
}

/// So many commands.
pub(in crate::store::conformance::random) fn commands(
    count: usize,
) -> impl Strategy<Value = Vec<Command>> {
    let one = prop_oneof![
        6 => submit(),
        30 => hand(),
        4 => people(),
        3 => fleet(),
        5 => time(),
    ];
    vec(one, count)
}
