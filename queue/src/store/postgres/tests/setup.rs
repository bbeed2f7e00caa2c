//! Opening a database, and what is left in its sessions.

use super::*;
use crate::store::Store as _;

fn clock() -> Manual {
    Manual::at(1_700_000_000_000)
}

#[tokio::test]
async fn replicas_that_start_at_once_make_the_schema_once() {
    let Some(server) = shared() else { return };
    let database = server.database();
    let url = database.url();
    let start = || connect(&url, clock());
    let stores = tokio::join!(start(), start(), start(), start());
    let all = stores.3.list_organizations().await.expect("a list");
    assert_eq!(all.len(), 1);
    let twice = "SELECT COUNT(*) - COUNT(DISTINCT version), MIN(version) FROM schema_migrations";
    assert_eq!(server.sql(database.name(), twice).trim(), "0|1");
}

#[tokio::test]
async fn a_schema_of_a_newer_release_is_refused() {
    let Some(server) = shared() else { return };
    let database = server.database();
    drop(connect(&database.url(), clock()).await);
    server.sql(database.name(), "INSERT INTO schema_migrations VALUES (99)");
    let refused = try_connect(&database.url(), clock())
        .await
        .expect_err("newer");
    assert!(refused.to_string().contains("version 99"), "{refused}");
}

async fn raw(url: &str) -> deadpool_postgres::Object {
    let way = config::way(url, None).expect("a way");
    pool(way, 1, &Own::default())
        .get()
        .await
        .expect("a connection")
}

#[tokio::test]
async fn a_replica_of_the_release_before_starts_again_in_the_middle_of_an_upgrade() {
    let Some(server) = shared() else { return };
    let first = migrate::STEPS.iter().position(|step| step.only_adds());
    let (before, database) = (first.expect("such a step"), server.database());
    let mut client = raw(&database.url()).await;
    let old = &migrate::STEPS[..before];
    migrate::run(&mut client, old)
        .await
        .expect("the release before");
    let insert = |name: &str| {
        let sql = format!(
            "INSERT INTO organizations (name, created_at) VALUES ('{name}', 1);
             INSERT INTO keys (hash, organization, name, tags, created_at)
                 VALUES ('{name}', '{name}', 'key', '{{}}', 1)"
        );
        server.sql(database.name(), &sql)
    };
    insert("before");
    let looked = check(&Options::new(database.url())).await.expect("a look");
    assert_eq!(looked.verdict(), crate::store::schema::Verdict::Older);
    assert!(looked.spares_the_old());
    // The first replica of this release, while the others serve.
    let new = connect(&database.url(), clock()).await;
    migrate::run(&mut client, old).await.expect("it is spared");
    insert("after");
    let names = new.list_organizations().await.expect("a list");
    assert_eq!(names.len(), 3, "default, before and after");
    let key = new.list_keys("after".to_owned()).await.expect("keys");
    assert_eq!(key.len(), 1);
    let older = &migrate::STEPS[..before - 1];
    let refused = migrate::run(&mut client, older).await.expect_err("too old");
    assert!(refused.to_string().contains("know"), "{refused}");
    let looked = check(&Options::new(database.url())).await.expect("a look");
    assert_eq!(looked.verdict(), crate::store::schema::Verdict::Current);
}

/// A database with all but the last step, and a transaction that has read `jobs`.
async fn held() -> Option<(server::Database<'static>, deadpool_postgres::Object, i32)> {
    let database = shared()?.database();
    let mut client = raw(&database.url()).await;
    let before = &migrate::STEPS[..migrate::STEPS.len() - 1];
    let made = migrate::run(&mut client, before).await;
    made.expect("the release before");
    let read = "BEGIN; SELECT COUNT(*) FROM jobs";
    client.batch_execute(read).await.expect("held");
    let pid = client.query_typed_one("SELECT pg_backend_pid()", &[]).await;
    let pid = pid.expect("a session").get(0);
    Some((database, client, pid))
}

/// A step that changes the table which [`held`] holds.
fn steps() -> Vec<crate::store::schema::Step> {
    let mut steps = migrate::STEPS[..migrate::STEPS.len() - 1].to_vec();
    steps.push(crate::store::schema::adds(
        "DROP INDEX jobs_in_hand; CREATE TABLE came (n BIGINT)",
    ));
    steps
}

