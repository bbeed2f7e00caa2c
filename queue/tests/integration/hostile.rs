//! Garbage on the port: whatever comes, service to others goes on.

use std::net::SocketAddr;
use std::time::Duration;

use prost::Message as _;
use proto::limits;
use proto::v1;
use proto::v1::management_client::ManagementClient;
use queue::{Edge, Options};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status, Streaming};

use crate::harness::*;

/// RFC 9113, 3.4, with an empty SETTINGS frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
const END_STREAM: u8 = 1;
/// RFC 9113, 6.5.2 and 7.
const MAX_CONCURRENT_STREAMS: u16 = 3;
const REFUSED_STREAM: u32 = 7;

async fn queue(edge: Edge) -> Queue {
    let dir = tempfile::tempdir().expect("tempdir");
    let options = Options {
        edge,
        ..options(&dir)
    };
    Queue::start_in(dir, options).await
}

/// Short waits for strangers, and long enough for who is honest on a busy machine.
fn impatient() -> Edge {
    Edge {
        handshake: Duration::from_secs(3),
        introduction: Duration::from_secs(5),
        ..Edge::default()
    }
}

async fn dial(queue: &Queue) -> TcpStream {
    let dialed = TcpStream::connect(queue.service.grpc_addr()).await;
    dialed.expect("the port listens")
}

/// A connection from another address of this machine.
async fn dial_from(address: &str, queue: &Queue) -> TcpStream {
    connect_from(address, queue.service.grpc_addr()).await
}

async fn connect_from(address: &str, port: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    let from: SocketAddr = format!("{address}:0").parse().expect("an address");
    socket.bind(from).expect("an address of the loopback");
    let dialed = socket.connect(port).await;
    dialed.expect("the port listens")
}

/// What comes until the other side closes.
async fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset is as good as an end.
    let _reset = soon(stream.read_to_end(&mut bytes)).await;
    bytes
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame");
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// HPACK without tables: a POST to a call of the fleet, without credential.
fn call() -> Vec<u8> {
    call_of("/provisionerd.v1.Fleet/UpdateJob", &[])
}

fn call_of(path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    block.extend([0x04, u8::try_from(path.len()).expect("short")]);
    block.extend(path.as_bytes());
    block.extend([0x01, 5]);
    block.extend(b"queue");
    block.extend([0x0f, 0x10, 16]);
    block.extend(b"application/grpc");
    for (name, value) in headers {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).expect("short"));
            block.extend(text.as_bytes());
        }
    }
    block
}

/// The same as a daemon with this key.
fn known_call(key: &str) -> Vec<u8> {
    let bearer = format!("Bearer {key}");
    call_of(
        "/provisionerd.v1.Fleet/UpdateJob",
        &[
            ("authorization", bearer.as_str()),
            ("x-daemon-name", "one"),
            ("x-daemon-instance", "instance-1"),
        ],
    )
}

/// Frames that come, as kind, stream and payload, until one is what is looked for.
async fn frames_until(
    stream: &mut TcpStream,
    is_it: impl Fn(u8, u32, &[u8]) -> bool,
) -> Vec<(u8, u32, Vec<u8>)> {
    let mut frames = Vec::new();
    loop {
        let mut head = [0; 9];
        soon(stream.read_exact(&mut head)).await.expect("a frame");
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut payload = vec![0; usize::try_from(length).expect("short")];
        soon(stream.read_exact(&mut payload)).await.expect("whole");
        let over = is_it(head[3], id, &payload);
        frames.push((head[3], id, payload));
        if over {
            return frames;
        }
    }
}

/// Writes all of it while reading what is answered; the other side may close at any time.
async fn flood(stream: TcpStream, bytes: Vec<u8>) {
    let (mut read, mut write) = stream.into_split();
    let reading = tokio::spawn(async move {
        let mut sink = tokio::io::sink();
        let _reset = tokio::io::copy(&mut read, &mut sink).await;
    });
    let _closed = write.write_all(&bytes).await;
    soon(reading).await.expect("reader");
}

fn streams(count: u32, each: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    let mut bytes = PREFACE.to_vec();
    for stream in (0..count).map(|index| 2 * index + 1) {
        bytes.extend(each(stream));
    }
    bytes
}

