//! Statements that travel together: sent one behind the other, answered in that order,
//! waited for once.
//!
//! Where every connection is a session of its own, statements are prepared, once for each
//! connection. Behind a proxy that gives each transaction another session they travel
//! unnamed: a name may mean something else there.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::task::Poll;

use deadpool_postgres::Object;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, Row, Statement};
use tokio_stream::StreamExt as _;

use super::bundles::Item;
use super::rows::{Parameter, translated};
use super::setwise::{self, Does};
use crate::store::Result as StoreResult;
use crate::store::sql::rows::{Cell, Columns, Value};

/// Texts that are kept translated: more than there are. What is made up as it goes, as
/// backups do it, is not kept beyond.
const KEPT: usize = 1_000;

/// How statements reach the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Naming {
    /// Under a name, planned once for each connection.
    Prepared,
    /// Without one, planned each time.
    Unnamed,
}

/// A statement as PostgreSQL reads it.
#[derive(Debug)]
pub(super) struct Text {
    /// For one row of parameters.
    pub one: Arc<str>,
    /// The table whose rows it holds, if it does.
    pub holds: Option<Box<str>>,
    many: OnceLock<Option<(Arc<str>, Does)>>,
}

impl Text {
    fn of(sql: &str) -> Self {
        let one = translated(sql);
        Self {
            holds: setwise::held_by(&one).map(Box::from),
            one: one.into(),
            many: OnceLock::new(),
        }
    }

    /// For many rows of so many parameters, if it can be sent so.
    pub(super) fn many(&self, parameters: usize) -> Option<(Arc<str>, Does)> {
        let many = self.many.get_or_init(|| {
            let (text, does) = setwise::many(&self.one, parameters)?;
            Some((text.into(), does))
        });
        many.clone()
    }
}

/// Statements as PostgreSQL reads them, translated once.
#[derive(Debug, Default)]
pub(super) struct Texts(RwLock<HashMap<Box<str>, Arc<Text>>>);

impl Texts {
    pub(super) fn of(&self, sql: &str) -> Arc<Text> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(text) = known.get(sql) {
            return text.clone();
        }
        let full = known.len() >= KEPT;
        drop(known);
        let text = Arc::new(Text::of(sql));
        if !full {
            let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
            known.insert(sql.into(), text.clone());
        }
        text
    }
}

/// A parameter that is kept until its statement travels.
#[derive(Debug)]
enum Kept {
    Int(Option<i64>),
    Text(Option<Box<str>>),
    Blob(Option<Box<[u8]>>),
}

impl Kept {
    fn of(value: &Value<'_>) -> Self {
        match value {
            Value::Int(number) => Self::Int(*number),
            Value::Text(text) => Self::Text(text.map(Box::from)),
            Value::Blob(bytes) => Self::Blob(bytes.map(Box::from)),
        }
    }

    fn value(&self) -> Value<'_> {
        match self {
            Self::Int(number) => Value::Int(*number),
            Self::Text(text) => Value::Text(text.as_deref()),
            Self::Blob(bytes) => Value::Blob(bytes.as_deref()),
        }
    }
}

/// A statement that waits for another one to travel with.
#[derive(Debug)]
pub(super) struct Waiting {
    text: Arc<Text>,
    values: Vec<Kept>,
}

impl Waiting {
    pub(super) fn of(text: Arc<Text>, values: &[Value<'_>]) -> Self {
        Self {
            text,
            values: values.iter().map(Kept::of).collect(),
        }
    }

    /// As what this member wants to be sent.
    pub(super) fn item(&self, member: usize, answer: Option<usize>) -> Item<'_> {
        Item {
            member,
            answer,
            text: &self.text,
            values: self.values.iter().map(Kept::value).collect(),
        }
    }
}

/// A statement on its way.
pub(super) struct Outgoing<'v> {
    pub text: Arc<str>,
    pub values: Vec<Parameter<'v>>,
}

