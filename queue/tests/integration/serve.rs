//! Starting, stopping and watching a queue.

use std::time::Duration;

use proto::v1;
use queue::{Options, TlsFiles};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::harness::*;
use crate::skip::skip;
use crate::small_disk::on_small_disk;

#[tokio::test]
async fn a_directory_serves_one_queue_at_a_time() {
    let queue = Queue::start().await;
    let second = queue::start(options(&queue.dir)).await.expect_err("locked");
    assert_eq!(second.code(), "DATA_DIR_IN_USE");
    assert!(!second.to_string().contains('\n'));
    assert!(second.hint().contains("--data-dir"));
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let queue = Queue::start().await;
    let dir = tempfile::tempdir().expect("tempdir");
    let mut taken = options(&dir);
    taken.listen = queue.service.grpc_addr();
    let refused = queue::start(taken).await.expect_err("in use");
    assert_eq!(refused.code(), "ADDRESS_IN_USE");
    let port = queue.service.grpc_addr().port().to_string();
    assert!(refused.to_string().contains(&port), "{refused}");
    queue::start(options(&dir))
        .await
        .expect("and the directory is free")
        .shutdown()
        .await;
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().expect("tempdir");
    std::fs::write(dir.path().join("file"), "").expect("file");
    let mut options = options(&dir);
    options.data_dir = dir.path().join("file/data");
    let refused = queue::start(options)
        .await
        .expect_err("a file is in the way");
    assert_eq!(refused.code(), "DATA_DIR_NOT_WRITABLE");
    assert!(refused.to_string().contains("file/data"), "{refused}");
}

#[tokio::test]
async fn plain_http_to_the_world_is_refused() {
    let dir = tempfile::tempdir().expect("tempdir");
    let options = Options {
        listen: ([0, 0, 0, 0], 0).into(),
        ..options(&dir)
    };
    let refused = queue::start(options).await.expect_err("insecure");
    assert_eq!(refused.code(), "INSECURE_LISTEN");
}

#[tokio::test]
async fn jobs_leases_and_the_admin_token_survive_a_restart() {
    let queue = Queue::start().await;
    let key = queue.key("kept", &[]).await;
    let mut daemon = queue.daemon_with("one", "i", &key, &[]);
    queue.push("kept", &[]).await;
    let job = daemon.take().await;
    let token = queue.service.admin_token().cloned();
    let Queue {
        service,
        channel,
        dir,
    } = queue;
    drop((daemon, channel));
    service.shutdown().await;

    let service = queue::start(options(&dir)).await.expect("again");
    assert_eq!(service.admin_token(), token.as_ref());
    let channel = connect(&service).await;
    let queue = Queue {
        service,
        channel,
        dir,
    };
    let mut daemon = queue.daemon_with("one", "i", &key, &[]);
    let reply = daemon
        .fleet
        .update_job(update(&job, 1))
        .await
        .expect("update");
    assert_eq!(reply.into_inner().verdict(), v1::UpdateVerdict::Accepted);
}

#[tokio::test]
async fn a_lost_admin_token_is_made_anew_and_the_old_one_ends() {
    let queue = Queue::start().await;
    let old = queue.service.admin_token().cloned();
    let Queue {
        service,
        channel,
        dir,
    } = queue;
    drop(channel);
    service.shutdown().await;
    std::fs::remove_file(dir.path().join("admin.token")).expect("lost");
    let service = queue::start(options(&dir)).await.expect("again");
    let channel = connect(&service).await;
    let queue = Queue {
        service,
        channel,
        dir,
    };
    assert_ne!(queue.service.admin_token(), old.as_ref());
    queue
        .admin()
        .get_info(v1::GetInfoRequest {})
        .await
        .expect("the new one");
    let refused = queue
        .client(old.expect("an admin token").expose())
        .get_info(v1::GetInfoRequest {})
        .await;
    assert_eq!(code(&refused.expect_err("the old one")), "WRONG_CREDENTIAL");
}

