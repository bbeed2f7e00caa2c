//! Control: makes cancel and drain quick. The update's reply stays the truth, so nothing
//! here has to arrive. A stream that stands, or short calls where none does: here the
//! daemon finds out which, see [`way`](super::way).

mod calls;

use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::timings::Timings;
use proto::transport::Transport;
use proto::v1::control_event::Event;
use proto::v1::{ControlEvent, ControlRequest};
use tokio::sync::MutexGuard;
use tokio::time::timeout;
use tonic::{Status, Streaming};

use super::acquire;
use super::backoff::Backoff;
use super::comeback::Hands;
use super::context::Context;
use super::deliver::locked_out;
use super::shutdown::{Shutdown, Step};
use super::way::{Doubts, Then, Went};
use crate::connect::{self, Retry};

/// Whether the queue has taken our key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Never,
    Once,
}

/// What is remembered from one stream to the next.
struct Streams {
    backoff: Backoff,
    known: Known,
    doubts: Doubts,
}

/// How a stream ended.
enum Ended {
    /// It never brought anything.
    Silent,
    /// By the queue, or on the way.
    Over(Option<Status>),
}

/// Looks after it until the daemon has ended: also while it drains, since its jobs can
/// still be cancelled.
pub async fn run(context: Arc<Context>) {
    let mut streams = Streams {
        backoff: Backoff::new(&context.options.timings),
        known: Known::Never,
        doubts: Doubts::default(),
    };
    tokio::select! {
        () = context.closing.cancelled() => {}
        () = streams.look_after(&context) => {}
    }
}

impl Streams {
    /// Never returns.
    async fn look_after(&mut self, context: &Context) {
        loop {
            match context.way.now() {
                Transport::Streams => self.stream(context).await,
                Transport::Unary => self.calls(context).await,
            }
        }
    }

    /// One stream, what follows from how it went, and the wait before the next.
    async fn stream(&mut self, context: &Context) {
        let begun = Instant::now();
        let ended = self.listen(context, None).await;
        let went = went(context, begun, &ended);
        self.over(context, ended);
        let left = match went.map(|went| self.doubts.note(went)) {
            None | Some(Then::GoOn) => false,
            Some(Then::Ask) => {
                self.ask(context).await;
                false
            }
            Some(Then::AskAndLeave) => self.ask(context).await,
        };
        if left {
            return self.leave(context);
        }
        tokio::time::sleep(self.wait(context)).await;
    }

    /// How long to stay away.
    fn wait(&mut self, context: &Context) -> Duration {
        let timings = &context.options.timings;
        let (hands, step) = if context.jobs.is_empty() {
            (Hands::Free, self.backoff.step())
        } else {
            (Hands::Full, Duration::ZERO)
        };
        let now = Instant::now();
        context.comeback.lost(hands, step, now, timings)
    }

    /// Streams do not come through and short calls do.
    fn leave(&mut self, context: &Context) {
        let timings = &context.options.timings;
        tracing::warn!(
            transport = Transport::Unary.as_str(),
            streams = self.doubts.seen(timings),
            retry.after_s = timings.stream_retry.as_secs(),
            "something between this daemon and the queue holds streams back or cuts them: short calls are used instead"
        );
        self.doubts.forget();
        context.way.switch(Transport::Unary);
    }

    fn over(&self, context: &Context, ended: Ended) {
        context.seen.lost();
        match ended {
            // It may have been revoked while no stream was there to say so.
            Ended::Over(Some(status)) if locked_out(&status) && self.known == Known::Once => {
                key_revoked(context);
            }
            Ended::Over(Some(status)) => tracing::debug!(error = %status, "control stream lost"),
            Ended::Silent => tracing::debug!("a control stream brought nothing"),
            Ended::Over(None) => {}
        }
    }

    /// Listens to a stream until it ends. With a `turn` it is on trial: it is the way to the
    /// queue once it has stood for a while.
    async fn listen(&mut self, context: &Context, turn: Option<MutexGuard<'_, ()>>) -> Ended {
        context.seen.tries(Instant::now());
        let timings = &context.options.timings;
        let mut leaving = context.trigger.watch();
        // Whether the stream that stands has said so.
        let mut said = leaving.step() >= Step::Drain;
        let mut events = match self.begin(context).await {
            Ok(events) => events,
            Err(ended) => return ended,
        };
        let mut turn = turn;
        let stands = tokio::time::sleep(timings.stream_cut);
        tokio::pin!(stands);
        loop {
            // All branches are cancel safe.
            let event = tokio::select! {
                event = timeout(dead(context), events.message()) => event,
                () = context.way.held_back(), if turn.is_none() => return Ended::Silent,
                () = &mut stands, if turn.is_some() => {
                    tracing::info!("streams to the queue work again");
                    context.way.switch(Transport::Streams);
                    turn = None;
                    continue;
                }
                () = leaving.reached(Step::Drain), if !said => {
                    said = true;
                    // Without jobs it is gone at once.
                    if !context.jobs.is_empty() {
                        match self.begin(context).await {
                            // The queue takes the newer of two for the one that counts.
                            Ok(newer) => events = newer,
                            Err(ended) => return ended,
                        }
                    }
                    continue;
                }
            };
            match event {
                Ok(Ok(Some(event))) => self.hear(context, event),
                Ok(Ok(None)) => return Ended::Over(None),
                Ok(Err(status)) => return Ended::Over(Some(status)),
                Err(_) => {
                    let status = Status::unavailable("the control stream is silent");
                    return Ended::Over(Some(status));
                }
            }
        }
    }