impl Outgoing<'_> {
    /// Whether it may change anything: of what begins with these words none does.
    pub(super) fn may_change(&self) -> bool {
        !(self.text.starts_with("SELECT") || self.text.starts_with("WITH"))
    }
}

/// What came back for one.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub rows: Vec<Found>,
    pub changed: u64,
}

/// A row that came back.
#[derive(Debug)]
pub(super) struct Found {
    row: Row,
    /// Columns before its own.
    pub before: usize,
}

impl Columns for Found {
    fn cell(&self, index: usize) -> StoreResult<Cell<'_>> {
        self.row.cell(self.before + index)
    }
}

/// Statements as they can be sent: those with names have them.
pub(super) struct Ready<'v> {
    sent: Vec<Outgoing<'v>>,
    names: Vec<Option<Statement>>,
}

/// Sees to the names of statements, which the first one on a connection waits for.
pub(super) async fn ready<'v>(
    client: &Object,
    naming: Naming,
    sent: Vec<Outgoing<'v>>,
) -> Result<Ready<'v>, Error> {
    let mut names = Vec::with_capacity(sent.len());
    for one in &sent {
        names.push(match naming {
            Naming::Unnamed => None,
            Naming::Prepared => {
                let types: Vec<Type> = one.values.iter().map(Parameter::kind).collect();
                Some(client.prepare_typed_cached(&one.text, &types).await?)
            }
        });
    }
    Ok(Ready { sent, names })
}

impl Ready<'_> {
    /// Sends them, with plain ones before and behind them, and waits for all answers, which
    /// are in that order.
    pub(super) async fn go(
        &self,
        client: &Object,
        before: Option<&str>,
        behind: Option<&str>,
    ) -> Vec<Result<Answer, Error>> {
        let named = self.sent.iter().zip(&self.names);
        let named = named
            .map(|(one, name)| -> Travelling<'_> { Box::pin(answer(client, name.as_ref(), one)) });
        let before = before.into_iter().map(|sql| plain(client, sql));
        let behind = behind.into_iter().map(|sql| plain(client, sql));
        in_order(before.chain(named).chain(behind).collect()).await
    }
}

type Travelling<'t> = Pin<Box<dyn Future<Output = Result<Answer, Error>> + 't>>;

fn plain<'t>(client: &'t Object, sql: &'t str) -> Travelling<'t> {
    Box::pin(async move {
        client.batch_execute(sql).await?;
        Ok(Answer::default())
    })
}

async fn answer(
    client: &Object,
    name: Option<&Statement>,
    sent: &Outgoing<'_>,
) -> Result<Answer, Error> {
    let stream = match name {
        Some(statement) => {
            let values = sent.values.iter().map(|value| value as &(dyn ToSql + Sync));
            client.query_raw(statement, values).await?
        }
        None => {
            let values = sent.values.iter().map(Parameter::typed);
            client.query_typed_raw(&sent.text, values).await?
        }
    };
    let mut stream = pin!(stream);
    let mut rows = Vec::new();
    while let Some(row) = stream.next().await {
        rows.push(Found {
            row: row?,
            before: 0,
        });
    }
    Ok(Answer {
        rows,
        changed: stream.rows_affected().unwrap_or(0),
    })
}

/// Waits for all. Each is begun, and thereby sent, in order; then they are looked at in
/// that order too, in which their answers come.
async fn in_order<T>(mut futures: Vec<Pin<Box<dyn Future<Output = T> + '_>>>) -> Vec<T> {
    let mut done: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    let mut begun = false;
    poll_fn(move |cx| {
        let mut ended = true;
        for (future, done) in futures.iter_mut().zip(&mut done) {
            if done.is_some() {
                continue;
            }
            match future.as_mut().poll(cx) {
                Poll::Ready(value) => *done = Some(value),
                Poll::Pending => {
                    ended = false;
                    if begun {
                        break;
                    }
                }
            }
        }
        begun = true;
        if ended {
            return Poll::Ready(done.drain(..).flatten().collect());
        }
        Poll::Pending
    })
    .await
}
