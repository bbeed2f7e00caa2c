//! The flags of `serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use proto::limits;

use super::exposed::Opened;
use super::{Context, keep, own_exe, place};
use crate::analyzer::Analyzer;
use crate::failure::{Exit, Failure};
use crate::logging;

/// Runs the queue: templates, workspaces, jobs, logs and states.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  provisionerd serve                                  on 127.0.0.1:7080, data in the usual place
  provisionerd serve --data-dir /var/lib/provisionerd --listen 0.0.0.0:7080 \\
      --tls-cert-file cert.pem --tls-key-file key.pem --http-listen 127.0.0.1:7081
  PROVISIONERD_DATABASE_URL=postgres://user:password@db.example/provisionerd \\
      provisionerd serve --database-ca-file db-ca.pem --blob-url file:///shared/blobs

With a database URL any number of replicas may run on the same database and blobs.
The admin token is written to admin.token in the data directory; commands on this machine
find it there. SIGTERM, SIGINT: finish what is being answered, then end. SIGHUP: read the TLS
files again, which is also done when they change.")]
pub struct Args {
    #[command(flatten)]
    pub place: place::Args,
    /// The server itself, when the database URL leads to a transaction-pooling proxy.
    #[arg(long, value_name = "URL")]
    pub database_listen_url: Option<String>,
    /// The database URL leads to a proxy that gives each transaction another session, so
    /// that statements are not prepared; taken for granted with --database-listen-url.
    #[arg(long)]
    pub database_pooled: bool,
    /// Connections to the database at once.
    #[arg(long, value_name = "N",
        default_value_t = queue::store::postgres::Options::CONNECTIONS as u32,
        value_parser = clap::value_parser!(u32).range(1..=500))]
    pub database_connections: u32,
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
    /// Calls of one key or token at once: each daemon has one for each slot and one for
    /// control; what jobs report is not counted.
    #[arg(long, value_name = "N", default_value_t = limits::CALLS_PER_CREDENTIAL,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub calls_per_credential: u32,
    #[command(flatten)]
    pub keep: keep::Args,
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
    args.place.check()?;
    check_companions(&args)?;
    let database = database(&args);
    let blob_dir = args.place.blob_dir()?;
    let data_dir = args.place.data_dir()?;
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
    options.edge.calls_per_credential = args.calls_per_credential;
    options.retention = args.keep.retention();
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
    let (url, cert) = (
        args.place.database_url.is_some(),
        args.tls_cert_file.is_some(),
    );
    let refused = [
        (
            args.database_listen_url.is_some() && !url,
            "--database-listen-url goes with --database-url",
        ),
        (
            args.database_pooled && !url,
            "--database-pooled goes with --database-url",
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

fn database(args: &Args) -> queue::Database {
    match args.place.database() {
        queue::Database::Embedded => queue::Database::Embedded,
        queue::Database::Postgres(mut options) => {
            options.listen_url.clone_from(&args.database_listen_url);
            options.connections = args.database_connections as usize;
            if args.database_pooled {
                options.between = queue::store::postgres::Between::Pooler;
            }
            queue::Database::Postgres(options)
        }
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
            "--database-pooled",
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
}