#[tokio::test]
async fn a_step_that_waits_for_a_table_lets_others_through_meanwhile() {
    let Some((database, holder, _)) = held().await else {
        return;
    };
    let url = database.url();
    let migrating = tokio::spawn(async move {
        let mut client = raw(&url).await;
        migrate::run(&mut client, &steps()).await
    });
    let other = raw(&database.url()).await;
    let waits = "SELECT COUNT(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
         WHERE NOT l.granted AND c.relname LIKE 'jobs%'";
    let mut statements = 0;
    // Two tries: a lock that was let go of once is let go of again.
    while statements < 2 {
        let waiting = other.query_typed_one(waits, &[]).await.expect("a look");
        if waiting.get::<_, i64>(0) == 0 {
            assert!(!migrating.is_finished(), "somebody holds the table");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            continue;
        }
        // Behind a wait of 60 s it would be stuck as long.
        let through = other.batch_execute("SELECT COUNT(*) FROM jobs");
        let through = tokio::time::timeout(std::time::Duration::from_secs(20), through);
        through.await.expect("it went through").expect("a count");
        statements += 1;
    }
    holder.batch_execute("COMMIT").await.expect("let go");
    migrating.await.expect("a task").expect("the step");
    let came = "SELECT COUNT(*) FROM came";
    assert_eq!(
        shared().expect("it runs").sql(database.name(), came).trim(),
        "0"
    );
}

#[tokio::test]
async fn a_step_that_does_not_get_its_table_names_the_limit_and_who_holds_it() {
    let Some((database, holder, pid)) = held().await else {
        return;
    };
    assert_eq!(
        migrate::PATIENCE.lock,
        std::time::Duration::from_secs(2),
        "what the documentation says"
    );
    let patience = migrate::Patience {
        lock: std::time::Duration::from_millis(100),
        pause: std::time::Duration::from_millis(50),
        whole: std::time::Duration::from_millis(1_500),
    };
    let mut client = raw(&database.url()).await;
    let refused = migrate::run_with(&mut client, &steps(), patience).await;
    let refused = refused.expect_err("held");
    let said = refused.to_string();
    assert!(said.contains("1.5 s"), "{said}");
    let who = format!("session {pid} (postgres, provisionerd, idle in transaction, for ");
    assert!(said.contains(&who), "{said}");
    assert_eq!(refused.code(), "MIGRATION_BLOCKED");
    let error = crate::Error::Database(OpenError::Store(refused));
    assert_eq!(error.code(), "MIGRATION_BLOCKED");
    assert!(
        error.hint().contains("pg_terminate_backend"),
        "{}",
        error.hint()
    );
    holder.batch_execute("COMMIT").await.expect("let go");
    let again = migrate::run_with(&mut client, &steps(), patience).await;
    again.expect("nobody holds it");
}

