//! What replicas tell each other, on the one connection that listens.
//!
//! A hint makes things quick and is never the truth: it goes out after COMMIT, in no
//! transaction of the transition (a NOTIFY inside would make all commits wait for each
//! other), many events to a payload, and is lost with the connection. After a break
//! everybody who relies on hints is told so ([`Event::Missed`]) and asks the store;
//! behind each of them stands a timer.
//!
//! Behind a proxy that pools transactions nothing is ever heard, and nothing says so. So
//! whoever begins to listen first tells itself something, on the way that the others have.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use deadpool_postgres::Pool;
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

/// How long it may take until a hint is heard.
const ECHO: Duration = Duration::from_secs(5);

const NOTIFY: &str = "SELECT pg_notify($1, $2)";

/// A place in a database's talk.
#[derive(Debug, Clone)]
pub(super) struct Hints {
    out: mpsc::Sender<Vec<Event>>,
}

impl Hints {
    /// Begins to listen and to tell; ends when the last clone is gone. What `pool` tells
    /// must be heard on `way`.
    pub(super) fn start(way: Way, pool: Pool, events: broadcast::Sender<Event>) -> Self {
        let (out, queue) = mpsc::channel(QUEUE);
        let talk = Talk {
            way,
            pool,
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
    pool: Pool,
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
        if let Err(ended) = self.hears(&mut notes).await {
            return ended;
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
                note = notes.recv() => said(note).map(|payload| self.take(&payload)),
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

    /// Finds out whether anything is heard on this connection, and warns where nothing is.
    /// Nothing is asked on it meanwhile: with an answer a proxy may by chance hand on what
    /// it does not hand on to a connection that only listens.
    async fn hears(&self, notes: &mut mpsc::Receiver<Note>) -> Result<(), Ended> {
        let echo = wire::echo();
        let (mut telling, mut told) = (pin!(call(&self.pool, &echo)), false);
        let mut over = pin!(tokio::time::sleep(ECHO));
        loop {
            // All branches are cancel safe, `telling` because it is kept.
            tokio::select! {
                note = notes.recv() => match said(note)? {
                    payload if payload == echo => {
                        tracing::debug!("the replicas' hints are heard");
                        return Ok(());
                    }
                    payload => self.take(&payload),
                },
                called = &mut telling, if !told => match called {
                    Ok(()) => {
                        told = true;
                        over.as_mut().reset(Instant::now() + ECHO);
                    }
                    // The database is away, which others find out and tell.
                    Err(error) => {
                        tracing::debug!(error = %crate::refusal::chain(&error),
                            "whether hints are heard was not found out");
                        return Ok(());
                    }
                },
                () = &mut over => {
                    if told {
                        warn_of_deafness();
                    }
                    return Ok(());
                }
            }
        }
    }

    fn take(&self, payload: &str) {
        let events = wire::unpack(&self.own, payload).into_iter();
        events.for_each(|event| self.hear(event));
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
            let parameters = [(&CHANNEL as _, Type::TEXT), (&payload as _, Type::TEXT)];
            answered(client.query_typed(NOTIFY, &parameters)).await?;
        }
        Ok(())
    }
}

fn warn_of_deafness() {
    tracing::warn!(
        "what other replicas tell is not heard: the connection that listens seems to lead \
         through a proxy that pools transactions. Jobs, cancels and logs cross replicas by \
         their ticks only, seconds later; --database-listen-url names the server itself"
    );
}

/// Tells the one who listens what all replicas are told.
async fn call(pool: &Pool, payload: &String) -> crate::store::Result<()> {
    let client = pool.get().await?;
    let parameters = [(&CHANNEL as _, Type::TEXT), (payload as _, Type::TEXT)];
    client.query_typed(NOTIFY, &parameters).await?;
    Ok(())
}

/// What was said, or that nothing more will be.
fn said(note: Option<Note>) -> Result<String, Ended> {
    match note {
        Some(Ok(payload)) => Ok(payload),
        Some(Err(error)) => Err(Ended::Broken(error)),
        None => Err(Ended::Silent),
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
