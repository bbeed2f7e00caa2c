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
    let ca = std::path::PathBuf::from(tls);
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
