//! Who listens on a port of this network namespace. The identity of a listener
//! is its socket's inode: a restarted app has another one, even when we never
//! saw its port closed. The kernel is asked through `sock_diag(7)`, for sockets
//! that listen only; `/proc/net/tcp` goes through the machine's whole table of
//! connections, which takes a millisecond and more.

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

/// State `LISTEN` in `/proc/net/tcp`.
const LISTEN: &str = "0A";
/// `TCP_LISTEN` as a bit of `idiag_states` (`include/net/tcp_states.h`).
const LISTEN_STATE: u32 = 1 << 10;
/// `SOCK_DIAG_BY_FAMILY` (`linux/sock_diag.h`).
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST | NLM_F_DUMP` (`linux/netlink.h`).
const DUMP: u16 = 0x1 | 0x300;
/// TCP as a protocol of IP.
const IPPROTO_TCP: u8 = 6;
/// `NLMSG_DONE`, and the length of `struct nlmsghdr`.
const DONE: u16 = 3;
const HEADER: usize = 16;
/// `struct nlmsghdr` and `struct inet_diag_req_v2` (`linux/inet_diag.h`).
const QUESTION: usize = 72;
const LENGTH: u32 = 72;
/// Where `idiag_inode` is in `struct inet_diag_msg`.
const INODE: usize = HEADER + 68;

/// Returns the identity of what listens on a port, if anything does.
pub(crate) fn listener(port: u16) -> Option<u64> {
    // Several processes may share a port (cluster mode): any change of the set is a change.
    match [AddressFamily::INET, AddressFamily::INET6].map(|family| ask(family, port)) {
        [Ok(four), Ok(six)] => four.into_iter().chain(six).reduce(u64::wrapping_add),
        // A kernel without sock_diag.
        _ => in_tables(port),
    }
}

/// Asks the kernel for the listeners of one family on a port.
fn ask(family: AddressFamily, port: u16) -> rustix::io::Result<Option<u64>> {
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    rustix::net::send(&socket, &question(family, port), SendFlags::empty())?;
    let mut found = None;
    let mut buffer = [0; 16 * 1024];
    loop {
        let (_, length) = rustix::net::recv(&socket, &mut buffer[..], RecvFlags::empty())?;
        let mut rest = &buffer[..length.min(buffer.len())];
        while let Some((length, kind)) = header(rest) {
            match kind {
                DONE => return Ok(found),
                BY_FAMILY => {
                    let inode = number(rest, INODE).ok_or(rustix::io::Errno::BADMSG)?;
                    found = Some(found.unwrap_or(0_u64).wrapping_add(inode.into()));
                }
                // `NLMSG_ERROR`, or something that was not asked for.
                _ => return Err(rustix::io::Errno::BADMSG),
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        if length == 0 {
            return Err(rustix::io::Errno::BADMSG);
        }
    }
}

fn question(family: AddressFamily, port: u16) -> [u8; QUESTION] {
    let mut bytes = [0; QUESTION];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, &LENGTH.to_ne_bytes());
    put(4, &BY_FAMILY.to_ne_bytes());
    put(6, &DUMP.to_ne_bytes());
    put(HEADER, &family.as_raw().to_ne_bytes()[..1]);
    put(HEADER + 1, &[IPPROTO_TCP]);
    put(HEADER + 4, &LISTEN_STATE.to_ne_bytes());
    put(HEADER + 8, &port.to_be_bytes());
    bytes
}

/// Returns length and kind of the first message.
fn header(bytes: &[u8]) -> Option<(usize, u16)> {
    let length = usize::try_from(number(bytes, 0)?).ok()?;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    (length >= HEADER).then_some((length, kind))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn in_tables(port: u16) -> Option<u64> {
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
    let found = tables
        .into_iter()
        .filter_map(|table| std::fs::read_to_string(table).ok());
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
        assert_eq!(in_tables(port), before, "both ways say the same");
        let _connected = std::net::TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        assert_eq!(listener(port), before, "a connection is no listener");
        drop(first);
        assert_eq!(listener(port), None);
        let _second = std::net::TcpListener::bind(("127.0.0.1", port)).expect("free again");
        assert_ne!(listener(port), before);
        let six = std::net::TcpListener::bind("[::1]:0").expect("a free port");
        assert!(listener(six.local_addr().expect("bound").port()).is_some());
    }
}
