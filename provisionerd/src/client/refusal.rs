//! What a failed call means to a command: its exit code, and what to do next.

use tonic::{Code, Status};

use crate::connect;
use crate::failure::{Exit, Failure};

/// Whether the call carried a client token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    /// One was given or found.
    Given,
    /// There was none to send.
    None,
}

/// A failed call to the queue at `url` as a command's failure.
pub fn failure(status: &Status, url: &str, token: Token) -> Failure {
    if is_lost(status) {
        let cause = cause(status);
        return Failure::unreachable(format!("cannot reach the queue at {url}: {cause}"))
            .hint("start one with `provisionerd serve` or name it with --url");
    }
    let refused = refused(status);
    if token == Token::None && status.code() == Code::Unauthenticated {
        return Failure {
            message: "the queue asks for a client token and none was given or found".to_owned(),
            ..refused
        }
        .hint("pass --token-file, set PROVISIONERD_TOKEN, or name a local queue's --data-dir");
    }
    refused
}

/// Whether the queue did not answer, so that asking again may help.
pub fn is_lost(status: &Status) -> bool {
    if text(status, "x-error-code").is_some() {
        return false;
    }
    let ours = std::error::Error::source(status).is_some();
    match connect::retry(status) {
        connect::Retry::Later => ours || status.code() == Code::Unavailable,
        connect::Retry::Never => false,
    }
}

/// Whether what was asked for was there once, and was kept no longer.
pub fn is_pruned(status: &Status) -> bool {
    text(status, "x-error-code").as_deref() == Some("PRUNED")
}

fn refused(status: &Status) -> Failure {
    let (exit, code, class) = match status.code() {
        Code::Unauthenticated => (Exit::NotAllowed, "UNAUTHENTICATED", "user"),
        Code::PermissionDenied => (Exit::NotAllowed, "PERMISSION_DENIED", "user"),
        Code::NotFound => (Exit::Failed, "NOT_FOUND", "user"),
        Code::AlreadyExists => (Exit::Failed, "ALREADY_EXISTS", "user"),
        Code::InvalidArgument | Code::OutOfRange => (Exit::Failed, "INVALID", "user"),
        Code::FailedPrecondition | Code::Aborted => (Exit::Failed, "REFUSED", "user"),
        Code::ResourceExhausted => (Exit::Failed, "LIMIT", "capacity"),
        Code::Unimplemented => (Exit::Failed, "UNSUPPORTED", "internal"),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => (Exit::Failed, "QUEUE_ERROR", "internal"),
    };
    let told = |name: &str, otherwise: &str| text(status, name).unwrap_or(otherwise.to_owned());
    Failure {
        exit,
        code: told("x-error-code", code),
        class: told("x-error-class", class),
        message: status.message().to_owned(),
        hint: text(status, "x-error-hint").filter(|hint| !hint.is_empty()),
    }
}

fn text(status: &Status, name: &str) -> Option<String> {
    let value = status.metadata().get(name)?;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// The innermost reason: `Connection refused` says more than `transport error`.
fn cause(status: &Status) -> String {
    let mut reason = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        reason = error.to_string();
        source = error.source();
    }
    reason
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Client;
    use crate::connect::Target;
    use proto::v1;

    fn status(code: Code, pairs: &[(&'static str, &str)]) -> Status {
        let mut status = Status::new(code, "what happened");
        for (name, value) in pairs {
            let value = value.parse().expect("header");
            status.metadata_mut().insert(*name, value);
        }
        status
    }

    #[test]
    fn a_refusal_keeps_the_code_class_and_hint_of_the_queue() {
        let failure = refused(&status(
            Code::FailedPrecondition,
            &[
                ("x-error-code", "BUILD_RUNS"),
                ("x-error-class", "capacity"),
                ("x-error-hint", "wait"),
            ],
        ));
        assert_eq!(failure.code, "BUILD_RUNS");
        assert_eq!(failure.class, "capacity");
        assert_eq!(failure.hint.as_deref(), Some("wait"));
        assert_eq!(failure.exit, Exit::Failed);
    }

    #[test]
    fn credentials_that_do_not_allow_it_have_their_own_exit_code() {
        for code in [Code::Unauthenticated, Code::PermissionDenied] {
            assert_eq!(refused(&status(code, &[])).exit, Exit::NotAllowed);
        }
    }

    #[tokio::test]
    async fn a_queue_that_is_not_there_is_unreachable() {
        let target = Target {
            // Discard's port on loopback: nobody listens.
            url: "http://127.0.0.1:9".to_owned(),
            tls: connect::ClientTls::default(),
        };
        let mut client = Client::new(&target, None, "default").expect("client");
        let failure = client
            .list_jobs(v1::ListJobsRequest::default())
            .await
            .expect_err("nobody is there");
        assert_eq!(failure.exit, Exit::Unreachable);
        assert!(failure.message.contains("refused"), "{failure}");
    }

    #[test]
    fn a_missing_token_is_named_and_a_wrong_one_is_not_called_missing() {
        let refused = status(Code::Unauthenticated, &[]);
        let missing = failure(&refused, "http://q", Token::None);
        assert!(missing.hint.expect("hint").contains("--token-file"));
        let wrong = failure(&refused, "http://q", Token::Given);
        assert_eq!(wrong.message, "what happened");
        assert_eq!(missing.exit, wrong.exit);
    }

    #[test]
    fn an_unavailable_store_is_not_an_unreachable_queue() {
        assert!(is_lost(&status(Code::Unavailable, &[])));
        assert!(!is_lost(&status(
            Code::Unavailable,
            &[("x-error-code", "STORE")]
        )));
        assert!(!is_lost(&status(Code::NotFound, &[])));
    }
}