#[tokio::test]
async fn garbage_on_the_port_leaves_service_to_others() {
    let queue = queue(impatient()).await;
    let mut daemon = queue.daemon("good").await;
    let mut attacks = JoinSet::new();
    for seed in 0..20 {
        let mut noise = noise(100_000 + seed);
        noise.rotate_left(seed);
        attacks.spawn(flood(dial(&queue).await, noise));
    }
    for _ in 0..200 {
        let silent = dial(&queue).await;
        attacks.spawn(async move { drop(rest(silent).await) });
    }
    let opened = |stream| frame(HEADERS, END_HEADERS, stream, &call());
    let reset = |stream| {
        let mut frames = opened(stream);
        frames.extend(frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
        frames
    };
    for _ in 0..2 {
        attacks.spawn(flood(dial(&queue).await, streams(2_000, opened)));
        attacks.spawn(flood(dial(&queue).await, streams(2_000, reset)));
    }
    let endless = |stream| {
        let mut frames = frame(HEADERS, 0, stream, &call());
        for _ in 0..500 {
            // A literal header field whose value does not end.
            frames.extend(frame(CONTINUATION, 0, stream, &[0x01; 16_000]));
        }
        frames
    };
    for _ in 0..2 {
        attacks.spawn(flood(dial(&queue).await, streams(1, endless)));
    }
    for round in 0..5 {
        let name = format!("round-{round}");
        let served = async {
            queue.push(&name, &[]).await;
            let job = daemon.take().await;
            let succeeded = finish(&job, v1::Outcome::Succeeded);
            daemon.fleet.finish_job(succeeded).await.expect("finish");
        };
        let served = tokio::time::timeout(DEADLINE, served).await;
        served.expect("a job is handed out in the midst of it");
    }
    let newcomer = connect(&queue.service).await;
    let bearer = format!(
        "Bearer {}",
        queue.service.admin_token().expect("token").expose()
    );
    let identity = Identity::new(&[("authorization", &bearer)]);
    ManagementClient::with_interceptor(newcomer, identity)
        .get_info(v1::GetInfoRequest {})
        .await
        .expect("a newcomer is served");
    while let Some(attack) = soon(attacks.join_next()).await {
        attack.expect("every attacker is shown out");
    }
    let ours = "provisionerd_connections 1\n";
    until(async || queue.http("/metrics").await.1.contains(ours)).await;
}

#[tokio::test]
async fn a_browser_is_told_that_it_came_to_the_wrong_port() {
    let queue = queue(Edge::default()).await;
    let mut stream = dial(&queue).await;
    let request = b"GET / HTTP/1.1\r\nHost: queue\r\n\r\n";
    stream.write_all(request).await.expect("sent");
    let answer = String::from_utf8(rest(stream).await).expect("text");
    assert!(answer.starts_with("HTTP/1.1 505 "), "{answer}");
    assert!(answer.contains("this port speaks gRPC"), "{answer}");
}

#[tokio::test]
async fn who_shows_no_credential_in_time_is_shown_out() {
    let queue = queue(impatient()).await;
    let mut greeted = dial(&queue).await;
    greeted.write_all(PREFACE).await.expect("sent");
    let silent = dial(&queue).await;
    assert_eq!(rest(silent).await, b"");
    rest(greeted).await;
}

#[tokio::test]
async fn who_calls_again_and_again_without_a_credential_is_shown_out() {
    let queue = queue(Edge {
        introduction: Duration::from_secs(3_600),
        ..Edge::default()
    })
    .await;
    let mut stream = dial(&queue).await;
    stream.write_all(PREFACE).await.expect("sent");
    let call = |number| frame(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, &call());
    for number in 0..limits::CALLS_OF_STRANGERS {
        stream.write_all(&call(number)).await.expect("served");
        let answer = |kind, of, _: &[u8]| (kind, of) == (HEADERS, 2 * number + 1);
        frames_until(&mut stream, answer).await;
    }
    // The one over the limit may still be answered.
    for number in [0, 1] {
        let _closed = stream
            .write_all(&call(limits::CALLS_OF_STRANGERS + number))
            .await;
    }
    rest(stream).await;
    let mut admin = queue.admin();
    admin.get_info(v1::GetInfoRequest {}).await.expect("served");
}

#[tokio::test]
async fn who_has_shown_a_credential_stays() {
    let queue = queue(impatient()).await;
    let known = connect(&queue.service).await;
    let bearer = format!(
        "Bearer {}",
        queue.service.admin_token().expect("token").expose()
    );
    let identity = Identity::new(&[("authorization", &bearer)]);
    let mut known = ManagementClient::with_interceptor(known, identity);
    known.get_info(v1::GetInfoRequest {}).await.expect("good");
    // It came later, and is out before the other one is asked again.
    let mut greeted = dial(&queue).await;
    greeted.write_all(PREFACE).await.expect("sent");
    rest(greeted).await;
    let one = "provisionerd_connections 1\n";
    until(async || queue.http("/metrics").await.1.contains(one)).await;
    known.get_info(v1::GetInfoRequest {}).await.expect("stays");
}

#[tokio::test]
async fn one_address_cannot_take_all_connections() {
    let queue = queue(Edge {
        connections_per_address: 3,
        ..Edge::default()
    })
    .await;
    let mut admin = queue.admin();
    let _held = [dial(&queue).await, dial(&queue).await];
    let over = dial(&queue).await;
    assert_eq!(rest(over).await, b"");
    let _other = dial_from("127.0.0.2", &queue).await;
    let metrics = async || queue.http("/metrics").await.1;
    until(async || metrics().await.contains("provisionerd_connections 4\n")).await;
    assert!(
        metrics()
            .await
            .contains("provisionerd_connections_refused_total 1\n")
    );
    admin.get_info(v1::GetInfoRequest {}).await.expect("served");
}

#[tokio::test]
async fn a_connection_has_so_many_calls_at_once_and_one_more_is_refused() {
    let queue = queue(Edge::default()).await;
    let block = known_call(&queue.key("key", &[]).await);
    // None of them ends: each is a call whose request is still to come.
    let bytes = streams(limits::STREAMS + 1, |id| {
        frame(HEADERS, END_HEADERS, id, &block)
    });
    let mut stream = dial(&queue).await;
    stream.write_all(&bytes).await.expect("sent");
    let over = 2 * limits::STREAMS + 1;
    let frames = frames_until(&mut stream, |kind, _, _| kind == RST_STREAM).await;
    let reset: Vec<_> = frames
        .iter()
        .filter(|(kind, ..)| *kind == RST_STREAM)
        .collect();
    assert_eq!(reset[0].1, over, "{reset:?}");
    assert_eq!(
        reset[0].2,
        REFUSED_STREAM.to_be_bytes(),
        "may be tried again"
    );
    let said = frames.iter().find(|(kind, ..)| *kind == SETTINGS);
    let most = [
        &MAX_CONCURRENT_STREAMS.to_be_bytes()[..],
        &limits::STREAMS.to_be_bytes(),
    ];
    let most = most.concat();
    let says = said
        .expect("its settings")
        .2
        .chunks(6)
        .any(|one| one == most);
    assert!(says, "{said:?}");
    let mut admin = queue.admin();
    admin.get_info(v1::GetInfoRequest {}).await.expect("served");
}

#[tokio::test]
async fn a_credential_has_so_many_calls_open_and_one_more_is_refused() {
    let queue = queue(Edge {
        calls_per_credential: 3,
        ..Edge::default()
    })
    .await;
    let pending = queue.push("pending", &[]).await.id;
    let mut busy = queue.admin_apart("busy").await;
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(follow(&mut busy, &pending).await.expect("opened"));
    }
    let refused = busy.get_info(v1::GetInfoRequest {}).await;
    let refused = refused.expect_err("one over");
    assert_eq!(code(&refused), "TOO_MANY_CALLS");
    assert!(refused.message().contains("3 calls"), "{refused:?}");
    let mut other = queue.admin();
    other.get_info(v1::GetInfoRequest {}).await.expect("served");
    open.pop();
    until(async || busy.get_info(v1::GetInfoRequest {}).await.is_ok()).await;
}

