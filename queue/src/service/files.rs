//! How many files the process may open, of which each connection is one.

use proto::limits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Lets the process open as many files as it may.
pub fn raise() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(error = %error, "the limit on open files cannot be raised");
    }
}

/// So many of the connections that are asked for as leave files for everything else.
pub(super) fn connections(asked: u32) -> u32 {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let possible = within(files);
    if possible < asked {
        tracing::warn!(
            limit.files = files,
            connections = possible,
            "the limit on open files (RLIMIT_NOFILE) allows fewer connections than --connections"
        );
    }
    possible.min(asked)
}

fn within(files: u64) -> u32 {
    let kept = limits::FILES_RESERVED.min(files / 2);
    u32::try_from(files - kept).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_files_are_left_for_the_store() {
        assert_eq!(within(1_024), 512);
        assert_eq!(within(100), 50);
        assert_eq!(within(65_536), 65_024);
        assert_eq!(within(u64::MAX), u32::MAX);
    }
}
