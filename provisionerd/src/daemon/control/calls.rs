//! Control by short calls, and now and then a try of a stream.

use std::time::{Duration, Instant};

use proto::transport::Transport;
use proto::v1::ControlNowReply;
use tokio::time::timeout;
use tonic::{Code, Status};

use super::{Known, Streams, drained, introduction, key_revoked, locked_out, went};
use crate::daemon::backoff::jitter;
use crate::daemon::context::Context;
use crate::daemon::way::Went;

/// A daemon without jobs asks once in so many turns: its asks for jobs tell of it too.
const IDLE: u32 = 5;

impl Streams {
    /// Asks again and again, until streams work.
    pub(super) async fn calls(&mut self, context: &Context) {
        let timings = &context.options.timings;
        let mut retry_at = Instant::now() + spread(timings.stream_retry);
        for turn in 0_u32.. {
            if Instant::now() >= retry_at {
                self.try_stream(context).await;
                retry_at = Instant::now() + spread(timings.stream_retry);
            }
            if context.way.now() == Transport::Streams {
                return;
            }
            if !context.jobs.is_empty() || turn % IDLE == 0 {
                self.ask(context).await;
            }
            tokio::time::sleep(timings.control_poll).await;
        }
    }

    /// A stream that stands becomes the way again, and is listened to here until it ends.
    async fn try_stream(&mut self, context: &Context) {
        // No job is asked for meanwhile.
        let turn = context.way.turn().await;
        let begun = Instant::now();
        let ended = self.listen(context, Some(turn)).await;
        let went = went(context, begun, &ended);
        self.over(context, ended);
        if context.way.now() == Transport::Streams {
            // It stood, so there is nothing to doubt yet.
            let _ = self.doubts.note(Went::Stood);
        } else {
            tracing::debug!(stream = ?went, "streams do not come through yet");
        }
    }

    /// Asks by a short call; whether it was answered.
    pub(super) async fn ask(&mut self, context: &Context) -> bool {
        context.seen.tries(Instant::now());
        // A slow answer would say little about the way.
        let limit = context.options.timings.first_message / 2;
        let mut client = context.client.clone();
        let asked = timeout(limit, client.control_now(introduction(context))).await;
        let asked = asked.unwrap_or_else(|_| Err(Status::deadline_exceeded("no reply in time")));
        match asked {
            Ok(reply) => {
                self.told(context, reply.into_inner());
                true
            }
            Err(status) => {
                self.not_told(context, &status);
                false
            }
        }
    }

    fn told(&mut self, context: &Context, reply: ControlNowReply) {
        self.known = Known::Once;
        self.backoff.reset();
        if context.way.now() == Transport::Unary {
            context.seen.heard(Instant::now());
        }
        for cancel in reply.cancels {
            context.jobs.cancel(&cancel.job_id, cancel.kind());
        }
        if reply.draining {
            drained(context);
        }
    }

    fn not_told(&mut self, context: &Context, status: &Status) {
        context.seen.lost();
        self.doubts.forget();
        if locked_out(status) && self.known == Known::Once {
            key_revoked(context);
        }
        if status.code() == Code::Unimplemented {
            // A queue, or one replica of it, of an older release.
            context.way.switch(Transport::Streams);
        }
        tracing::debug!(error = %status, "a short call was not answered");
    }
}

/// A fleet does not try in step.
fn spread(wait: Duration) -> Duration {
    wait.mul_f64(0.9) + jitter(wait.mul_f64(0.2))
}