/// Else whoever fills up the calls of a key ended the leases of its daemons.
#[tokio::test]
async fn what_a_job_reports_is_no_call_of_the_limit() {
    let queue = queue(Edge {
        calls_per_credential: 3,
        ..Edge::default()
    })
    .await;
    let mut daemon = queue.daemon("one").await;
    queue.push("runs", &[]).await;
    let job = daemon.take().await;
    // The stream that brought it may still be on its way out.
    let mut open = Vec::new();
    until(async || {
        while let Ok(stream) = daemon.try_acquire().await {
            open.push(stream);
        }
        open.len() == 3
    })
    .await;
    let refused = daemon.try_acquire().await.expect_err("one over");
    assert_eq!(code(&refused), "TOO_MANY_CALLS");
    let reported = daemon.fleet.update_job(update(&job, 1)).await;
    let reply = reported.expect("heard").into_inner();
    assert_eq!(reply.verdict(), v1::UpdateVerdict::Accepted);
    let ended = finish(&job, v1::Outcome::Succeeded);
    daemon.fleet.finish_job(ended).await.expect("heard");
}

async fn follow(client: &mut Client, job: &str) -> Result<Streaming<v1::LogBatch>, Status> {
    let request = v1::StreamLogsRequest {
        job_id: job.into(),
        after: 0,
        follow: true,
    };
    client.stream_logs(request).await.map(Response::into_inner)
}

