//! Who listens on a port of this network namespace. The identity of a listener
//! is its socket's inode: a restarted app has another one, even when we never
//! saw its port closed.

/// State `LISTEN` in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// Returns the identity of what listens on a port, if anything does.
pub(crate) fn listener(port: u16) -> Option<u64> {
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
    let found = tables
        .into_iter()
        .filter_map(|table| std::fs::read_to_string(table).ok());
    // Several processes may share a port (cluster mode): any change of the set is a change.
    found
        .filter_map(|table| listener_in(&table, port))
        .reduce(u64::wrapping_add)
}

fn listener_in(table: &str, port: u16) -> Option<u64> {
    let port = format!(":{port:04X}");
    let inodes = table.lines().skip(1).filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let local = words.nth(1)?;
        let state = words.nth(1)?;
        (local.ends_with(&port) && state == LISTEN).then(|| words.nth(5)?.parse::<u64>().ok())?
    });
    inodes.reduce(u64::wrapping_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   0: 0100007F:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 777 1 0 100 0 0 10 0\n   1: 0100007F:1389 0100007F:1388 01 00000000:00000000 00:00000000 00000000  1000        0 778 1 0 20 4 30 10 -1\n";

    #[test]
    fn a_listener_is_known_by_its_inode() {
        assert_eq!(listener_in(TABLE, 5000), Some(777));
        assert_eq!(listener_in(TABLE, 5001), None, "connected, not listening");
        assert_eq!(listener_in(TABLE, 80), None);
    }

    #[test]
    fn a_real_listener_is_seen_and_its_successor_is_another() {
        let first = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = first.local_addr().expect("bound").port();
        let before = listener(port);
        assert!(before.is_some());
        drop(first);
        assert_eq!(listener(port), None);
        let _second = std::net::TcpListener::bind(("127.0.0.1", port)).expect("free again");
        assert_ne!(listener(port), before);
    }
}
