//! The flags of `quickstart`.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::exposed::Opened;
use super::pairs::{self, Pair};
use super::{Context, connection};
use crate::failure::{Exit, Failure};
use crate::logging;
use crate::quickstart::{Options, Stay};

/// A queue and a daemon in one process, a template, and a workspace made from it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  provisionerd quickstart                                  the template built into the binary
  provisionerd quickstart ./my-template --parameter region=eu
  provisionerd quickstart --keep                           go on serving until ^C

Run it again and it updates the same workspace.")]
pub struct Args {
    /// A template directory; by default the template built into the binary.
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Leave queue and daemon serving until ^C.
    #[arg(long)]
    keep: bool,
    /// Where everything is kept; by default ~/.local/share/provisionerd.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Address of the gRPC port, by default a free one on loopback.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Value of a parameter; `K=@FILE` reads it from a file.
    #[arg(long, value_name = "K=V", value_parser = pairs::parse)]
    parameter: Vec<Pair>,
    /// Value of a template variable; `K=@FILE` reads it from a file.
    #[arg(long, value_name = "K=V", value_parser = pairs::parse)]
    variable: Vec<Pair>,
    /// File with values of template variables, .tfvars or .tfvars.json.
    #[arg(long, value_name = "FILE")]
    variable_file: Vec<PathBuf>,
    /// Engine: terraform, tofu or a path; by default the first on PATH.
    #[arg(long, value_name = "terraform|tofu|PATH")]
    engine: Option<String>,
    /// Filesystem mirror of providers (a directory) or https URL of a network mirror, in
    /// this order.
    #[arg(long, value_name = "DIR|URL")]
    provider_mirror: Vec<String>,
    #[command(flatten)]
    logging: logging::Observed,
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    // Its own log lines would tear the live view apart: warnings only, unless asked.
    let filter = Some(context.log.as_deref().unwrap_or("warn"));
    let telemetry = logging::start(filter, &args.logging, "provisionerd-quickstart")?;
    let ended = match options(args) {
        Ok(options) => Box::pin(crate::quickstart::run(context, options)).await,
        Err(failure) => Err(failure),
    };
    telemetry.end().await;
    ended
}

fn options(args: Args) -> Result<Options, Failure> {
    let engine = super::start::engine(args.engine.as_deref())?;
    let data_dir = connection::data_dir(args.data_dir)?;
    Opened::by_engine(&engine)
        .with_mirrors(&args.provider_mirror)
        .refuse("the data directory", &data_dir)?;
    Ok(Options {
        directory: args.directory,
        stay: if args.keep { Stay::Keep } else { Stay::Leave },
        data_dir,
        listen: args.listen,
        parameters: pairs::parameters(args.parameter)?,
        variables: pairs::variables(&args.variable_file, args.variable)?,
        engine,
        provider_mirrors: args.provider_mirror,
    })
}
