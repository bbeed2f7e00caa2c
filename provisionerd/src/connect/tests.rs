use std::time::Duration;

use super::*;

fn target(url: &str) -> Target {
    Target {
        url: url.to_owned(),
        tls: ClientTls::default(),
    }
}

#[test]
fn a_target_that_cannot_work_is_named_before_anything_is_sent() {
    let refused = |url| target(url).channel().expect_err(url).to_string();
    assert!(refused("ftp://host").contains("http:// or https://"));
    assert!(refused("127.0.0.1:7080 x").contains("is not a URL"));
    let mut half = target("https://queue:7080");
    half.tls.ca_file = Some("/nowhere/ca.pem".into());
    assert!(matches!(half.channel(), Err(Error::Read { .. })));
    let mut plain = target("http://queue:7080");
    plain.tls.ca_file = Some("ca.pem".into());
    assert!(matches!(
        plain.channel(),
        Err(Error::TlsWithoutHttps { .. })
    ));
}

#[test]
fn a_certificate_without_its_key_is_refused() {
    let dir = tempfile::tempdir().expect("dir");
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, "no PEM").expect("write");
    let alone = ClientTls {
        ca_file: Some(ca.clone()),
        ..ClientTls::default()
    };
    assert!(matches!(alone.config(), Err(Error::Pem { .. })));
    let tls = env!("CARGO_MANIFEST_DIR").to_owned() + "/../queue/tests/integration/tls/ca.pem";
    let ca = PathBuf::from(tls);
    let tls = ClientTls {
        ca_file: Some(ca.clone()),
        cert_file: Some(ca),
        key_file: None,
    };
    assert!(matches!(tls.config(), Err(Error::HalfIdentity)));
}

#[test]
fn a_key_with_a_line_break_is_refused_without_being_printed() {
    let key = Secret::new("pk-secret\nx".into());
    let Err(refused) = Credentials::daemon(&key, "d", "i") else {
        panic!("accepted");
    };
    assert!(!refused.to_string().contains("pk-secret"), "{refused}");
}

#[test]
fn refusals_are_final_and_outages_are_not() {
    for code in [
        Code::InvalidArgument,
        Code::Unauthenticated,
        Code::PermissionDenied,
        Code::FailedPrecondition,
        Code::NotFound,
    ] {
        assert_eq!(retry(&Status::new(code, "")), Retry::Never, "{code:?}");
    }
    for code in [Code::Unavailable, Code::Unknown, Code::ResourceExhausted] {
        assert_eq!(retry(&Status::new(code, "")), Retry::Later, "{code:?}");
    }
}

#[tokio::test]
async fn a_refused_dial_is_worth_another_try() {
    // Bound and dropped: the port is closed.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let url = format!("http://{}", listener.local_addr().expect("addr"));
    drop(listener);
    let channel = target(&url).channel().expect("channel");
    let mut client = Credentials::default().management(channel);
    let status = client
        .get_info(proto::v1::GetInfoRequest {})
        .await
        .expect_err("nobody listens");
    assert!(std::error::Error::source(&status).is_some());
    assert_eq!(retry(&status), Retry::Later);
}

/// The certificates of this name in a directory that both sides read them from.
fn exchange(dir: &std::path::Path, from: &str) {
    let pems = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let pems = pems.join("../queue/tests/integration/tls");
    for name in [
        "ca.pem",
        "server.pem",
        "server.key",
        "client.pem",
        "client.key",
    ] {
        let read = std::fs::read(pems.join(format!("{from}{name}"))).expect("pem");
        std::fs::write(dir.join(name), read).expect("written");
    }
}

#[tokio::test]
async fn a_channel_reads_its_files_at_each_dial() {
    let dir = tempfile::tempdir().expect("dir");
    let pems = tempfile::tempdir().expect("dir");
    exchange(pems.path(), "");
    let pem = |name: &str| pems.path().join(name);
    let serve = async |listen| {
        let mut options = queue::Options::new(dir.path().to_owned(), listen);
        options.tls = Some(queue::TlsFiles {
            cert: pem("server.pem"),
            key: pem("server.key"),
            client_ca: Some(pem("ca.pem")),
        });
        queue::start(options).await.expect("queue")
    };
    let service = serve(([127, 0, 0, 1], 0).into()).await;
    let address = service.grpc_addr();
    let target = Target {
        url: format!("https://localhost:{}", address.port()),
        tls: ClientTls {
            ca_file: Some(pem("ca.pem")),
            cert_file: Some(pem("client.pem")),
            key_file: Some(pem("client.key")),
        },
    };
    let token = service.admin_token().cloned();
    let credentials = Credentials::client(token.as_ref(), None).expect("header");
    let mut client = credentials.management(target.channel().expect("channel"));
    let info = client.get_info(proto::v1::GetInfoRequest {}).await;
    info.expect("mutual TLS");
    service.shutdown().await;

    exchange(pems.path(), "other-");
    let service = serve(address).await;
    let renewed = async {
        while let Err(status) = client.get_info(proto::v1::GetInfoRequest {}).await {
            assert_eq!(retry(&status), Retry::Later, "{status:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let renewed = tokio::time::timeout(Duration::from_secs(20), renewed).await;
    renewed.expect("the same channel, with the new files");
    service.shutdown().await;
}
