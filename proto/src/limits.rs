//! Every limit of the product, in one place.
//!
//! A limit is named in the message that reports it, told to the peer where the peer
//! must keep to it, and tripped by a test. Sizes are bytes unless the name says more.

/// One mebibyte.
pub const MIB: u64 = 1024 * 1024;

/// Largest gRPC message either side accepts. A finish carries resources inline, an update
/// after an outage all entries of the ledger that were made in it.
pub const GRPC_MESSAGE: usize = 64 * 1024 * 1024;

/// Data in one message of a blob stream.
pub const BLOB_CHUNK: usize = 256 * 1024;

/// Names in an acquire of what the daemon may have at hand: the versions of as many
/// workspaces as one host is asked for in turns, with their providers.
pub const HOLDS: usize = 32;

/// Largest blob the queue stores: archives, states, checkpoints.
pub const BLOB: u64 = 1024 * MIB;

/// Blobs up to this size live in SQL rows instead of files.
pub const BLOB_INLINE: usize = 64 * 1024;

/// Blobs that one provisioner key may store for leases which the queue does not know,
/// within the age of the sweep, and endings of such leases, which stay until a person
/// discards them: one for each job of a large pool after a restore. A blob that an ending
/// names counts as one with it.
pub const UNKNOWN_LEASE_BLOBS: u64 = 10_000;

/// Bytes of those blobs and endings.
pub const UNKNOWN_LEASE_BYTES: u64 = 8 * 1024 * MIB;

/// Unclaimed endings in one page of their list.
pub const UNCLAIMED_LISTED: u32 = 100;

/// Bytes of their reports after which a page ends with fewer: no message may be larger
/// than 64 MiB.
pub const UNCLAIMED_BYTES: u64 = 16 * MIB;

/// Space held back for each job that changes the world, so that on a full disk its final
/// state and its ending can still be written.
pub const STATE_RESERVE: u64 = 16 * MIB;

/// Directories of jobs whose states could not be told that a daemon keeps for a person: with
/// that many it takes no more jobs.
pub const RETAINED: usize = 100;

/// Part of the memory a daemon may use that its jobs may hold together, in percent: what
/// is over it belongs to the daemon, its supervisors and workers, and the host.
pub const JOBS_MEMORY_PERCENT: u64 = 80;

/// Memory that one job may hold at least, however many slots share the host: engines and
/// the providers of the large clouds need several hundred MiB each.
pub const JOB_MEMORY_FLOOR: u64 = 1024 * MIB;

/// Free space below which an engine that failed is said to have run out of disk: less
/// than what is held back for its job, which may have been given back by then.
pub const DISK_ROOM: u64 = STATE_RESERVE + MIB;

/// Longest piece of one log line; longer lines travel as pieces marked `more`.
pub const LOG_PIECE: usize = 64 * 1024;

/// Lines in one update: more makes one transaction needlessly long.
pub const UPDATE_LINES: usize = 2_000;

/// Bytes of text at which an update is sent without waiting.
pub const UPDATE_FLUSH_BYTES: usize = 64 * 1024;

/// Lines at which an update is sent without waiting.
pub const UPDATE_FLUSH_LINES: usize = 200;

/// Largest text of all lines in one update, so that a message stays well below
/// [`GRPC_MESSAGE`].
pub const UPDATE_BYTES: usize = 4 * 1024 * 1024;

/// Unsent log bytes of one job at which debug lines go first and a gap is counted.
pub const LOG_BACKLOG: u64 = 512 * MIB;

/// Largest frame between supervisor and worker or daemon.
pub const SUPERVISOR_FRAME: usize = 256 * 1024;

/// Largest frame between worker and daemon: an outcome carries the extraction.
pub const WORKER_FRAME: usize = 48 * 1024 * 1024;

/// Template archive as uploaded (compressed or not).
pub const ARCHIVE: u64 = 512 * MIB;

/// Entries in a template archive.
pub const ARCHIVE_ENTRIES: u64 = 100_000;

/// One file in a template archive.
pub const ARCHIVE_ENTRY: u64 = 512 * MIB;

