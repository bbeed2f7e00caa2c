//! The flags of `serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use proto::limits;

use super::exposed::Opened;
use super::{Context, connection, own_exe};
use crate::analyzer::Analyzer;
use crate::failure::{Exit, Failure};
use crate::logging;

/// Runs the queue: templates, workspaces, jobs, logs and states.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  provisionerd serve                                  on 127.0.0.1:7080, data in the usual place
  provisionerd serve --data-dir /var/lib/provisionerd --listen 0.0.0.0:7080 \\
      --tls-cert-file cert.pem --tls-key-file key.pem --http-listen 127.0.0.1:7081
  PROVISIONERD_DATABASE_URL=postgres://user:password@db.example/provisionerd \
      provisionerd serve --database-ca-file db-ca.pem --blob-url file:///shared/blobs

With a database URL any number of replicas may run on the same database and blobs.
The admin token is written to admin.token in the data directory; commands on this machine
find it there. SIGTERM, SIGINT: finish what is being answered, then end. SIGHUP: read the TLS
files again, which is also done when they change.")]
pub struct Args {
    /// Where the store and the blobs live; by default ~/.local/share/provisionerd.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// PostgreSQL instead of SQLite in the data directory, for one replica or many. It
    /// holds a password: give it as PROVISIONERD_DATABASE_URL or in the file.
    #[arg(long, value_name = "URL")]
    pub database_url: Option<String>,
    /// The server itself, when the database URL leads to a transaction-pooling proxy.
    #[arg(long, value_name = "URL")]
    pub database_listen_url: Option<String>,
    /// Authorities that vouch for the database server, as PEM; makes TLS a must.
    #[arg(long, value_name = "FILE")]
    pub database_ca_file: Option<PathBuf>,
    /// Connections to the database at once.
    #[arg(long, value_name = "N",
        default_value_t = queue::store::postgres::Options::CONNECTIONS as u32,
        value_parser = clap::value_parser!(u32).range(1..=500))]
    pub database_connections: u32,
    /// Where archives and states above 64 KiB live: file:///DIR, shared by all replicas;
    /// by default in the data directory.
    #[arg(long, value_name = "URL")]
    pub blob_url: Option<String>,
    /// Address of the gRPC port.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7080")]
    pub listen: SocketAddr,
    /// Address of the plain HTTP port: health, readiness, metrics.
    #[arg(long, value_name = "ADDRESS")]
    pub http_listen: Option<SocketAddr>,
    /// What workspaces call this deployment; by default the gRPC address.
    #[arg(long, value_name = "URL")]
    pub access_url: Option<String>,
    /// Seconds after which a silent daemon's job is given up once it may have changed the
    /// world, its engine being dead by then; 600 by default.
    #[arg(long, value_name = "SECONDS")]
    pub lease: Option<u64>,
    /// Certificate chain of the gRPC port, as PEM.
    #[arg(long, value_name = "FILE")]
    pub tls_cert_file: Option<PathBuf>,
    /// Its private key, as PEM.
    #[arg(long, value_name = "FILE")]
    pub tls_key_file: Option<PathBuf>,
    /// Only clients with a certificate of this authority may connect.
    #[arg(long, value_name = "FILE")]
    pub tls_client_ca_file: Option<PathBuf>,
    /// Connections to the gRPC port at once; each is an open file.
    #[arg(long, value_name = "N", default_value_t = limits::CONNECTIONS,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub connections: u32,
    /// Connections from one address at once: all daemons behind one NAT or load balancer.
    #[arg(long, value_name = "N", default_value_t = limits::CONNECTIONS_PER_ADDRESS,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub connections_per_address: u32,
    /// Wrong credentials that one address may try in a minute.
    #[arg(long, value_name = "N", default_value_t = limits::WRONG_CREDENTIALS,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub wrong_credentials: u32,
    /// Allow plain HTTP on an address that is not loopback.
    #[arg(long)]
    pub insecure: bool,
    #[command(flatten)]
    pub logging: logging::Observed,
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let service = "provisionerd-queue";
    let telemetry = logging::start(context.log.as_deref(), &args.logging, service)?;
    let ended = match options(args) {
        Ok(options) => crate::serve::run(context, options).await,
        Err(failure) => Err(failure),
    };
    telemetry.end().await;
    ended
}

