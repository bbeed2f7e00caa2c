//! What the machine itself can do in this run: a run whose probe is more than twice its
//! quiet value says nothing about us.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use proto::v1::GetInfoRequest;

use crate::sim::Client;
use crate::stats::Series;

/// A unary call that touches no table: gRPC's own cost on this machine.
pub async fn echo(client: &mut Client, calls: usize) -> Result<Series> {
    let mut series = Series::default();
    for _ in 0..calls {
        let start = Instant::now();
        client.management.get_info(GetInfoRequest {}).await?;
        series.push(start.elapsed());
    }
    Ok(series)
}

/// One small durable write in `dir`.
pub fn fdatasync(dir: &Path, writes: usize) -> Result<Series> {
    let mut file = tempfile::tempfile_in(dir)?;
    let mut series = Series::default();
    for _ in 0..writes {
        let start = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        series.push(start.elapsed());
    }
    Ok(series)
}