/// All files of a template archive.
pub const ARCHIVE_UNPACKED: u64 = 1024 * MIB;

/// Unpacked bytes per packed byte beyond the first [`MIB`]: a bomb, not a template.
pub const ARCHIVE_RATIO: u64 = 200;

/// Longest path of an archive entry.
pub const ARCHIVE_PATH: usize = 1_024;

/// One configuration file of a root module, checked and analysed in memory.
pub const CONFIGURATION_FILE: u64 = 2 * MIB;

/// All configuration files of a template, its modules included, that are analysed.
pub const CONFIGURATION: u64 = 32 * MIB;

/// A state the worker reads into memory.
pub const STATE: u64 = 512 * MIB;

/// `show -json` output the worker parses.
pub const PLAN_JSON: u64 = 512 * MIB;

/// One environment string, name and `=` included. Kernel: `MAX_ARG_STRLEN` is
/// 131,072 with its terminator; longer makes `execve` fail with `E2BIG`.
pub const ENV_STRING: usize = 131_071;

/// All environment strings of one engine process that a worker gives it: parameters,
/// tokens, scripts. It travels in several frames. The kernel takes arguments and
/// environment up to a quarter of the stack's limit, as a rule 2 MiB, pointers included.
pub const ENVIRONMENT: usize = MIB as usize;

/// Path of a job's TMPDIR: plugins put unix sockets there, `sun_path` holds 107 bytes
/// and a terminator, and some plugins make a directory of their own in between.
pub const TMPDIR_PATH: usize = 70;

/// Name of an organization, template, workspace, key, token, daemon, owner.
pub const NAME: usize = 64;

/// Tags on a job or daemon.
pub const TAGS: usize = 64;

/// Key or value of a tag.
pub const TAG: usize = 256;

/// Counted attempts of one job before `ATTEMPTS_EXHAUSTED`.
pub const ATTEMPTS: u32 = 3;

/// Uncounted hand-outs (drain, never started, unconfirmed) of one job.
pub const UNCOUNTED_RELEASES: u32 = 20;

/// Changes of a plan that are named to the queue before they are made. Creations come
/// first: of what is changed or deleted the workspace's state tells.
pub const INTENDED_CHANGES: usize = 10_000;

/// Text of all of them.
pub const INTENDED_BYTES: usize = 4 * MIB as usize;

/// Slots of one daemon.
pub const SLOTS: u32 = 1_000;

/// Collectors that one daemon runs at a time: each holds a state in memory, and a daemon
/// that comes back may find a job in each of its slots.
pub const COLLECTORS: usize = 4;

/// Bytes of a dead worker's files that a collector gets one more second for.
pub const COLLECTED_PER_SECOND: u64 = MIB;

/// Seconds of the longest lease after the gate: within a day a job whose host is gone has
/// its verdict.
pub const LEASE_SECONDS: u64 = 86_400;

/// Milliseconds of the longest deadline that a job may be given, thirty days.
pub const DEADLINE_MS: u64 = 30 * 86_400_000;

/// Open files of an engine and its providers.
pub const ENGINE_NOFILE: u64 = 65_536;

/// Largest unary request but a report of a job, which may have [`GRPC_MESSAGE`].
pub const REQUEST: usize = 8 * 1024 * 1024;

/// Largest message of a stream of requests: a chunk of a blob, or what a daemon says of
/// itself.
pub const STREAM_REQUEST: usize = 1024 * 1024;

/// Bytes of unary requests that a queue holds at once; another one is refused, and may come
/// again later.
pub const REQUESTS_HELD: u64 = 512 * MIB;

/// Bytes of large messages that a queue holds for daemons which have not read them, and as
/// many for clients; another one is refused.
pub const UNREAD: u64 = 512 * MIB;

/// Bytes of all messages to the holders of one key or token.
pub const UNREAD_PER_CREDENTIAL: u64 = 128 * MIB;

/// Streams by which one token follows jobs at once: their logs or their views.
pub const FOLLOWED_PER_CREDENTIAL: usize = 1_000;

/// Text in one message of a log, and one piece of a line more: of each log that is followed
/// and not read, two such messages wait.
pub const LOG_BATCH: usize = 128 * 1024;