#[tokio::test]
async fn a_token_has_so_many_streams_that_follow_jobs_and_one_more_is_refused() {
    let queue = queue(Edge::default()).await;
    let pending = queue.push("pending", &[]).await.id;
    let mut reader = queue.admin_apart("reader").await;
    let mut followed = Vec::new();
    for _ in 0..limits::FOLLOWED_PER_CREDENTIAL {
        followed.push(follow(&mut reader, &pending).await.expect("followed"));
    }
    let refused = follow(&mut reader, &pending).await.expect_err("one over");
    assert_eq!(code(&refused), "TOO_MANY_FOLLOWED");
    assert!(refused.message().contains("1000 streams"), "{refused:?}");
    let watch = v1::GetJobRequest {
        id: pending.clone(),
    };
    let refused = reader.watch_job(watch).await.expect_err("one over");
    assert_eq!(code(&refused), "TOO_MANY_FOLLOWED");
    let mut other = queue.admin();
    let _other = follow(&mut other, &pending).await.expect("another token");
    drop(followed);
    until(async || follow(&mut reader, &pending).await.is_ok()).await;
}

/// The value of a metric, by its name with all labels.
async fn metric(queue: &Queue, name: &str) -> u64 {
    let metrics = queue.http("/metrics").await.1;
    let value = metrics
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.expect(name).parse().expect("a number")
}

const UNREAD: &str = "provisionerd_answers_unread_bytes{to=\"clients\"}";

/// A job whose log comes in messages of 180,000 bytes.
async fn with_a_long_log(queue: &Queue, daemon: &mut Daemon) -> v1::Job {
    queue.push("long", &[]).await;
    let job = daemon.take().await;
    let text = "x".repeat(60_000);
    let mut report = update(&job, 1);
    report.lines = lines(1, &[text.as_str(); 10]);
    daemon.fleet.update_job(report).await.expect("update");
    job
}

async fn fills_its_limit(queue: &Queue) {
    until(async || metric(queue, UNREAD).await > limits::UNREAD_PER_CREDENTIAL - 200_000).await;
    assert!(metric(queue, UNREAD).await <= limits::UNREAD_PER_CREDENTIAL);
}