    /// A stream that has brought something.
    async fn begin(&mut self, context: &Context) -> Result<Streaming<ControlEvent>, Ended> {
        let timings = &context.options.timings;
        match timeout(timings.first_message, open(context)).await {
            Ok(Ok((events, first))) => {
                self.known = Known::Once;
                self.hear(context, first);
                Ok(events)
            }
            Ok(Err(status)) => Err(Ended::Over(Some(status))),
            Err(_) => Err(Ended::Silent),
        }
    }

    fn hear(&mut self, context: &Context, event: ControlEvent) {
        self.backoff.reset();
        context.seen.heard(Instant::now());
        on(context, event);
    }
}

/// Opens a stream and waits for the word that the queue opens it with.
async fn open(context: &Context) -> Result<(Streaming<ControlEvent>, ControlEvent), Status> {
    let mut client = context.client.clone();
    let mut events = client.control(introduction(context)).await?.into_inner();
    match events.message().await? {
        Some(first) => Ok((events, first)),
        None => Err(Status::unavailable("the control stream ended at once")),
    }
}

fn introduction(context: &Context) -> ControlRequest {
    let options = &context.options;
    ControlRequest {
        running: context.jobs.running(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        slots: options.slots,
        tags: options.tags.clone().into_iter().collect(),
        facts: acquire::facts(context),
        draining: context.trigger.step() >= Step::Drain,
    }
}

/// What a stream tells of the way; nothing when it was the queue that ended or refused it.
fn went(context: &Context, begun: Instant, ended: &Ended) -> Option<Went> {
    let stood = begun.elapsed() > context.options.timings.stream_cut;
    match ended {
        Ended::Silent => Some(Went::Silent),
        Ended::Over(_) if stood => Some(Went::Stood),
        Ended::Over(Some(status)) if is_the_queues(status) => None,
        Ended::Over(_) => Some(Went::Cut),
    }
}

fn is_the_queues(status: &Status) -> bool {
    connect::retry(status) == Retry::Never || status.metadata().contains_key("x-error-code")
}

fn dead(context: &Context) -> Duration {
    let timings = &context.options.timings;
    match context.jobs.is_empty() {
        true => dead_idle(timings),
        // Three missing signs of life.
        false => timings.control_alive * 3,
    }
}

/// One missing sign of life: those of a daemon without jobs are rare, and who watches it
/// must not take a silent path for a daemon that tries no more.
fn dead_idle(timings: &Timings) -> Duration {
    timings.control_idle * 5 / 3
}

fn on(context: &Context, event: ControlEvent) {
    match event.event {
        Some(Event::Cancel(cancel)) => context.jobs.cancel(&cancel.job_id, cancel.kind()),
        Some(Event::Drain(_)) => drained(context),
        Some(Event::KeyRevoked(_)) => key_revoked(context),
        Some(Event::Alive(alive)) => {
            let within = Duration::from_millis(alive.return_within_ms);
            context.comeback.told(within);
        }
        None => {}
    }
}

/// An operator wants no more jobs here.
pub(super) fn drained(context: &Context) {
    if context.trigger.step() == Step::Run {
        tracing::info!(
            "this daemon was drained at the queue: it ends, now and at each start, until \
             `provisionerd daemons undrain {}`",
            context.options.name
        );
    }
    context.trigger.at_least(Step::Drain);
}

/// Jobs before the gate end now, the others as their leases do; their journals wait on
/// disk for a daemon with a valid key.
fn key_revoked(context: &Context) {
    if !context.is_revoked() {
        tracing::error!("the provisioner key was revoked; the daemon takes no more jobs and ends");
    }
    context.revoke();
    context.trigger.at_least(Step::Drain);
}

/// Passes the operator's steps on to the daemon, which may be further down already.
pub async fn forward(context: Arc<Context>, mut outer: Shutdown) {
    for step in [Step::Drain, Step::Cancel, Step::Kill] {
        tokio::select! {
            () = outer.reached(step) => context.trigger.at_least(step),
            () = context.closing.cancelled() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::v1::Alive;

    use super::*;
    use crate::daemon::scripted::bench;
    use crate::daemon::seen;

    #[test]
    fn a_silent_path_is_given_up_before_the_daemon_is() {
        let timings = Timings::default();
        // The queue speaks every 60 s ± 20 %, looked at every twelfth part of that.
        let latest = timings.control_idle.mul_f64(1.2) + timings.control_idle / 12;
        assert!(dead_idle(&timings) > latest + timings.first_message);
        assert!(dead_idle(&timings) < seen::SILENT);
    }

    #[tokio::test]
    async fn what_the_queue_says_of_the_return_of_its_daemons_counts_when_it_is_lost() {
        let bench = bench(1).await;
        let context = &bench.context;
        let timings = &context.options.timings;
        let waits = (0..100).map(|_| {
            let alive = Alive {
                return_within_ms: 1_000,
            };
            let event = Some(Event::Alive(alive));
            on(context, ControlEvent { event });
            let now = Instant::now();
            context
                .comeback
                .lost(Hands::Free, Duration::ZERO, now, timings)
        });
        let longest = waits.max().expect("some");
        // A hundred draws below half of it: once in 2^100.
        assert!(longest > Duration::from_millis(500), "{longest:?}");
        assert!(longest <= Duration::from_secs(1), "{longest:?}");
    }
}