/// Connections to the gRPC port of a queue.
pub const CONNECTIONS: u32 = 20_000;

/// Connections from one address: all daemons behind one load balancer or NAT share it.
pub const CONNECTIONS_PER_ADDRESS: u32 = 4_096;

/// Connections of one address whose TLS handshake or HTTP/2 preface is awaited at once;
/// further ones wait for their turn.
pub const HANDSHAKES_PER_ADDRESS: usize = 256;

/// Connections to the HTTP port of a queue or daemon.
pub const HTTP_CONNECTIONS: u32 = 256;

/// Connections to it from one address.
pub const HTTP_CONNECTIONS_PER_ADDRESS: u32 = 64;

/// Open files kept for everything but connections: stores, blobs, logs.
pub const FILES_RESERVED: u64 = 512;

/// Streams of one connection: a daemon has one per slot, and some for blobs.
pub const STREAMS: u32 = SLOTS + 200;

/// Calls of one key or token that are open at once at a queue, but reports of jobs: those of
/// ten thousand daemons with four slots each, twice, while it is not known yet that their
/// first connections are dead.
pub const CALLS_PER_CREDENTIAL: u32 = 100_000;

/// Calls that are refused over one connection before it has shown a good credential; it
/// ends with the next one. More than [`WRONG_CREDENTIALS`], so that who guesses hears of
/// that limit first.
pub const CALLS_OF_STRANGERS: u32 = 64;

/// Request headers: credentials, identity and trace context, all short.
pub const HEADERS: u32 = 16 * 1024;

/// Wrong credentials that one address may try in a minute, and at once.
pub const WRONG_CREDENTIALS: u32 = 60;

/// Addresses whose wrong credentials are counted, and credentials that are remembered as
/// good, at least.
pub const REMEMBERED: usize = 32 * 1024;

/// Transfers of blob files that are open at once, each with its buffers.
pub const TRANSFERS: usize = 256;

/// Those of one daemon or owner; further ones wait.
pub const TRANSFERS_PER_CALLER: usize = 16;

/// Bytes that a transfer must move in each `timings::TRANSFER_STALL`, unless it ends.
pub const TRANSFER_PACE: u64 = 256 * 1024;

/// Pools whose jobs metrics count apart; the jobs of further ones are counted together.
pub const METRIC_POOLS: usize = 50;

/// The limits a worker keeps to, as they travel to it.
#[must_use]
pub fn for_worker() -> crate::v1::Limits {
    crate::v1::Limits {
        archive_bytes: ARCHIVE,
        archive_entries: ARCHIVE_ENTRIES,
        archive_entry_bytes: ARCHIVE_ENTRY,
        archive_unpacked_bytes: ARCHIVE_UNPACKED,
        state_bytes: STATE,
        plan_json_bytes: PLAN_JSON,
        log_backlog_bytes: LOG_BACKLOG,
    }
}

/// E-mail address, full name, or name of a group of an owner.
pub const OWNER_TEXT: usize = 256;

/// Groups of one owner: all of them stand in one variable of the environment.
pub const OWNER_GROUPS: usize = 500;

/// Lines an hour that refusals of known callers may add to the audit log of one replica;
/// what is over it is counted.
pub const AUDITED_REFUSALS: u32 = 1_200;

/// The same of callers that nobody knows.
pub const AUDITED_STRANGERS: u32 = 300;

/// Lines of the audit log in one answer.
pub const AUDIT_PAGE: u32 = 1_000;
/// Bytes of a blob in one short call.
pub const BLOB_PART: usize = MIB as usize;

/// Blobs that come in by parts and are not whole yet, of all daemons of one provisioner key.
pub const PARTIAL_BLOBS: usize = 1_024;

/// Their announced bytes.
pub const PARTIAL_BYTES: u64 = 16 * 1024 * MIB;

/// Streams of a daemon that bring nothing, one after the other, before it uses short calls.
pub const SILENT_STREAMS: u32 = 2;

/// Streams of a daemon that are cut one after the other before it uses short calls.
pub const CUT_STREAMS: u32 = 3;