#[tokio::test]
async fn health_readiness_and_metrics_are_told() {
    let queue = Queue::start().await;
    assert_eq!(queue.http("/healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(queue.http("/readyz").await, (200, "ready\n".to_owned()));
    queue.push("counted", &[]).await;
    let (status, metrics) = queue.http("/metrics").await;
    assert_eq!(status, 200);
    let pending = "provisionerd_jobs{status=\"pending\",kind=\"template_import\"} 1";
    assert!(metrics.contains(pending), "{metrics}");
    assert!(
        metrics.contains("provisionerd_build_info{version="),
        "{metrics}"
    );
    assert_eq!(queue.http("/else").await.0, 404);
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_followers() {
    let queue = Queue::start().await;
    let mut daemon = queue.daemon("one").await;
    let pushed = queue.push("followed", &[]).await;
    let _control = daemon.control(Vec::new()).await;
    let request = v1::GetJobRequest { id: pushed.id };
    let mut views = queue
        .admin()
        .watch_job(request)
        .await
        .expect("watch")
        .into_inner();
    soon(views.message()).await.expect("first");
    let stopping = tokio::time::timeout(Duration::from_secs(11), queue.service.shutdown());
    stopping.await.expect("bounded");
    let ended = soon(async {
        while views.message().await?.is_some() {}
        Ok(())
    })
    .await;
    let ended: Result<(), tonic::Status> = ended;
    assert_eq!(
        ended.expect_err("restarting").code(),
        tonic::Code::Unavailable
    );
}

#[tokio::test]
async fn tls_admits_clients_of_its_ca_and_nobody_else() {
    let pem = |name: &str| {
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        directory.join("tests/integration/tls").join(name)
    };
    let read = |name: &str| std::fs::read(pem(name)).expect("pem");
    let dir = tempfile::tempdir().expect("tempdir");
    let mut options = options(&dir);
    options.tls = Some(TlsFiles {
        cert: pem("server.pem"),
        key: pem("server.key"),
        client_ca: Some(pem("ca.pem")),
    });
    let service = queue::start(options).await.expect("queue");
    let endpoint = || {
        let url = format!("https://localhost:{}", service.grpc_addr().port());
        Endpoint::from_shared(url).expect("url")
    };
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read("ca.pem")));
    let known = tls
        .clone()
        .identity(Identity::from_pem(read("client.pem"), read("client.key")));
    let known = endpoint()
        .tls_config(known)
        .expect("tls")
        .connect()
        .await
        .expect("connect");
    let mut client = v1::management_client::ManagementClient::new(known);
    let refused = client
        .get_info(v1::GetInfoRequest {})
        .await
        .expect_err("no token");
    assert_eq!(
        code(&refused),
        "NO_CREDENTIAL",
        "TLS went through: {refused:?}"
    );
    let unknown = endpoint().tls_config(tls).expect("tls");
    let admitted = match unknown.connect().await {
        Err(_) => false,
        Ok(channel) => {
            let mut client = v1::management_client::ManagementClient::new(channel);
            let refused = client
                .get_info(v1::GetInfoRequest {})
                .await
                .expect_err("no token");
            code(&refused) == "NO_CREDENTIAL"
        }
    };
    assert!(!admitted, "a client without certificate came through");
    service.shutdown().await;
}

/// The certificates of this name in a directory that a queue reads them from.
fn exchange(dir: &std::path::Path, from: &str) {
    let pems = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/tls");
    for name in ["ca.pem", "server.pem", "server.key"] {
        let read = std::fs::read(pems.join(format!("{from}{name}"))).expect("pem");
        std::fs::write(dir.join(name), read).expect("written");
    }
}

/// What a queue with TLS says to a client of this CA that has no token.
async fn greeted(service: &queue::Service, from: &str) -> Option<String> {
    let pems = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/tls");
    let read = |name: &str| std::fs::read(pems.join(format!("{from}{name}"))).expect("pem");
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(read("ca.pem")))
        .identity(Identity::from_pem(read("client.pem"), read("client.key")));
    let url = format!("https://localhost:{}", service.grpc_addr().port());
    let endpoint = Endpoint::from_shared(url).expect("url").tls_config(tls);
    let channel = endpoint.expect("tls").connect().await.ok()?;
    let mut client = v1::management_client::ManagementClient::new(channel);
    let refused = client.get_info(v1::GetInfoRequest {}).await;
    Some(code(&refused.expect_err("no token")).to_owned()).filter(|code| code == "NO_CREDENTIAL")
}

