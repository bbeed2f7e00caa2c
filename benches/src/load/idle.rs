//! What 10,000 daemons cost that wait for work: memory, CPU, statements.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::job::Work;
use super::report::{Row, Verdict};
use super::store::{Postgres, Statements};
use super::world::{Run, World};

/// Promised of each, in KiB of anonymous memory.
const KIB: f64 = 50.0;
/// Promised of all, of one core.
const CORE: f64 = 0.05;
/// Promised on PostgreSQL.
const STATEMENTS: f64 = 300.0;
/// After the last one has dialled: what their arrival caused has passed.
const SETTLED: Duration = Duration::from_secs(20);

/// Twice what an acquire stream lives on average: whoever comes at once renews at once, so
/// that another time would hold a wave of renewals more or less than its share.
const WINDOW: u64 = 116;

/// Measures it.
pub async fn run(run: &Run<'_>) -> Result<Vec<Row>> {
    let world = World::empty(run, 1, Statements::Counted).await?;
    world.import().await?;
    let daemons = run.args.daemons(10_000);
    let window = run.args.window(WINDOW);
    let empty = world.memory_kib();
    let crew = world.crew("idle", daemons, Work::NONE).await?;
    tokio::time::sleep(SETTLED.min(window)).await;
    let counted = world.postgres.as_ref().map(Postgres::counts).transpose()?;
    if let Some(postgres) = &world.postgres {
        postgres.count_from_here();
    }
    let (look, renewed) = (world.look(), crew.renewed());
    tokio::time::sleep(window).await;
    let (spent, renewed) = (world.spent(look), crew.renewed() - renewed);
    let counts = world.postgres.as_ref().map(Postgres::counts).transpose()?;
    let costly = world.postgres.as_ref().map(Postgres::costly);
    let full = world.memory_kib();
    let serve = crew.serve_since(0);
    world.check()?;
    #[allow(clippy::cast_precision_loss)]
    let each = full.saturating_sub(empty) as f64 / daemons as f64;
    let seconds = spent.wall.as_secs_f64();
    let (queue, store) = (spent.cores(spent.queue), spent.cores(spent.store));
    let core = queue + store;
    let data = json!({
        "daemons": daemons, "serve": serve, "kib_without": empty, "kib_with": full,
        "streams_renewed": renewed, "spent": spent.json(), "costly_statements": costly,
    });
    let mut rows = vec![
        Row {
            store: run.store,
            what: format!("{daemons} idle daemons, anonymous memory of the queue for each"),
            figure: format!("{each:.1} KiB"),
            target: format!("<= {KIB} KiB"),
            verdict: Verdict::sure(each <= KIB),
            data,
        },
        Row {
            store: run.store,
            what: format!("{daemons} idle daemons, CPU"),
            figure: format!(
                "{:.1} % of a core: queue {:.1}, database {:.1}; {renewed} streams renewed in {seconds:.0} s",
                core * 100.0,
                queue * 100.0,
                store * 100.0
            ),
            target: format!("<= {} % of a core", CORE * 100.0),
            verdict: Verdict::sure(core <= CORE),
            data: json!({ "cores": core }),
        },
    ];
    if let Some((from, to)) = counted.zip(counts) {
        #[allow(clippy::cast_precision_loss)]
        let transactions = (to.transactions - from.transactions) as f64 / seconds;
        // They were forgotten when the window began.
        #[allow(clippy::cast_precision_loss)]
        let statements = to.statements.unwrap_or_default() as f64 / seconds;
        rows.push(Row {
            store: run.store,
            what: format!("{daemons} idle daemons, statements of the database"),
            figure: format!("{statements:.0}/s in {transactions:.0} transactions/s"),
            target: format!("<= {STATEMENTS}/s"),
            verdict: Verdict::sure(statements <= STATEMENTS),
            data: json!({ "statements_per_s": statements, "transactions_per_s": transactions }),
        });
    }
    Ok(rows)
}
