//! How many connections there may be, in all and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

/// Most connections at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Most {
    /// In all.
    pub connections: u32,
    /// From one address.
    pub per_address: u32,
    /// From one address and not yet through their handshake.
    pub handshakes: usize,
}

/// Which limit a connection met; the message names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// In all.
    #[error("{0} connections are open, which is the limit (--connections)")]
    Connections(u32),
    /// Of its address.
    #[error(
        "{0} connections from this address are open, which is the limit (--connections-per-address)"
    )]
    Address(u32),
}

/// Counts. Clones share them.
#[derive(Debug, Clone)]
pub struct Places(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    most: Most,
    taken: Mutex<Taken>,
    refused: AtomicU64,
}

#[derive(Debug, Default)]
struct Taken {
    all: u32,
    by_address: HashMap<IpAddr, Address>,
}

#[derive(Debug)]
struct Address {
    connections: u32,
    handshakes: Arc<Semaphore>,
}

/// One connection's place; given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    places: Places,
    address: IpAddr,
    /// Turns of its address to shake hands.
    pub turns: Arc<Semaphore>,
}

impl Places {
    /// All of them free.
    #[must_use]
    pub fn new(most: Most) -> Self {
        Self(Arc::new(Inner {
            most,
            taken: Mutex::default(),
            refused: AtomicU64::new(0),
        }))
    }

    /// A place for a connection from `address`.
    ///
    /// # Errors
    /// There is none.
    pub fn take(&self, address: IpAddr) -> Result<Place, Full> {
        let most = self.0.most;
        let address = canonical(address);
        let mut taken = self.taken();
        let of_address = taken.by_address.get(&address).map_or(0, |a| a.connections);
        let full = if taken.all >= most.connections {
            Some(Full::Connections(most.connections))
        } else if of_address >= most.per_address {
            Some(Full::Address(most.per_address))
        } else {
            None
        };
        if let Some(full) = full {
            self.0.refused.fetch_add(1, Ordering::Relaxed);
            return Err(full);
        }
        taken.all += 1;
        let entry = taken.by_address.entry(address).or_insert_with(|| Address {
            connections: 0,
            handshakes: Arc::new(Semaphore::new(most.handshakes)),
        });
        entry.connections += 1;
        Ok(Place {
            places: self.clone(),
            address,
            turns: Arc::clone(&entry.handshakes),
        })
    }

    /// Connections that are open.
    #[must_use]
    pub fn open(&self) -> u32 {
        self.taken().all
    }

    /// Connections that found no place so far.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.all -= 1;
        if let Some(address) = taken.by_address.get_mut(&self.address) {
            address.connections -= 1;
            if address.connections == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

/// One peer is one address: IPv4 in IPv6 clothes is IPv4, and a host of IPv6 owns a /64.
#[must_use]
pub fn canonical(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let network = u128::from(v6) & !u128::from(u64::MAX);
            IpAddr::V6(network.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("address")
    }

    #[test]
    fn one_address_cannot_take_the_places_of_others() {
        let places = Places::new(Most {
            connections: 3,
            per_address: 2,
            handshakes: 1,
        });
        let one = address("192.0.2.1");
        let first = places.take(one).expect("first");
        let _second = places.take(address("::ffff:192.0.2.1")).expect("second");
        let full = places.take(one).expect_err("third");
        assert_eq!(full, Full::Address(2));
        assert!(full.to_string().contains("--connections-per-address"));
        let _other = places.take(address("2001:db8::1")).expect("other");
        let full = places.take(address("192.0.2.3")).expect_err("in all");
        assert_eq!(full, Full::Connections(3));
        assert_eq!((places.open(), places.refused()), (3, 2));
        drop(first);
        places.take(one).expect("a place came free");
    }

    #[test]
    fn handshakes_of_one_address_take_turns_and_hold_up_nobody_else() {
        let places = Places::new(Most {
            connections: 9,
            per_address: 9,
            handshakes: 2,
        });
        let of = |text| places.take(address(text)).expect("a place");
        let mine = [of("192.0.2.1"), of("192.0.2.1"), of("192.0.2.1")];
        let first = mine[0].turns.try_acquire().expect("a turn");
        let _second = mine[1].turns.try_acquire().expect("a turn");
        assert!(mine[2].turns.try_acquire().is_err(), "one over the limit");
        let other = of("192.0.2.2");
        let _its_own = other.turns.try_acquire().expect("a turn");
        drop(first);
        let _free = mine[2].turns.try_acquire().expect("it came free");
    }

    #[test]
    fn a_host_of_ipv6_is_its_network() {
        let one = canonical(address("2001:db8:0:1::1"));
        assert_eq!(one, canonical(address("2001:db8:0:1:ffff::9")));
        assert_ne!(one, canonical(address("2001:db8:0:2::1")));
    }
}