/// Its windows are as wide as can be, so that all is given to its connection, of which it
/// reads nothing.
#[tokio::test]
async fn what_waits_in_a_connection_that_nobody_reads_counts_too() {
    const DATA: u8 = 0;
    const WINDOW_UPDATE: u8 = 8;
    const WIDEST: u32 = 0x7fff_ffff;
    let queue = queue(Edge::default()).await;
    let mut daemon = queue.daemon("one").await;
    let job = with_a_long_log(&queue, &mut daemon).await;
    let bearer = format!("Bearer {}", queue.token("slow", "admin").await);
    let path = "/provisionerd.v1.Management/StreamLogs";
    let block = call_of(path, &[("authorization", &bearer)]);
    let message = v1::StreamLogsRequest {
        job_id: job.id,
        after: 0,
        follow: true,
    }
    .encode_to_vec();
    let length = u32::try_from(message.len()).expect("short");
    let request = [&[0][..], &length.to_be_bytes(), &message].concat();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let window = [&[0, 4][..], &WIDEST.to_be_bytes()].concat();
    bytes.extend(frame(SETTINGS, 0, 0, &window));
    let more = WIDEST - 65_535;
    bytes.extend(frame(WINDOW_UPDATE, 0, 0, &more.to_be_bytes()));
    for number in 0..u32::try_from(limits::FOLLOWED_PER_CREDENTIAL).expect("few") {
        let stream = 2 * number + 1;
        bytes.extend(frame(HEADERS, END_HEADERS, stream, &block));
        bytes.extend(frame(DATA, END_STREAM, stream, &request));
    }
    let mut slow = dial(&queue).await;
    slow.write_all(&bytes).await.expect("sent");
    fills_its_limit(&queue).await;
    let mut admin = queue.admin();
    admin.get_info(v1::GetInfoRequest {}).await.expect("served");
    drop(slow);
    until(async || metric(&queue, UNREAD).await == 0).await;
}

#[tokio::test]
async fn what_a_slow_reader_is_sent_waits_within_its_limit_and_others_read_on() {
    let queue = queue(Edge::default()).await;
    let mut daemon = queue.daemon("one").await;
    let job = with_a_long_log(&queue, &mut daemon).await;
    let mut slow = queue.admin_apart("slow").await;
    let mut unread = Vec::new();
    for _ in 0..limits::UNREAD_PER_CREDENTIAL / 160_000 {
        unread.push(follow(&mut slow, &job.id).await.expect("followed"));
    }
    fills_its_limit(&queue).await;
    let mut quick = queue.admin();
    let mut log = follow(&mut quick, &job.id).await.expect("followed");
    for (counter, number) in (2..).zip(11..20) {
        let mut report = update(&job, counter);
        report.lines = lines(number, &["more"]);
        daemon.fleet.update_job(report).await.expect("update");
    }
    let ended = finish(&job, v1::Outcome::Failed);
    daemon.fleet.finish_job(ended).await.expect("finish");
    let mut seen = 0;
    while let Some(batch) = soon(log.message()).await.expect("the log goes on") {
        seen += batch.lines.len();
    }
    assert_eq!(seen, 19);
    // The last ones found no room: they were told so, and hold none.
    let told = soon(unread.pop().expect("many").message()).await;
    assert_eq!(code(&told.expect_err("refused")), "TOO_MANY_ANSWERS");
    drop((unread, slow));
    until(async || metric(&queue, UNREAD).await == 0).await;
}

#[tokio::test]
async fn one_address_cannot_take_all_of_the_http_port() {
    let queue = queue(Edge::default()).await;
    let port = queue.service.http_addr().expect("http");
    let dial = async || TcpStream::connect(port).await.expect("the port listens");
    let mut held = Vec::new();
    for _ in 0..limits::HTTP_CONNECTIONS_PER_ADDRESS {
        held.push(dial().await);
    }
    assert_eq!(rest(dial().await).await, b"", "one over the limit");
    let mut elsewhere = connect_from("127.0.0.2", port).await;
    let request = b"GET /healthz HTTP/1.1\r\nHost: queue\r\nConnection: close\r\n\r\n";
    elsewhere.write_all(request).await.expect("sent");
    let answer = rest(elsewhere).await;
    assert!(
        answer.starts_with(b"HTTP/1.1 200"),
        "another address is served"
    );
    drop(held);
    until(async || {
        let mut again = dial().await;
        let sent = again.write_all(request).await;
        sent.is_ok() && rest(again).await.starts_with(b"HTTP/1.1 200")
    })
    .await;
}

