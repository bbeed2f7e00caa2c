//! A transaction-pooling proxy, as hard on its clients as one may be: each transaction
//! gets the server connection that has rested longest, so never the one before while there
//! are others, and nothing of a session is put back in between.
//!
//! It speaks as much of the protocol as that takes: messages are told apart, and a client
//! keeps its connection until all it has asked is answered and the server says `I`, not in a
//! transaction (PostgreSQL 17 documentation, 53.7).

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Server connections at least, so that each transaction can have another.
const SERVERS: usize = 3;

/// Asks for TLS instead of beginning.
const SSL_REQUEST: u32 = 80_877_103;

/// A proxy; ends with its runtime.
pub struct Pooler {
    /// Where it listens.
    pub address: SocketAddr,
    pool: Arc<Pool>,
}

struct Pool {
    port: u16,
    idle: Mutex<VecDeque<Server>>,
    transactions: AtomicU64,
    changes: AtomicU64,
}

/// One server connection.
struct Server {
    stream: TcpStream,
    /// The client that had it last.
    had: u64,
}

impl Pooler {
    /// Before the server on `port`.
    pub async fn start(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its number");
        let pool = Arc::new(Pool {
            port,
            idle: Mutex::default(),
            transactions: AtomicU64::new(0),
            changes: AtomicU64::new(0),
        });
        let shared = Arc::clone(&pool);
        tokio::spawn(async move {
            for client in 1_u64.. {
                let Ok((stream, _)) = listener.accept().await else {
                    return;
                };
                let pool = Arc::clone(&shared);
                tokio::spawn(async move { serve(&pool, client, stream).await });
            }
        });
        Self { address, pool }
    }

    /// Transactions so far, and how many of them had a server connection which another
    /// client had before.
    pub fn counts(&self) -> (u64, u64) {
        let count = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        (count(&self.pool.transactions), count(&self.pool.changes))
    }
}

/// A client from its first byte to its last.
async fn serve(pool: &Pool, client: u64, mut stream: TcpStream) -> Option<()> {
    // Else each answer would wait for an acknowledgement of the one before.
    stream.set_nodelay(true).ok()?;
    let startup = startup(&mut stream).await?;
    let (server, greeting) = connect(pool.port, &startup).await?;
    stream.write_all(&greeting).await.ok()?;
    pool.rest(server);
    while pool.resting() < SERVERS {
        let (server, _) = connect(pool.port, &startup).await?;
        pool.rest(server);
    }
    loop {
        let first = message(&mut stream).await?;
        if first.kind == b'X' {
            return Some(());
        }
        let mut server = match pool.take() {
            Some(server) => server,
            None => connect(pool.port, &startup).await?.0,
        };
        pool.transactions.fetch_add(1, Ordering::SeqCst);
        let change = u64::from(server.had != client && server.had != 0);
        pool.changes.fetch_add(change, Ordering::SeqCst);
        server.had = client;
        // A connection that a client leaves in the middle goes with it.
        transaction(&mut stream, &mut server.stream, first).await?;
        pool.rest(server);
    }
}

/// From the first message of a transaction to the answer that ends it.
async fn transaction(client: &mut TcpStream, server: &mut TcpStream, first: Message) -> Option<()> {
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let (mut asked, mut answered) = (Reader::default(), Reader::default());
    let mut open = u64::from(first.asks());
    to_server.write_all(&first.bytes).await.ok()?;
    loop {
        // Both readings are cancel safe: what came of a message stays in its reader.
        tokio::select! {
            message = asked.next(&mut from_client) => {
                let message = message?;
                open += u64::from(message.asks());
                to_server.write_all(&message.bytes).await.ok()?;
            }
            message = answered.next(&mut from_server) => {
                let message = message?;
                to_client.write_all(&message.bytes).await.ok()?;
                if message.kind == b'Z' {
                    open = open.saturating_sub(1);
                    if open == 0 && message.bytes.last() == Some(&b'I') && asked.is_empty() {
                        return Some(());
                    }
                }
            }
        }
    }
}

impl Pool {
    fn rest(&self, server: Server) {
        self.idle.lock().expect("idle").push_back(server);
    }

    fn take(&self) -> Option<Server> {
        self.idle.lock().expect("idle").pop_front()
    }

    fn resting(&self) -> usize {
        self.idle.lock().expect("idle").len()
    }
}

/// A message with its kind and length in front.
struct Message {
    kind: u8,
    bytes: Vec<u8>,
}

impl Message {
    /// Whether the server says that it is ready after it: a simple query, or a sync.
    fn asks(&self) -> bool {
        [b'Q', b'S'].contains(&self.kind)
    }
}

/// Bytes of a message that is not whole yet.
#[derive(Default)]
struct Reader(Vec<u8>);

impl Reader {
    /// The next message. Cancel safe.
    async fn next(&mut self, from: &mut (impl tokio::io::AsyncRead + Unpin)) -> Option<Message> {
        loop {
            if let Some(length) = self.0.get(1..5) {
                let length = u32::from_be_bytes(length.try_into().expect("four"));
                let whole = 1 + length as usize;
                if self.0.len() >= whole {
                    let bytes: Vec<u8> = self.0.drain(..whole).collect();
                    let kind = bytes[0];
                    return Some(Message { kind, bytes });
                }
            }
            if from.read_buf(&mut self.0).await.ok()? == 0 {
                return None;
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// One message and not a byte more.
async fn message(from: &mut TcpStream) -> Option<Message> {
    let mut head = [0; 5];
    from.read_exact(&mut head).await.ok()?;
    let length = u32::from_be_bytes(head[1..].try_into().expect("four")) as usize;
    let mut bytes = head.to_vec();
    bytes.resize(1 + length, 0);
    from.read_exact(&mut bytes[5..]).await.ok()?;
    Some(Message {
        kind: head[0],
        bytes,
    })
}

/// What a client begins with.
async fn startup(client: &mut TcpStream) -> Option<Vec<u8>> {
    loop {
        let mut head = [0; 8];
        client.read_exact(&mut head).await.ok()?;
        let number = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().expect("four"));
        if number(4) == SSL_REQUEST {
            client.write_all(b"N").await.ok()?;
            continue;
        }
        let mut bytes = head.to_vec();
        bytes.resize(number(0) as usize, 0);
        client.read_exact(&mut bytes[8..]).await.ok()?;
        return Some(bytes);
    }
}

/// A server connection that is ready, and all it said until then.
async fn connect(port: u16, startup: &[u8]) -> Option<(Server, Vec<u8>)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    stream.set_nodelay(true).ok()?;
    stream.write_all(startup).await.ok()?;
    let mut greeting = Vec::new();
    loop {
        let message = message(&mut stream).await?;
        greeting.extend_from_slice(&message.bytes);
        if message.kind == b'Z' {
            return Some((Server { stream, had: 0 }, greeting));
        }
    }
}
