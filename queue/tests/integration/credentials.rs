//! Who may call what. The tables are read from the .proto files, so a new call cannot
//! be forgotten.

use proto::v1;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Status};

use crate::harness::*;
use crate::on_postgres;

pub const FLEET: &str = include_str!("../../../proto/proto/provisionerd/v1/fleet.proto");
pub const MANAGEMENT: &str = include_str!("../../../proto/proto/provisionerd/v1/management.proto");

#[tokio::test]
async fn every_call_refuses_a_wrong_a_missing_and_a_deleted_credential() {
    every_wrong_credential(&Queue::start().await).await;
}

#[tokio::test]
async fn every_call_refuses_them_on_postgres_too() {
    let Some((queue, _database)) = on_postgres::start(timings()).await else {
        return;
    };
    every_wrong_credential(&queue).await;
}

async fn every_wrong_credential(queue: &Queue) {
    let token = queue
        .service
        .admin_token()
        .expect("an admin token")
        .expose()
        .to_owned();
    let key = queue.key("real", &[]).await;
    let deleted_key = queue.key("deleted", &[]).await;
    let delete = v1::DeleteKeyRequest {
        name: "deleted".into(),
    };
    queue.admin().delete_key(delete).await.expect("deleted");
    let bearer = |text: &str| format!("Bearer {text}");
    let wrong_key = bearer(&format!("pdk_{}", "0".repeat(64)));
    let wrong_token = bearer(&format!("pdt_{}", "0".repeat(64)));
    let fleet = [
        (None, "NO_CREDENTIAL"),
        (Some(wrong_key), "WRONG_CREDENTIAL"),
        (Some(bearer(&deleted_key)), "WRONG_CREDENTIAL"),
        (Some(bearer(&token)), "WRONG_CREDENTIAL"),
        (Some("Basic xyz".to_owned()), "NO_CREDENTIAL"),
    ];
    let management = [
        (None, "NO_CREDENTIAL"),
        (Some(wrong_token), "WRONG_CREDENTIAL"),
        (Some(bearer(&key)), "WRONG_CREDENTIAL"),
        (Some("Bearer ".to_owned()), "NO_CREDENTIAL"),
    ];
    let table = [
        (FLEET, "Fleet", &fleet[..], 6),
        (MANAGEMENT, "Management", &management[..], 35),
    ];
    for (file, service, cases, least) in table {
        let calls = calls(file);
        assert!(
            calls.len() >= least,
            "{service} has only {} calls",
            calls.len()
        );
        for call in calls {
            for (credential, expected) in cases {
                let refused = refused(queue, service, &call, credential.as_deref()).await;
                assert_eq!(refused.code(), Code::Unauthenticated, "{call}");
                assert_eq!(code(&refused), *expected, "{call} with {credential:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_member_may_not_do_what_is_an_admins() {
    let queue = Queue::start().await;
    let mut member = queue.member("ann").await;
    let refused = [
        member
            .create_key(v1::CreateKeyRequest::default())
            .await
            .expect_err("keys"),
        member
            .list_keys(v1::ListKeysRequest {})
            .await
            .expect_err("keys"),
        member
            .create_token(v1::CreateTokenRequest::default())
            .await
            .expect_err("tokens"),
        member
            .list_tokens(v1::ListTokensRequest {})
            .await
            .expect_err("tokens"),
        member
            .push_template(v1::PushTemplateRequest::default())
            .await
            .expect_err("push"),
        member
            .drain_daemon(v1::DrainDaemonRequest::default())
            .await
            .expect_err("drain"),
        member
            .undrain_daemon(v1::UndrainDaemonRequest::default())
            .await
            .expect_err("undrain"),
        member
            .abandon_job(v1::AbandonJobRequest::default())
            .await
            .expect_err("abandon"),
        member
            .create_organization(v1::CreateOrganizationRequest::default())
            .await
            .expect_err("organizations"),
        member
            .put_owner(v1::Owner::default())
            .await
            .expect_err("owners"),
        member
            .list_owners(v1::ListOwnersRequest {})
            .await
            .expect_err("owners"),
        member
            .set_limit(v1::SetLimitRequest::default())
            .await
            .expect_err("limits"),
        member
            .list_limits(v1::ListLimitsRequest {})
            .await
            .expect_err("limits"),
    ];
    for status in refused {
        assert_eq!(status.code(), Code::PermissionDenied);
        assert_eq!(code(&status), "ADMIN_ONLY");
    }
    let info = member
        .get_info(v1::GetInfoRequest {})
        .await
        .expect("info")
        .into_inner();
    assert_eq!((info.owner.as_str(), info.role.as_str()), ("ann", "member"));
}

#[tokio::test]
async fn a_token_of_one_organization_cannot_name_another() {
    let queue = Queue::start().await;
    let create = v1::CreateOrganizationRequest {
        name: "other".into(),
    };
    queue
        .admin()
        .create_organization(create)
        .await
        .expect("organization");
    let token = v1::CreateTokenRequest {
        name: "bound".into(),
        owner: "ann".into(),
        role: "member".into(),
    };
    let token = queue
        .admin()
        .create_token(token)
        .await
        .expect("token")
        .into_inner()
        .token;
    let mut request = Request::new(v1::ListTemplatesRequest {});
    let metadata = request.metadata_mut();
    metadata.insert(
        "authorization",
        format!("Bearer {token}").parse().expect("ascii"),
    );
    metadata.insert("x-organization", "other".parse().expect("ascii"));
    let mut client = v1::management_client::ManagementClient::new(queue.channel.clone());
    let refused = client.list_templates(request).await.expect_err("refused");
    assert_eq!(code(&refused), "ORGANIZATION_NOT_ALLOWED");
}

#[tokio::test]
async fn a_daemon_has_a_name_and_an_instance() {
    let queue = Queue::start().await;
    let key = queue.key("real", &[]).await;
    let mut nameless = queue.daemon_with("", "instance", &key, &[]);
    let refused = nameless.fleet.control(v1::ControlRequest::default()).await;
    assert_eq!(code(&refused.expect_err("no name")), "INVALID_NAME");
}

/// Names of the calls in a .proto file.
pub fn calls(file: &str) -> Vec<String> {
    let lines = file
        .lines()
        .filter_map(|line| line.trim().strip_prefix("rpc "));
    lines
        .filter_map(|rest| rest.split_once('(').map(|(name, _)| name.to_owned()))
        .collect()
}

/// Calls with an empty message, which every request decodes from.
async fn refused(queue: &Queue, service: &str, call: &str, credential: Option<&str>) -> Status {
    let mut grpc = Grpc::new(queue.channel.clone());
    grpc.ready().await.expect("connected");
    let path = format!("/provisionerd.v1.{service}/{call}");
    let path: PathAndQuery = path.parse().expect("path");
    let mut request = Request::new(tokio_stream::once(()));
    if let Some(credential) = credential {
        let value = credential.parse().expect("ascii");
        request.metadata_mut().insert("authorization", value);
    }
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let streamed = grpc.streaming(request, path, codec).await;
    match streamed {
        Err(status) => status,
        Ok(reply) => match soon(reply.into_inner().message()).await {
            Err(status) => status,
            Ok(_) => panic!("{service}/{call} accepted {credential:?}"),
        },
    }
}
