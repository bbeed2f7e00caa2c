//! Stands between a store and its server, and breaks connections at the worst moments.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What a client sends to end a transaction.
const COMMIT: &[u8] = b"COMMIT\0";

/// Where a connection breaks.
#[derive(Debug, Clone, Copy)]
pub enum Breaks {
    /// COMMIT never reaches the server.
    BeforeCommit,
    /// The server has committed, and its answer never reaches the client.
    AfterCommit,
}

/// A proxy; ends with its runtime.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    /// How many more connections it breaks.
    left: Arc<AtomicU32>,
}

impl Proxy {
    /// Passes everything on to the server on `port`.
    pub async fn start(port: u16, breaks: Breaks) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its number");
        let left = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&left);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let left = Arc::clone(&counter);
                tokio::spawn(async move {
                    let server = TcpStream::connect(("127.0.0.1", port)).await;
                    pass(client, server.expect("the server"), breaks, &left).await;
                });
            }
        });
        Self { address, left }
    }

    /// Breaks the next `count` connections that commit.
    pub fn break_next(&self, count: u32) {
        self.left.store(count, Ordering::SeqCst);
    }

    /// How many of them are left.
    pub fn left(&self) -> u32 {
        self.left.load(Ordering::SeqCst)
    }
}

async fn pass(client: TcpStream, server: TcpStream, breaks: Breaks, left: &AtomicU32) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (mut asked, mut answered) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        tokio::select! {
            read = from_client.read(&mut asked) => {
                let Ok(read @ 1..) = read else { return };
                let commits = asked[..read].ends_with(COMMIT);
                let spend = |n: u32| n.checked_sub(1);
                let broken = commits
                    && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, spend).is_ok();
                match (broken, breaks) {
                    (true, Breaks::BeforeCommit) => return,
                    (true, Breaks::AfterCommit) => {
                        to_server.write_all(&asked[..read]).await.expect("sent");
                        // Its answer, behind those to what came along: it is durable.
                        let mut said = Vec::new();
                        while !said.windows(COMMIT.len()).any(|part| part == COMMIT) {
                            let read = from_server.read(&mut answered).await;
                            let read = read.expect("an answer");
                            assert!(read > 0, "the rest of an answer");
                            said.extend_from_slice(&answered[..read]);
                        }
                        return;
                    }
                    (false, _) => to_server.write_all(&asked[..read]).await.expect("sent"),
                }
            }
            read = from_server.read(&mut answered) => {
                let Ok(read @ 1..) = read else { return };
                if to_client.write_all(&answered[..read]).await.is_err() {
                    return;
                }
            }
        }
    }
}
