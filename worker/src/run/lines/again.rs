//! A log read again: first the lines that a dead worker had given numbers, each under its
//! own; then what it had not come to.

use proto::v1::{LineRun, LineSource, LogLevel, LogSource};
use tokio::sync::watch;

use super::{Cursor, words};
use crate::job_dir::JobDir;
use crate::run::files;
use crate::run::pieces::Origin;
use crate::run::spool::{Past, Spot, Which};
use crate::run::stream::{Open, Stream};
use crate::run::tail::Writer;

/// What a dead worker left.
pub(in crate::run) struct Left {
    pub(in crate::run) dir: JobDir,
    pub(in crate::run) past: Past,
    /// The last line that is stored.
    pub(in crate::run) after: u64,
}

impl Cursor {
    /// Everything behind `left.after`; the last sequence.
    pub(super) async fn again(mut self, left: Left) -> u64 {
        let runs = left.past.runs.iter();
        for run in runs.filter(|run| run.seq + run.count - 1 > left.after) {
            self.replay(run, &left).await;
        }
        self.flush().await;
        self.seq = left.past.last_seq().max(left.after);
        for (number, source) in (0..).zip(&left.past.sources) {
            self.rest_of(number, source, &left).await;
            self.flush().await;
        }
        self.seq
    }

    /// The same lines once more. One that cannot be made again leaves a word in its place.
    async fn replay(&mut self, run: &LineRun, left: &Left) {
        let which = Which {
            source: run.source,
            stderr: run.stderr,
        };
        let spot = Spot {
            offset: run.offset,
            piece: run.piece,
        };
        let seqs = run.seq..run.seq + run.count;
        let mut seq = run.seq;
        let source = usize::try_from(run.source).unwrap_or(usize::MAX);
        let Some(source) = left.past.sources.get(source) else {
            return;
        };
        if source.number == 0 {
            let said = words(source).skip_while(|(_, before, _)| *before != spot);
            for (line, ..) in said.take(usize::try_from(run.count).unwrap_or(usize::MAX)) {
                self.repeat(&mut seq, line, left.after).await;
            }
        } else if let Some(mut stream) = left.stream(source, which, spot) {
            while seq < seqs.end
                && let Ok(Some(shown)) = stream.next(Writer::Ended)
            {
                for (line, ..) in shown.lines() {
                    if seq < seqs.end {
                        self.repeat(&mut seq, line, left.after).await;
                    }
                }
            }
        }
        while seq < seqs.end {
            let lost = Origin {
                time_ms: crate::run::clock::now_ms(),
                phase: source.phase(),
                source: LogSource::Gap,
                level: LogLevel::Warn,
            };
            let line = lost.line("this line was lost with its output file");
            self.repeat(&mut seq, line, left.after).await;
        }
    }

    async fn repeat(&mut self, seq: &mut u64, line: proto::v1::LogLine, after: u64) {
        if *seq > after {
            self.seq = *seq - 1;
            self.push(line, None).await;
        }
        *seq += 1;
    }

    /// What was never handed over of one source.
    async fn rest_of(&mut self, number: u32, source: &LineSource, left: &Left) {
        let which = |stderr| Which {
            source: number,
            stderr,
        };
        let spot = |stderr| left.past.end_of(which(stderr));
        if source.number == 0 {
            return self.system(number, source, spot(false)).await;
        }
        let stdout = source
            .stdout
            .then(|| left.stream(source, which(false), spot(false)));
        let stderr = left.stream(source, which(true), spot(true));
        let streams = stdout.flatten().into_iter().chain(stderr).collect();
        let (_end, ended) = watch::channel(true);
        self.follow_streams(streams, source.phase(), ended).await;
    }
}

impl Left {
    /// `None` where there is no file: its process never began.
    fn stream(&self, source: &LineSource, which: Which, spot: Spot) -> Option<Stream> {
        let path = match which.stderr {
            true => self.dir.stderr(source.number, source.process()),
            false => self.dir.stdout(source.number, source.process()),
        };
        let name = path.file_name()?.to_str()?.to_owned();
        let file = match files::open(&self.dir.out(), &name) {
            Ok(file) => file,
            Err(error) if error.is_missing() => return None,
            Err(error) => {
                tracing::error!(%error, "an output file cannot be read again");
                return None;
            }
        };
        let thinned = self.past.thinned.get(&which).cloned().unwrap_or_default();
        let stream = Stream::new(Open { file, name }, which, source.phase(), spot);
        Some(stream.thinned(thinned))
    }
}
