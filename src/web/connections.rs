//! Which connections are open: bounded in number by client and in all.
//!
//! A new connection is always accepted. If there are too many, the oldest one makes place: of the same client
//! if it has too many, otherwise of the client that has most. A named proxy carries the requests of many, so
//! only the limit in all is for it. Whoever holds connections open without a complete request loses them to
//! his own next one, and never keeps another client out, nor himself. A request takes milliseconds, so real
//! ones are over before it is their turn.

use crate::sync::lock;
use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex},
};
use tokio::sync::oneshot;

/// Maximum number of connections in all.
const MAX_CONNECTIONS: usize = 256;
/// Maximum number of connections of one client.
const MAX_CONNECTIONS_PER_CLIENT: usize = 64;

/// The open connections. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Connections(Arc<Mutex<Open>>);

#[derive(Default)]
struct Open {
    /// By client: its connections, oldest first. No client is without any.
    clients: BTreeMap<IpAddr, VecDeque<Connection>>,
    total: usize,
    next_number: u64,
}

/// An open connection. Dropping it tells its task to close it.
struct Connection {
    number: u64,
    _open: oneshot::Sender<()>,
}

/// Counts a connection as open until it is dropped.
pub(super) struct Guard {
    connections: Connections,
    client: IpAddr,
    number: u64,
    /// Resolves when the connection must make place for another one.
    pub(super) evicted: oneshot::Receiver<()>,
}

impl Connections {
    /// Adds a connection from `address`. Others are closed if there are too many. `is_proxy`: it is one of a
    /// named proxy.
    pub(super) fn open(&self, address: IpAddr, is_proxy: bool) -> Guard {
        let client = client(address);
        let (sender, evicted) = oneshot::channel();
        let mut open = lock(&self.0);
        let own = open.clients.get(&client).map_or(0, VecDeque::len);
        if !is_proxy && own >= MAX_CONNECTIONS_PER_CLIENT {
            open.close_oldest(client);
        } else if open.total >= MAX_CONNECTIONS
            && let Some(&greediest) = open.clients.iter().max_by_key(|(_, own)| own.len()).map(|(key, _)| key)
        {
            open.close_oldest(greediest);
        }
        let number = open.next_number;
        open.next_number += 1;
        open.total += 1;
        open.clients.entry(client).or_default().push_back(Connection { number, _open: sender });
        Guard { connections: self.clone(), client, number, evicted }
    }

    /// Number of open connections.
    pub(super) fn len(&self) -> usize {
        lock(&self.0).total
    }
}

impl Open {
    fn close_oldest(&mut self, client: IpAddr) {
        let oldest = self.clients.get(&client).and_then(|own| own.front()).map(|oldest| oldest.number);
        if let Some(number) = oldest {
            self.remove(client, number);
        }
    }

    fn remove(&mut self, client: IpAddr, number: u64) {
        let Some(own) = self.clients.get_mut(&client) else { return };
        let before = own.len();
        own.retain(|connection| connection.number != number);
        self.total -= before - own.len();
        if own.is_empty() {
            self.clients.remove(&client);
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        lock(&self.connections.0).remove(self.client, self.number);
    }
}

/// What counts as one client: an IPv4 address, or the network of an IPv6 address, because each machine has
/// 2^64 addresses in it.
pub(super) fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(if address.is_loopback() { address } else { Ipv6Addr::from(network) })
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_evicted(guard: &mut Guard) -> bool {
        guard.evicted.try_recv() == Err(oneshot::error::TryRecvError::Closed)
    }

    #[test]
    fn a_client_with_too_many_connections_loses_its_own_oldest() {
        let connections = Connections::default();
        let greedy: IpAddr = "10.0.0.1".parse().unwrap();
        let mut other = connections.open("10.0.0.2".parse().unwrap(), false);
        let open = |address| connections.open(address, false);
        let mut own: Vec<Guard> = (0..MAX_CONNECTIONS_PER_CLIENT).map(|_| open(greedy)).collect();
        assert!(!own.iter_mut().any(is_evicted));
        let _new = open("::ffff:10.0.0.1".parse().unwrap());
        assert_eq!(own.iter_mut().map(is_evicted).filter(|evicted| *evicted).count(), 1);
        assert!(is_evicted(&mut own[0]) && !is_evicted(&mut other));
        assert_eq!(connections.len(), MAX_CONNECTIONS_PER_CLIENT + 1);
    }

    #[test]
    fn with_too_many_in_all_the_client_that_has_most_makes_place() {
        let connections = Connections::default();
        let open = |address| connections.open(IpAddr::from(address), false);
        let mut guards: Vec<Guard> = (0..MAX_CONNECTIONS - 4)
            .map(|number| open([10, 0, (number / 200) as u8 + 8, (number % 200) as u8]))
            .collect();
        let mut greedy: Vec<Guard> = (0..4).map(|_| open([10, 0, 1, 1])).collect();
        let new = open([10, 0, 2, 1]);
        assert!(is_evicted(&mut greedy[0]) && !guards.iter_mut().chain(&mut greedy[1..]).any(is_evicted));
        assert_eq!(connections.len(), MAX_CONNECTIONS);
        drop((guards, greedy, new));
        assert_eq!(connections.len(), 0);
    }

    #[test]
    fn a_proxy_may_have_all_connections_and_keeps_nobody_out() {
        let connections = Connections::default();
        let proxy = IpAddr::from([10, 0, 0, 1]);
        let mut own: Vec<Guard> = (0..MAX_CONNECTIONS).map(|_| connections.open(proxy, true)).collect();
        assert!(!own.iter_mut().any(is_evicted));
        let mut other = connections.open(IpAddr::from([10, 0, 0, 2]), false);
        let mut next = connections.open(proxy, true);
        assert!(is_evicted(&mut own[0]) && is_evicted(&mut own[1]) && !is_evicted(&mut own[2]));
        assert!(!is_evicted(&mut other) && !is_evicted(&mut next));
        assert_eq!(connections.len(), MAX_CONNECTIONS);
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_client() {
        let parse = |text: &str| client(text.parse().unwrap());
        assert_eq!(parse("2001:db8::1"), parse("2001:db8::2:3"));
        assert_ne!(parse("2001:db8::1"), parse("2001:db8:0:1::1"));
        assert_eq!(parse("::1"), "::1".parse::<IpAddr>().unwrap());
    }
}