#[tokio::test]
async fn steps_that_say_so_only_add() {
    let Some(server) = shared() else { return };
    let columns = "SELECT table_name || '.' || column_name || ' ' || data_type || ' '
         || is_nullable || ' ' || (column_default IS NOT NULL OR is_identity = 'YES')
         FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1";
    let unique = "SELECT tablename || '.' || indexname FROM pg_indexes
         WHERE schemaname = 'public' AND indexdef LIKE 'CREATE UNIQUE%' ORDER BY 1";
    for (index, _) in migrate::STEPS
        .iter()
        .enumerate()
        .filter(|(_, s)| s.only_adds())
    {
        let database = server.database();
        let mut client = raw(&database.url()).await;
        let look = |sql| -> std::collections::BTreeSet<String> {
            server
                .sql(database.name(), sql)
                .lines()
                .map(str::to_owned)
                .collect()
        };
        migrate::run(&mut client, &migrate::STEPS[..index])
            .await
            .expect("before");
        let (old, old_unique) = (look(columns), look(unique));
        migrate::run(&mut client, &migrate::STEPS[..=index])
            .await
            .expect("after");
        let (new, new_unique) = (look(columns), look(unique));
        let gone: Vec<_> = old.difference(&new).collect();
        assert!(gone.is_empty(), "step {}: {gone:?}", index + 1);
        let table = |line: &str| line.split('.').next().unwrap_or_default().to_owned();
        let tables: std::collections::BTreeSet<_> = old.iter().map(|line| table(line)).collect();
        for column in new
            .difference(&old)
            .filter(|line| tables.contains(&table(line)))
        {
            let may_be_left_out = column.contains(" YES ") || column.ends_with(" true");
            assert!(may_be_left_out, "step {}: {column}", index + 1);
        }
        for index in new_unique.difference(&old_unique) {
            assert!(!tables.contains(&table(index)), "{index} refuses more");
        }
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_at_once() {
    let begun = Instant::now();
    let url = "postgres://postgres@127.0.0.1:1/none";
    let refused = try_connect(url, clock()).await.expect_err("nobody there");
    assert!(
        matches!(refused, OpenError::Store(Error::Unreachable { .. })),
        "{refused:?}"
    );
    assert!(begun.elapsed() < timings::DATABASE);
}

#[tokio::test]
async fn behind_a_proxy_no_transaction_leaves_anything_in_its_session() {
    let Some(server) = shared() else { return };
    let database = server.database();
    let mut options = Options::new(database.url());
    options.connections = 1;
    options.between = Between::Pooler;
    let time = TimeSource::Manual(clock());
    let store = Postgres::open(&options, Timings::default(), time).await;
    let store = store.expect("a store");
    store
        .create_organization("made".to_owned())
        .await
        .expect("made");
    let exists = store.create_organization("made".to_owned()).await;
    assert!(matches!(exists, Err(Error::Exists { .. })));
    store.list_organizations().await.expect("a list");
    let left = store.read(|view| {
        let left = "SELECT (SELECT COUNT(*) FROM pg_prepared_statements),
             (SELECT COUNT(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
             current_setting('lock_timeout'), (SELECT COUNT(*) FROM pg_listening_channels())";
        view.db.prepare(left).one(&[], |row| {
            let counts = (row.get::<i64>(0)?, row.get::<i64>(1)?, row.get::<i64>(3)?);
            Ok((counts, row.get::<String>(2)?))
        })
    });
    let left = left.await.expect("a look");
    assert_eq!(left, ((0, 0, 0), "0".to_owned()));
}

#[tokio::test]
async fn a_statement_is_prepared_once_for_each_connection() {
    let Some(server) = shared() else { return };
    let database = server.database();
    let mut options = Options::new(database.url());
    options.connections = 1;
    let time = TimeSource::Manual(clock());
    let store = Postgres::open(&options, Timings::default(), time).await;
    let store = store.expect("a store");
    for _ in 0..3 {
        store.list_organizations().await.expect("a list");
    }
    let prepared = store.read(|view| {
        let prepared = "SELECT COUNT(*), COUNT(DISTINCT statement) FROM pg_prepared_statements
             WHERE statement LIKE '%FROM organizations%'";
        view.db
            .prepare(prepared)
            .one(&[], |row| Ok((row.get::<i64>(0)?, row.get::<i64>(1)?)))
    });
    // That look itself is one of them.
    assert_eq!(prepared.await.expect("a look"), (2, 2));
}

#[tokio::test]
async fn what_nobody_waited_for_undoes_its_transaction_when_it_fails() {
    let Some((store, _database)) = open(clock()).await else {
        return;
    };
    let begin = |tx: &mut Tx<'_>| {
        let good = "INSERT INTO organizations VALUES ('half', 1)";
        tx.db.prepare(good).run(&[])?;
        tx.db
            .prepare("INSERT INTO organizations VALUES (NULL, 1)")
            .run(&[])?;
        Ok(())
    };
    for ended in [store.write(begin).await, store.write_again(begin).await] {
        assert!(matches!(ended, Err(Error::Backend { .. })), "{ended:?}");
    }
    let asked = store.write(move |tx| {
        begin(tx)?;
        let all = tx.db.prepare("SELECT name FROM organizations");
        all.all(&[], |row| row.get::<String>(0))
    });
    assert!(matches!(asked.await, Err(Error::Backend { .. })));
    let all = store.list_organizations().await.expect("a list");
    assert_eq!(all.len(), 1, "{all:?}");
    // Its connections are good for others.
    store
        .create_organization("half".to_owned())
        .await
        .expect("made");
}

#[tokio::test]
async fn statements_that_wait_go_in_their_order_before_what_is_asked() {
    let Some((store, _database)) = open(clock()).await else {
        return;
    };
    let seen = store.write(|tx| {
        for number in 0..40 {
            let made = format!("INSERT INTO organizations VALUES ('o-{number:02}', {number})");
            tx.db.prepare(&made).run(&[])?;
            let renamed = "UPDATE organizations SET created_at = created_at + 100
                 WHERE created_at = ?1";
            tx.db.prepare(renamed).run(values![i64::from(number)])?;
        }
        let all = tx.db.prepare(
            "SELECT created_at FROM organizations WHERE name LIKE 'o-%'
             ORDER BY name",
        );
        all.all(&[], |row| row.get::<i64>(0))
    });
    assert_eq!(seen.await.expect("seen"), (100..140).collect::<Vec<i64>>());
}

#[tokio::test]
async fn text_that_the_server_cannot_hold_is_refused_in_plain_words() {
    let Some((store, _database)) = open(clock()).await else {
        return;
    };
    let refused = store.create_organization("a\0b".to_owned()).await;
    assert!(matches!(refused, Err(Error::Invalid { what }) if what.contains("NUL")));
}

#[tokio::test]
async fn a_transition_that_goes_on_after_a_failed_statement_is_not_committed() {
    let Some((store, _database)) = open(clock()).await else {
        return;
    };
    let swallowed = store.write(|tx| {
        let _ignored = tx.db.prepare("SELECT 1 FROM no_such_table").execute(&[]);
        Ok(())
    });
    assert!(matches!(swallowed.await, Err(Error::Backend { .. })));
}

#[tokio::test]
async fn the_directory_of_blobs_that_came_first_stays() {
    let Some((store, _database)) = open(clock()).await else {
        return;
    };
    let place = |id: &str| store.blob_place(id.to_owned());
    assert_eq!(place("first").await.expect("a place"), "first");
    assert_eq!(place("second").await.expect("a place"), "first");
}
