//! A worker that has been taken over sends what it likes: frames that were valid until a
//! byte of them was changed, lost, doubled or put in, and requests whose fields are drawn.
//! What is let through must be an order by rules that stand here again.

use proptest::prelude::*;
use proptest::sample::select;
use proto::frame::{self, Decoder};
use proto::limits;
use proto::v1::to_supervisor_from_worker::Message;
use proto::v1::{EnvPair, Process, StartProcess, ToSupervisorFromWorker};

use super::{Command, Order};

/// Names that are allowed, that nearly are, and that must never be.
fn name() -> impl Strategy<Value = String> {
    let known = select(vec![
        "CODER_WORKSPACE_NAME",
        "CODER_",
        "TF_LOG",
        "TF_CLI_ARGS",
        "LD_PRELOAD",
        "AWS_SECRET_ACCESS_KEY",
        "PATH",
        "PATH=x",
        "",
    ]);
    prop_oneof![known.prop_map(str::to_owned), "[A-Z_=\\x00é]{0,12}"]
}

fn file() -> impl Strategy<Value = String> {
    let known = select(vec![
        "",
        "plan.out",
        "a/b",
        "../x",
        "/etc/passwd",
        "-x",
        "a//b",
        ".",
    ]);
    prop_oneof![known.prop_map(str::to_owned), "[a./\\-\\x00]{0,8}"]
}

fn request() -> impl Strategy<Value = StartProcess> {
    let pair = (name(), "[a-z=\\x00]{0,6}").prop_map(|(name, value)| EnvPair { name, value });
    let env = prop::collection::vec(pair, 0..4);
    let flags = (any::<bool>(), any::<bool>());
    (0_u32..9, -1_i32..8, file(), file(), flags, env).prop_map(
        |(number, process, plan_file, var_file, (destroy, plain), env)| StartProcess {
            number,
            process,
            plan_file,
            var_file,
            destroy,
            plain,
            env,
        },
    )
}

/// One change of a frame on the wire.
#[derive(Debug, Clone)]
enum Change {
    Flip(usize, u8),
    Lose(usize),
    Double(usize),
    Insert(usize, u8),
    Cut(usize),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (any::<usize>(), 1_u8..).prop_map(|(at, bits)| Change::Flip(at, bits)),
        any::<usize>().prop_map(Change::Lose),
        any::<usize>().prop_map(Change::Double),
        (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Change::Insert(at, byte)),
        any::<usize>().prop_map(Change::Cut),
    ]
}

impl Change {
    fn apply(&self, wire: &mut Vec<u8>) {
        let within = |at: usize| at % wire.len().max(1);
        match *self {
            _ if wire.is_empty() => {}
            Self::Flip(at, bits) => {
                let at = within(at);
                wire[at] ^= bits;
            }
            Self::Lose(at) => drop(wire.remove(within(at))),
            Self::Double(at) => {
                let at = within(at);
                wire.insert(at, wire[at]);
            }
            Self::Insert(at, byte) => {
                let at = within(at);
                wire.insert(at, byte);
            }
            Self::Cut(at) => wire.truncate(within(at)),
        }
    }
}

fn wire(request: StartProcess) -> Vec<u8> {
    let mut wire = Vec::new();
    let message = Some(Message::Start(request));
    frame::encode(&ToSupervisorFromWorker { message }, &mut wire);
    wire
}

/// All frames up to the first bad one, the bytes arriving in such pieces.
fn received(wire: &[u8], piece: usize) -> (Vec<ToSupervisorFromWorker>, bool) {
    let mut decoder = Decoder::new(limits::SUPERVISOR_FRAME);
    let mut frames = Vec::new();
    for bytes in wire.chunks(piece.max(1)) {
        decoder.push(bytes);
        loop {
            match decoder.take_exact() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
    }
    (frames, false)
}

/// The rules of an order, written a second time.
fn check(order: &Order) {
    for EnvPair { name, value } in &order.env {
        assert!(
            name.starts_with("CODER_") || super::ENV_NAMES.contains(&name.as_str()),
            "{name}"
        );
        assert!(
            !name.contains(['=', '\0']) && !value.contains('\0'),
            "{name}"
        );
        let same = order.env.iter().filter(|pair| pair.name == *name);
        assert_eq!(same.count(), 1, "{name}");
    }
    let files: Vec<&String> = match &order.command {
        Command::Version | Command::Init { .. } => Vec::new(),
        Command::Plan {
            plan_file,
            var_file,
            ..
        } => std::iter::once(plan_file).chain(var_file).collect(),
        Command::Show { plan_file } => plan_file.iter().collect(),
        Command::Apply { plan_file } => vec![plan_file],
    };
    for file in files {
        let path = std::path::Path::new(file);
        let plain = path
            .components()
            .all(|part| matches!(part, std::path::Component::Normal(_)));
        assert!(path.is_relative() && plain && !file.is_empty(), "{file:?}");
        assert!(!file.starts_with('-') && !file.contains("/-"), "{file:?}");
        assert!(!file.chars().any(char::is_control), "{file:?}");
    }
    let applies = matches!(order.command, Command::Apply { .. });
    assert_eq!(order.command.changes_the_world(), applies);
    assert_eq!(order.process == Process::Apply, applies);
}

proptest! {
    #[test]
    fn only_orders_come_through(request in request()) {
        if let Ok(order) = Order::parse(request.clone()) {
            check(&order);
            // Nothing that was asked for is dropped on the way.
            prop_assert_eq!(order.number, request.number);
            prop_assert_eq!(order.env, request.env);
        }
    }

    #[test]
    fn a_valid_frame_that_was_changed_is_refused_or_is_another_order(
        requests in prop::collection::vec(request(), 1..4),
        changes in prop::collection::vec(change(), 0..4),
        piece in 1_usize..40,
    ) {
        let mut bytes: Vec<u8> = requests.iter().cloned().flat_map(wire).collect();
        for change in &changes {
            change.apply(&mut bytes);
        }
        let (frames, broken) = received(&bytes, piece);
        // However the bytes arrive.
        prop_assert_eq!(&(frames.clone(), broken), &received(&bytes, bytes.len()));
        // What was taken is, byte for byte, what was sent.
        for taken in &frames {
            let body = prost::Message::encode_to_vec(taken);
            prop_assert!(body.is_empty() || bytes.windows(body.len()).any(|sent| sent == body));
        }
        if changes.is_empty() {
            prop_assert!(!broken);
            prop_assert_eq!(frames.len(), requests.len());
        }
        for taken in frames {
            if let Some(Message::Start(request)) = taken.message
                && let Ok(order) = Order::parse(request)
            {
                check(&order);
            }
        }
    }

    #[test]
    fn noise_is_an_error_or_nothing_and_never_more_than_was_sent(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        piece in 1_usize..40,
    ) {
        let (frames, _) = received(&bytes, piece);
        let taken: usize = frames.iter().map(prost::Message::encoded_len).sum();
        prop_assert!(taken <= bytes.len());
    }
}