fn options(args: Args) -> Result<queue::Options, Failure> {
    check_companions(&args)?;
    let database = database(&args)?;
    let blob_dir = args.blob_url.as_deref().map(blob_dir).transpose()?;
    let data_dir = connection::data_dir(args.data_dir)?;
    let opened = Opened::by_default();
    opened.refuse("the data directory", &data_dir)?;
    if let Some(key) = &args.tls_key_file {
        opened.refuse("the private key", key)?;
    }
    let mut options = queue::Options::new(data_dir, args.listen);
    options.database = database;
    options.blob_dir = blob_dir;
    options.http_listen = args.http_listen;
    options.access_url = args.access_url;
    options.edge.connections = args.connections;
    options.edge.connections_per_address = args.connections_per_address;
    options.edge.wrong_credentials = args.wrong_credentials;
    options.timings = super::waits::with_lease(args.lease)?;
    let analyzer = Analyzer::new(own_exe()?, options.data_dir.clone());
    options.analyzer = Some(Arc::new(analyzer));
    options.tls = match (args.tls_cert_file, args.tls_key_file) {
        (Some(cert), Some(key)) => Some(queue::TlsFiles {
            cert,
            key,
            client_ca: args.tls_client_ca_file,
        }),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            return Err(Failure::usage(
                "--tls-cert-file and --tls-key-file belong together",
            ));
        }
    };
    if args.insecure {
        options.plain_http = queue::PlainHttp::Anywhere;
    }
    Ok(options)
}

/// Refuses a flag without the one it belongs to. clap's own `requires` would not count
/// what the file says.
fn check_companions(args: &Args) -> Result<(), Failure> {
    let (url, cert) = (args.database_url.is_some(), args.tls_cert_file.is_some());
    let refused = [
        (
            args.database_listen_url.is_some() && !url,
            "--database-listen-url goes with --database-url",
        ),
        (
            args.database_ca_file.is_some() && !url,
            "--database-ca-file goes with --database-url",
        ),
        (
            args.tls_client_ca_file.is_some() && !cert,
            "--tls-client-ca-file goes with --tls-cert-file",
        ),
    ];
    match refused.into_iter().find(|(applies, _)| *applies) {
        Some((_, message)) => Err(Failure::usage(message)),
        None => Ok(()),
    }
}

fn database(args: &Args) -> Result<queue::Database, Failure> {
    let Some(url) = &args.database_url else {
        return Ok(queue::Database::Embedded);
    };
    let mut options = queue::store::postgres::Options::new(url.clone());
    options.listen_url.clone_from(&args.database_listen_url);
    options.ca.clone_from(&args.database_ca_file);
    options.connections = args.database_connections as usize;
    Ok(queue::Database::Postgres(options))
}

/// The directory of a `file://` URL.
fn blob_dir(url: &str) -> Result<PathBuf, Failure> {
    match url.strip_prefix("file://") {
        Some(path) if path.starts_with('/') => Ok(PathBuf::from(path)),
        Some(_) | None => Err(Failure::usage(format!(
            "--blob-url {url}: write file:///DIR, the only kind there is yet"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches};

    use super::*;

    #[test]
    fn a_flag_without_the_one_it_belongs_to_is_wrong_usage() {
        for flag in [
            "--database-listen-url=u",
            "--database-ca-file=f",
            "--tls-client-ca-file=f",
            "--tls-cert-file=f",
            "--tls-key-file=f",
        ] {
            let command = <Args as clap::Args>::augment_args(Command::new("serve"));
            let line = ["serve", "--data-dir=/d", flag];
            let matches = command.try_get_matches_from(line).expect("parses");
            let args = Args::from_arg_matches(&matches).expect("arguments");
            let refused = options(args).map(|_| ()).expect_err(flag);
            assert_eq!(refused.exit, Exit::Usage, "{flag}");
        }
    }

    #[test]
    fn blobs_go_to_a_whole_path_or_nowhere() {
        let dir = blob_dir("file:///srv/blobs").expect("a directory");
        assert_eq!(dir, PathBuf::from("/srv/blobs"));
        for url in ["file://srv/blobs", "/srv/blobs", "s3://bucket"] {
            assert!(blob_dir(url).is_err(), "{url}");
        }
    }
}
