//! What replicas tell each other, on the one connection that listens.
//!
//! A hint makes things quick and is never the truth: it goes out after COMMIT, in no
//! transaction of the transition (a NOTIFY inside would make all commits wait for each
//! other), many events to a payload, and is lost with the connection. After a break
//! everybody who relies on hints is told so ([`Event::Missed`]) and asks the store;
//! behind each of them stands a timer.

use std::future::poll_fn;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_postgres::types::Type;
use tokio_postgres::{AsyncMessage, Client, Connection};

use super::config::{Tls, Way};
use super::wire;
use crate::shared::jittered;
use crate::store::Event;

/// Where all replicas of a database listen.
const CHANNEL: &str = "provisionerd";

/// Events that may wait for their NOTIFY; beyond, the others are told of a gap.
const QUEUE: usize = 8_192;

/// Between two NOTIFYs: what comes meanwhile shares the next one.
const PAUSE: Duration = Duration::from_millis(5);

/// First wait before another try to connect; it doubles.
const BACKOFF: Duration = Duration::from_millis(50);
/// Longest such wait.
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// How often a silent connection is asked whether it lives.
const ASK: Duration = Duration::from_secs(10);

/// A place in a database's talk.
#[derive(Debug, Clone)]
pub(super) struct Hints {
    out: mpsc::Sender<Vec<Event>>,
}

impl Hints {
    /// Begins to listen and to tell; ends when the last clone is gone.
    pub(super) fn start(way: Way, events: broadcast::Sender<Event>) -> Self {
        let (out, queue) = mpsc::channel(QUEUE);
        let talk = Talk {
            way,
            own: uuid::Uuid::new_v4().to_string(),
            events,
            queue,
            untold: false,
        };
        tokio::spawn(talk.run());
        Self { out }
    }

    /// Tells the other replicas, soon; never waits.
    pub(super) fn tell(&self, events: Vec<Event>) {
        // A full queue is a gap like a broken connection: their timers find it.
        let _full = self.out.try_send(events);
    }
}

struct Talk {
    way: Way,
    own: String,
    events: broadcast::Sender<Event>,
    queue: mpsc::Receiver<Vec<Event>>,
    /// Whether something of ours was not told.
    untold: bool,
}

/// Why a connection was given up.
enum Ended {
    /// The store is closed.
    Closed,
    Broken(tokio_postgres::Error),
    Silent,
}

impl Talk {
    async fn run(mut self) {
        let mut backoff = BACKOFF;
        loop {
            let begun = Instant::now();
            match self.listen().await {
                Ended::Closed => return,
                Ended::Broken(error) => {
                    tracing::warn!(error = %crate::refusal::chain(&error),
                        "the connection for the replicas' hints broke");
                }
                Ended::Silent => tracing::warn!("the connection for the replicas' hints is silent"),
            }
            if begun.elapsed() > BACKOFF_MAX {
                backoff = BACKOFF;
            }
            if !self.rest(jittered(backoff)).await {
                return;
            }
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// Waits, and drops what would be told: `false` when the store is closed.
    async fn rest(&mut self, wait: Duration) -> bool {
        let wait = tokio::time::sleep(wait);
        tokio::pin!(wait);
        loop {
            // Both branches are cancel safe.
            tokio::select! {
                () = &mut wait => return true,
                untold = self.queue.recv() => match untold {
                    Some(_) => self.untold = true,
                    None => return false,
                },
            }
        }
    }

    /// Serves one connection.
    async fn listen(&mut self) -> Ended {
        let (incoming, mut notes) = mpsc::channel(QUEUE);
        let client = match connect(&self.way, incoming).await {
            Ok(client) => client,
            Err(error) => return Ended::Broken(error),
        };
        let listen = format!("LISTEN {CHANNEL}");
        if let Err(ended) = answered(client.batch_execute(&listen)).await {
            return ended;
        }
        // From here on nothing is missed; what came before may have been.
        self.hear(Event::Missed);
        if self.untold {
            if let Err(ended) = self.say(&client, vec![Event::Missed]).await {
                return ended;
            }
            self.untold = false;
        }
        let mut ask = tokio::time::interval(ASK);
        ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut quiet_until = Instant::now();
        loop {
            let queue = &mut self.queue;
            let next = async {
                tokio::time::sleep_until(quiet_until).await;
                queue.recv().await
            };
            // All branches are cancel safe; what one of them took is served to its end.
            let served = tokio::select! {
                note = notes.recv() => match note {
                    Some(Ok(payload)) => {
                        wire::unpack(&self.own, &payload).into_iter().for_each(|e| self.hear(e));
                        Ok(())
                    }
                    Some(Err(error)) => Err(Ended::Broken(error)),
                    None => Err(Ended::Silent),
                },
                events = next => match events {
                    Some(first) => {
                        let said = self.say_all(&client, first).await;
                        quiet_until = Instant::now() + PAUSE;
                        said
                    }
                    None => Err(Ended::Closed),
                },
                _ = ask.tick() => lives(&client).await,
            };
            if let Err(ended) = served {
                return ended;
            }
        }
    }

    fn hear(&self, event: Event) {
        // Nobody listening is no error.
        let _ = self.events.send(event);
    }

    /// Tells `first` and whatever else waits.
    async fn say_all(&mut self, client: &Client, first: Vec<Event>) -> Result<(), Ended> {
        let mut events = first;
        while let Ok(more) = self.queue.try_recv() {
            events.extend(more);
        }
        let said = self.say(client, events).await;
        self.untold |= said.is_err();
        said
    }

    async fn say(&self, client: &Client, events: Vec<Event>) -> Result<(), Ended> {
        for payload in wire::pack(&self.own, events) {
            let sql = "SELECT pg_notify($1, $2)";
            let parameters = [(&CHANNEL as _, Type::TEXT), (&payload as _, Type::TEXT)];
            answered(client.query_typed(sql, &parameters)).await?;
        }
        Ok(())
    }
}

/// Asks for a sign of life, with something that has to be done now and then anyway.
async fn lives(client: &Client) -> Result<(), Ended> {
    const TIDY: &str = "DELETE FROM commits WHERE at < clock_timestamp() - interval '10 minutes'";
    answered(client.batch_execute(TIDY)).await
}

async fn answered<T>(
    answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<(), Ended> {
    match tokio::time::timeout(ASK, answer).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(Ended::Broken(error)),
        Err(_) => Err(Ended::Silent),
    }
}

type Note = Result<String, tokio_postgres::Error>;

/// Connects; notifications go to `incoming`, and the reason when the connection ends.
async fn connect(way: &Way, incoming: mpsc::Sender<Note>) -> Result<Client, tokio_postgres::Error> {
    match way.tls.clone() {
        Tls::Plain(tls) => {
            let (client, connection) = way.config.connect(tls).await?;
            tokio::spawn(drive(connection, incoming));
            Ok(client)
        }
        Tls::Verified(tls) => {
            let (client, connection) = way.config.connect(tls).await?;
            tokio::spawn(drive(connection, incoming));
            Ok(client)
        }
    }
}

/// Moves a connection's bytes until it ends, by itself or with its client.
async fn drive<S, T>(mut connection: Connection<S, T>, incoming: mpsc::Sender<Note>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
        let note = match message {
            Ok(AsyncMessage::Notification(note)) => Ok(note.payload().to_owned()),
            Ok(_) => continue,
            Err(error) => Err(error),
        };
        // Gone, or too far behind: the end of the connection makes a gap that is told.
        if incoming.try_send(note).is_err() {
            return;
        }
    }
}
