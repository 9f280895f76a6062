//! Which addresses are somewhere on the public internet, by their number alone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// Returns why no seat may connect there, if so. A registry of the machine's own may be inside
/// the network that the machine is in, but not the machine itself.
pub(super) fn why_refused(address: IpAddr, is_machines_own: bool) -> Option<&'static str> {
    let kind = kind_of(address);
    match kind {
        Kind::Public => is_own(address).then_some("an address of this machine"),
        Kind::Inside(_) if is_machines_own => {
            is_own(address).then_some("an address of this machine")
        }
        Kind::Inside(what) | Kind::Never(what) => Some(what),
    }
}

/// A socket can be bound to the machine's own addresses only.
fn is_own(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

/// What an address is, by its number alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Somewhere on the internet.
    Public,
    /// Of a network that is not the internet.
    Inside(&'static str),
    /// Of no network that anybody may be sent to.
    Never(&'static str),
}

fn kind_of(address: IpAddr) -> Kind {
    match address {
        IpAddr::V4(address) => kind_of_v4(address),
        IpAddr::V6(address) => kind_of_v6(address),
    }
}

fn kind_of_v4(address: Ipv4Addr) -> Kind {
    match address.octets() {
        [0, ..] => Kind::Never("no address"),
        [127, ..] => Kind::Never("a loopback address"),
        [169, 254, ..] => Kind::Never("a link-local address"),
        [224..=239, ..] => Kind::Never("a multicast address"),
        [240..=255, ..] => Kind::Never("a reserved address"),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Kind::Inside("a private address"),
        [100, 64..=127, ..] => Kind::Inside("a shared address"),
        [192, 0, 0 | 2, _]
        | [198, 51, 100, _]
        | [203, 0, 113, _]
        | [198, 18..=19, ..]
        | [192, 88, 99, _] => Kind::Inside("an address for special purposes"),
        _ => Kind::Public,
    }
}

/// Only `2000::/3` is the internet; inside it, some ranges carry IPv4 addresses or are for tests.
fn kind_of_v6(address: Ipv6Addr) -> Kind {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Kind::Never("no address"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Kind::Never("a loopback address"),
        [0, ..] => Kind::Never("a mapped address"),
        [0x64, 0xFF9B, ..] => Kind::Never("a translated address"),
        [0x2001, 0, ..] | [0x2002, ..] => Kind::Never("a tunnelled address"),
        [0xFE80..=0xFEFF, ..] => Kind::Never("a link-local address"),
        [0xFF00..=0xFFFF, ..] => Kind::Never("a multicast address"),
        [0xFC00..=0xFDFF, ..] => Kind::Inside("a private address"),
        [0x2001, 0x1..=0x1FF, ..] | [0x2001, 0xDB8, ..] | [0x3FFF, 0..=0xFFF, ..] => {
            Kind::Inside("an address for special purposes")
        }
        [0x2000..=0x3FFF, ..] => Kind::Public,
        _ => Kind::Never("a reserved address"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_public() {
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.7",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:8.8.8.8",
            "::ffff:127.0.0.1",
            "::8.8.8.8",
            "64:ff9b::8.8.8.8",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:2::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "4000::1",
        ] {
            assert_ne!(kind_of(text.parse().unwrap()), Kind::Public, "{text}");
        }
        for text in [
            "1.1.1.1",
            "9.255.255.255",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2001:4860::8888",
            "2a00::1",
        ] {
            assert_eq!(kind_of(text.parse().unwrap()), Kind::Public, "{text}");
        }
    }

    #[test]
    fn the_machines_own_registry_may_be_inside_but_not_the_machine() {
        for (text, own, refused) in [
            ("10.255.254.253", false, true),
            ("10.255.254.253", true, false),
            ("127.0.0.1", true, true),
            ("169.254.169.254", true, true),
            ("::ffff:10.1.1.1", true, true),
            ("1.1.1.1", false, false),
        ] {
            assert_eq!(
                why_refused(text.parse().unwrap(), own).is_some(),
                refused,
                "{text} {own}"
            );
        }
    }
}
