//! Listeners: where the queue can be reached, and what guards it: `tls` and its files,
//! how many may come in (`places`), the loop that lets them in (`accept`), what they are
//! from then on (`conn`).

pub mod accept;
pub mod conn;
pub mod places;
mod seldom;
pub mod tls;

use std::io::ErrorKind;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::error::Error;
use crate::options::{Options, PlainHttp};
pub use seldom::Seldom;

/// Binds an address; the error says which.
///
/// # Errors
/// In use, or not an address of this machine.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address)
        .await
        .map_err(|source| match source.kind() {
            ErrorKind::AddrInUse => Error::AddressInUse { address },
            _ => Error::Listen { address, source },
        })
}

/// Refuses plain HTTP that would leave this machine: keys and tokens travel in it.
///
/// # Errors
/// Not loopback, no TLS, and the operator has not asked for it.
pub fn check_plain(options: &Options) -> Result<(), Error> {
    let grpc = Some(options.listen).filter(|_| options.tls.is_none());
    // Health and metrics carry no credential, but tell about the fleet.
    let outside = [grpc, options.http_listen]
        .into_iter()
        .flatten()
        .find(|address| !address.ip().is_loopback());
    match (outside, options.plain_http) {
        (Some(address), PlainHttp::Loopback) => Err(Error::Insecure { address }),
        (Some(_), PlainHttp::Anywhere) | (None, _) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::TlsFiles;

    fn options(listen: &str, http: Option<&str>) -> Options {
        let parse = |text: &str| text.parse().expect("address");
        let mut options = Options::new("unused".into(), parse(listen));
        options.http_listen = http.map(parse);
        options
    }

    #[test]
    fn plain_http_stays_on_this_machine_unless_asked_otherwise() {
        assert!(check_plain(&options("127.0.0.1:0", Some("[::1]:0"))).is_ok());
        let outside = check_plain(&options("0.0.0.0:7080", None)).expect_err("outside");
        assert_eq!(outside.code(), "INSECURE_LISTEN");
        assert!(check_plain(&options("127.0.0.1:0", Some("0.0.0.0:80"))).is_err());
        let mut asked = options("0.0.0.0:7080", None);
        asked.plain_http = PlainHttp::Anywhere;
        assert!(check_plain(&asked).is_ok());
        let mut with_tls = options("0.0.0.0:7080", None);
        with_tls.tls = Some(TlsFiles {
            cert: "c".into(),
            key: "k".into(),
            client_ca: None,
        });
        assert!(check_plain(&with_tls).is_ok());
    }
}
