use std::time::Instant;

use proto::v1::Phase;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::daemon::context::Lease;
use crate::daemon::scripted::bench;
use crate::daemon::shutdown::Step;

/// One GET: status and body.
async fn get(address: std::net::SocketAddr, path: &str) -> (String, String) {
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("port");
    let request = format!("GET {path} HTTP/1.1\r\nHost: daemon\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("request");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("response");
    let (head, body) = text.split_once("\r\n\r\n").expect("a response");
    let status = head.split(' ').nth(1).expect("a status");
    (status.to_owned(), body.to_owned())
}

#[tokio::test]
async fn a_daemon_tells_what_it_does_and_whether_it_takes_jobs() {
    let bench = bench(3).await;
    let context = bench.context.clone();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    let served = tokio::spawn(serve(context.clone(), listener));
    let answer = |status: &str, body: &str| (status.to_owned(), body.to_owned());
    assert_eq!(get(address, "/healthz").await, answer("200", "ok\n"));
    let unreached = answer("503", "queue not reachable\n");
    assert_eq!(get(address, "/readyz").await, unreached);

    context.seen.heard(Instant::now());
    assert_eq!(get(address, "/readyz").await, answer("200", "ready\n"));
    let lease = Lease {
        job_id: "job".to_owned(),
        lease_id: vec![1],
        attempt: 1,
    };
    let _job = context.register(&lease);
    context.jobs.reached("job", Phase::Plan);
    context.seen.engine_run();
    let _waiting = context.seen.finish_waits();
    let _slot = context.slots.clone().acquire_owned().await.expect("a slot");
    let metrics = get(address, "/metrics").await.1;
    for line in [
        "provisionerd_daemon_slots 3",
        "provisionerd_daemon_slots_free 2",
        "provisionerd_daemon_jobs{phase=\"plan\"} 1",
        "provisionerd_daemon_jobs{phase=\"setup\"} 0",
        "provisionerd_daemon_engine_runs_total 1",
        "provisionerd_daemon_finishes_waiting 1",
        "provisionerd_daemon_queue_reachable 1",
    ] {
        assert!(metrics.lines().any(|one| one == line), "{line}: {metrics}");
    }

    context.trigger.at_least(Step::Drain);
    assert_eq!(get(address, "/readyz").await, answer("503", "draining\n"));
    assert_eq!(get(address, "/healthz").await, answer("200", "ok\n"));
    context.closing.cancel();
    served.await.expect("it ends with the daemon");
}