#[tokio::test]
async fn a_place_in_all_comes_free_again() {
    let queue = queue(Edge {
        connections: 2,
        ..Edge::default()
    })
    .await;
    let held = dial(&queue).await;
    assert_eq!(rest(dial_from("127.0.0.2", &queue).await).await, b"");
    drop(held);
    until(async || {
        let mut stream = dial_from("127.0.0.2", &queue).await;
        let _closed = stream.write_all(PREFACE).await;
        // A server that takes it sends its settings.
        let mut first = [0];
        stream.read(&mut first).await.is_ok_and(|count| count == 1)
    })
    .await;
}

#[tokio::test]
async fn wrong_credentials_are_counted_by_address() {
    let queue = queue(Edge {
        wrong_credentials: 5,
        ..Edge::default()
    })
    .await;
    let ask = async |mut client: Client| client.get_info(v1::GetInfoRequest {}).await;
    ask(queue.admin()).await.expect("good");
    for guess in 0..5 {
        let refused = ask(queue.client(&format!("pt-guess-{guess}"))).await;
        assert_eq!(code(&refused.expect_err("a guess")), "WRONG_CREDENTIAL");
    }
    let refused = ask(queue.client("pt-guess-6")).await.expect_err("a guess");
    assert_eq!(code(&refused), "TOO_MANY_FAILURES");
    assert!(
        refused.message().contains("more than 5 wrong"),
        "{refused:?}"
    );
    ask(queue.admin()).await.expect("who was known goes on");
    let url = format!("http://{}", queue.service.grpc_addr());
    let elsewhere = Endpoint::from_shared(url).expect("url");
    let address = "127.0.0.2".parse().expect("address");
    let elsewhere = elsewhere.local_address(Some(address)).connect().await;
    let identity = Identity::new(&[("authorization", "Bearer pt-guess-7")]);
    let client = ManagementClient::with_interceptor(elsewhere.expect("connect"), identity);
    let refused = ask(client).await.expect_err("a guess");
    assert_eq!(code(&refused), "WRONG_CREDENTIAL", "another address");
    let metrics = queue.http("/metrics").await.1;
    for line in [
        "provisionerd_authentications_refused_total{reason=\"credential\"} 6\n",
        "provisionerd_authentications_refused_total{reason=\"rate\"} 1\n",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
}

/// A finish of nine million bytes.
fn large() -> v1::FinishJobRequest {
    v1::FinishJobRequest {
        job_id: "x".repeat(9_000_000),
        ..v1::FinishJobRequest::default()
    }
}

#[tokio::test]
async fn only_a_known_caller_is_read_and_only_a_report_may_be_large() {
    let queue = queue(Edge::default()).await;
    let mut stranger = queue.daemon_with("one", "i", "pk-nobody", &[]);
    let refused = stranger.fleet.finish_job(large()).await;
    assert_eq!(code(&refused.expect_err("a stranger")), "WRONG_CREDENTIAL");
    let mut daemon = queue.daemon("one").await;
    let refused = daemon.fleet.finish_job(large()).await.expect_err("no job");
    assert_eq!(
        code(&refused),
        "INVALID_REQUEST",
        "it was read: {refused:?}"
    );
    let key = v1::CreateKeyRequest {
        name: "x".repeat(9_000_000),
        ..v1::CreateKeyRequest::default()
    };
    let refused = queue.admin().create_key(key).await.expect_err("large");
    assert_eq!(refused.code(), Code::OutOfRange, "{refused:?}");
    assert!(refused.message().contains("8388608"), "{refused:?}");
    let held = "provisionerd_requests_held_bytes 0\n";
    until(async || queue.http("/metrics").await.1.contains(held)).await;
}

#[tokio::test]
async fn headers_over_the_limit_are_refused() {
    let queue = queue(Edge::default()).await;
    let url = format!("http://{}", queue.service.grpc_addr());
    let channel: Channel = Endpoint::from_shared(url)
        .expect("url")
        .connect()
        .await
        .expect("connect");
    let header = "x".repeat(40_000);
    let identity = Identity::new(&[("x-large", &header)]);
    let mut client = ManagementClient::with_interceptor(channel, identity);
    let refused = client.get_info(v1::GetInfoRequest {}).await;
    assert_eq!(
        code(&refused.expect_err("too large")),
        "none",
        "nobody read it"
    );
    queue
        .admin()
        .get_info(v1::GetInfoRequest {})
        .await
        .expect("served");
}