#[tokio::test]
async fn tls_files_that_change_count_from_the_next_handshake_on() {
    let dir = tempfile::tempdir().expect("tempdir");
    let pems = tempfile::tempdir().expect("tempdir");
    exchange(pems.path(), "");
    let mut options = options(&dir);
    options.tls = Some(TlsFiles {
        cert: pems.path().join("server.pem"),
        key: pems.path().join("server.key"),
        client_ca: Some(pems.path().join("ca.pem")),
    });
    let service = queue::start(options).await.expect("queue");
    assert!(greeted(&service, "").await.is_some());
    assert!(greeted(&service, "other-").await.is_none());

    exchange(pems.path(), "other-");
    service.reload().await.expect("usable");
    assert!(greeted(&service, "other-").await.is_some());
    assert!(greeted(&service, "").await.is_none(), "its CA is gone");

    // A chain without its key, as half of a renewal leaves it.
    std::fs::write(pems.path().join("server.key"), "no key").expect("written");
    let refused = service.reload().await.expect_err("unusable");
    assert_eq!(refused.code(), "TLS_FILES");
    assert!(refused.to_string().contains("server.key"), "{refused}");
    assert!(greeted(&service, "other-").await.is_some(), "the old ones");

    // Nobody says so, and it is seen.
    exchange(pems.path(), "");
    until(async || greeted(&service, "").await.is_some()).await;
    service.shutdown().await;
}

#[tokio::test]
async fn tls_files_that_are_missing_are_named() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut options = options(&dir);
    options.tls = Some(TlsFiles {
        cert: dir.path().join("no-such.pem"),
        key: dir.path().join("no-such.key"),
        client_ca: None,
    });
    let refused = queue::start(options).await.expect_err("missing");
    assert_eq!(refused.code(), "TLS_FILES");
    assert!(refused.to_string().contains("no-such.pem"), "{refused}");
}

#[test]
fn a_full_disk_is_named_by_a_put_and_by_a_start() {
    let disk = tempfile::tempdir().expect("tempdir");
    let ran = on_small_disk(disk.path(), 4, || {
        let runtime = tokio::runtime::Runtime::new().expect("runtime");
        runtime.block_on(put_and_start_on_a_full_disk(disk.path()));
    });
    if let Err(why) = ran {
        skip("a queue on a full disk", &why);
    }
}

async fn put_and_start_on_a_full_disk(disk: &std::path::Path) {
    let dir = tempfile::tempdir_in(disk).expect("tempdir");
    let service = queue::start(options(&dir)).await.expect("queue");
    let channel = connect(&service).await;
    let queue = Queue {
        service,
        channel,
        dir,
    };
    let bytes = noise(8_000_000);
    let requests = put_requests(&blob_ref(&bytes), None, &bytes);
    let full = queue.admin().upload(tokio_stream::iter(requests)).await;
    assert_eq!(code(&full.expect_err("no room")), "DISK_FULL");
    queue.push("still-works", &[]).await;

    let filler = queue.dir.path().join("filler");
    let mut file = std::fs::File::create(filler).expect("filler");
    while std::io::Write::write_all(&mut file, &[0; 512]).is_ok() {}
    let second = queue.dir.path().join("second");
    let mut options = options(&queue.dir);
    options.data_dir = second;
    let full = queue::start(options).await.expect_err("no room");
    assert_eq!(full.code(), "DISK_FULL", "{full}");
}
