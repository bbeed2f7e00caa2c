//! A simulated network between real daemons and a real queue. Two hosts of a turmoil
//! simulation carry every byte from one to the other; what the network does to its packets
//! is drawn from a seed.
//!
//! ```text
//!  daemon ─ tcp ─▶ host `site` ══ simulated network ══▶ host `centre` ─ tcp ─▶ queue
//! ```
//!
//! Simulated time keeps to the real one: leases count by the clock of the machine, engines
//! are processes of it, and a simulation that ran ahead would end leases that nobody lost.
//! So a seed brings back the same weather, not the same interleaving.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

/// The daemon's end.
const SITE: &str = "site";
/// The queue's end.
const CENTRE: &str = "centre";
const PORT: u16 = 7080;
/// One step of the simulation.
const TICK: Duration = Duration::from_millis(2);
/// Latency of a packet in good weather.
const LATENCY: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(30));
/// Longest latency in bad weather; packets of two connections overtake each other.
const SLOW: Duration = Duration::from_millis(700);
/// A dial that was lost is given up: the simulation sends nothing again, as TCP would.
const DIAL: Duration = Duration::from_secs(1);
/// Packets that wait on one connection.
const CAPACITY: usize = 65_536;

/// What the network does for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// Nothing arrives, and all of it does afterwards: a short cut as TCP sees it.
    Held,
    /// What is sent is gone, and with it each connection that sent.
    Cut,
    /// The same for one direction only.
    CutToQueue,
    /// The same for the other.
    CutToDaemon,
    /// Everything is late.
    Slow,
}

/// A change of the weather: when it comes and how long it stays.
#[derive(Debug, Clone, Copy)]
struct Spell {
    at: Duration,
    weather: Weather,
    lasts: Duration,
}

/// The simulation, on a thread of its own; it ends with this value.
pub struct Simulated {
    /// For daemons.
    pub url: String,
    /// In the order they come.
    pub weather: Vec<Weather>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Simulated {
    /// A network before the queue at `url` with so many spells of bad weather; the ways of
    /// both directions break at least once.
    pub fn before(url: &str, seed: u64, spells: usize) -> Self {
        let queue: SocketAddr = url
            .trim_start_matches("http://")
            .parse()
            .expect("address of the queue");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        listener.set_nonblocking(true).expect("socket");
        let url = format!("http://{}", listener.local_addr().expect("address"));
        let spells = draw(seed, spells);
        let weather = spells.iter().map(|spell| spell.weather).collect();
        let end = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let end = end.clone();
            move || simulate(seed, &spells, queue, &listener, &end)
        });
        Self {
            url,
            weather,
            end,
            thread: Some(thread),
        }
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            ended.expect("a thread").expect("the simulation went on");
        }
    }
}

fn draw(seed: u64, spells: usize) -> Vec<Spell> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut at = Duration::ZERO;
    let millis = |rng: &mut StdRng, range| Duration::from_millis(rng.random_range(range));
    (0..spells)
        .map(|number| {
            at += millis(&mut rng, 300..2_000);
            let weather = match number {
                // A connection that broke is noticed by a ping: one of each is enough.
                1 => Weather::CutToQueue,
                3 => Weather::CutToDaemon,
                5 => Weather::Cut,
                _ if rng.random_bool(0.5) => Weather::Held,
                _ => Weather::Slow,
            };
            let lasts = millis(&mut rng, 200..2_500);
            let spell = Spell { at, weather, lasts };
            at += lasts;
            spell
        })
        .collect()
}

fn simulate(
    seed: u64,
    spells: &[Spell],
    queue: SocketAddr,
    listener: &std::net::TcpListener,
    end: &AtomicBool,
) {
    let mut network = turmoil::Builder::new()
        .enable_tokio_io()
        .rng_seed(seed)
        .tick_duration(TICK)
        .min_message_latency(LATENCY.0)
        .max_message_latency(LATENCY.1)
        .tcp_capacity(CAPACITY)
        .simulation_duration(Duration::from_hours(24))
        .build();
    network.host(CENTRE, move || centre(queue));
    network.host(SITE, || {
        let listener = listener.try_clone();
        async move { site(TcpListener::from_std(listener?)?).await }
    });
    let start = Instant::now();
    let mut coming = spells.iter().peekable();
    let mut now: Option<Spell> = None;
    while !end.load(Ordering::Relaxed) {
        let elapsed = network.elapsed();
        if now.is_some_and(|spell| elapsed >= spell.at + spell.lasts) {
            fair(&network);
            now = None;
        }
        if let Some(spell) = coming.next_if(|spell| elapsed >= spell.at) {
            eprintln!("weather: {spell:?}");
            bad(&network, spell.weather);
            now = Some(*spell);
        }
        network.step().expect("the relays go on");
        pace(start + network.elapsed());
    }
}

fn bad(network: &turmoil::Sim<'_>, weather: Weather) {
    match weather {
        Weather::Held => network.hold(SITE, CENTRE),
        Weather::Cut => network.partition(SITE, CENTRE),
        Weather::CutToQueue => network.partition_oneway(SITE, CENTRE),
        Weather::CutToDaemon => network.partition_oneway(CENTRE, SITE),
        Weather::Slow => network.set_link_max_message_latency(SITE, CENTRE, SLOW),
    }
}

fn fair(network: &turmoil::Sim<'_>) {
    network.release(SITE, CENTRE);
    network.repair(SITE, CENTRE);
    network.set_link_max_message_latency(SITE, CENTRE, LATENCY.1);
}

#[expect(
    clippy::disallowed_methods,
    reason = "the clock of the simulation is held back, nothing is waited for"
)]
fn pace(until: Instant) {
    std::thread::sleep(until.saturating_duration_since(Instant::now()));
}

/// What comes over the network goes to the queue.
async fn centre(queue: SocketAddr) -> turmoil::Result {
    let listener = turmoil::net::TcpListener::bind(("0.0.0.0", PORT)).await?;
    loop {
        let (mut near, _) = listener.accept().await?;
        tokio::spawn(async move {
            if let Ok(mut far) = TcpStream::connect(queue).await {
                let _broken = far.set_nodelay(true);
                let _broken = copy_bidirectional(&mut near, &mut far).await;
            }
        });
    }
}

/// What comes from the daemon goes over the network.
async fn site(listener: TcpListener) -> turmoil::Result {
    loop {
        let (mut near, _) = listener.accept().await?;
        tokio::spawn(async move {
            let _broken = near.set_nodelay(true);
            let dialled = turmoil::net::TcpStream::connect((CENTRE, PORT));
            if let Ok(Ok(mut far)) = tokio::time::timeout(DIAL, dialled).await {
                let _broken = copy_bidirectional(&mut near, &mut far).await;
            }
        });
    }
}
