//! This host's own default gateways. A container behind Docker's NAT sees every client come from there.

use arc_swap::ArcSwap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long after a warning the next one is due.
const SILENCE: Duration = Duration::from_secs(3600);

/// The gateways, and when somebody was last warned of one.
#[derive(Debug)]
pub(super) struct Gateways {
    addresses: ArcSwap<Vec<IpAddr>>,
    is_host: bool,
    warned: Mutex<Option<Instant>>,
}

impl Gateways {
    /// Those in the kernel's routing tables.
    pub(super) fn of_host() -> Self {
        Self { is_host: true, ..Self::fixed(read()) }
    }

    /// These.
    pub(super) fn fixed(addresses: Vec<IpAddr>) -> Self {
        Self { addresses: ArcSwap::from_pointee(addresses), is_host: false, warned: Mutex::default() }
    }

    /// Reads the kernel's tables again.
    pub(super) fn reread(&self) {
        if self.is_host {
            self.addresses.store(read().into());
        }
    }

    pub(super) fn contains(&self, client: IpAddr) -> bool {
        self.addresses.load().contains(&client)
    }

    /// Whether nobody was warned within the last hour; then the warning counts as given.
    pub(super) fn warning_is_due(&self) -> bool {
        let now = Instant::now();
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        let due = warned.is_none_or(|at| now.duration_since(at) >= SILENCE);
        if due {
            *warned = Some(now);
        }
        due
    }
}

/// Where /proc cannot be read there is no gateway to know of, and an address is treated as any other.
fn read() -> Vec<IpAddr> {
    let table = |path| fs::read_to_string(path).unwrap_or_default();
    let (four, six) = (table("/proc/net/route"), table("/proc/net/ipv6_route"));
    four.lines().filter_map(default_v4).chain(six.lines().filter_map(default_v6)).collect()
}

/// `Iface Destination Gateway Flags RefCnt Use Metric Mask …`, addresses as hexadecimal numbers in the machine's byte order.
fn default_v4(line: &str) -> Option<IpAddr> {
    let fields: Vec<_> = line.split_ascii_whitespace().collect();
    let is_default = *fields.get(1)? == "00000000" && *fields.get(7)? == "00000000";
    let gateway = u32::from_str_radix(fields.get(2)?, 16).ok().filter(|gateway| is_default && *gateway != 0)?;
    Some(Ipv4Addr::from(gateway.to_ne_bytes()).into())
}

/// `destination length source length next-hop …`, addresses as 32 hexadecimal digits.
fn default_v6(line: &str) -> Option<IpAddr> {
    let mut fields = line.split_ascii_whitespace();
    let (destination, length) = (u128::from_str_radix(fields.next()?, 16).ok()?, fields.next()?);
    let gateway = u128::from_str_radix(fields.nth(2)?, 16).ok()?;
    (destination == 0 && length == "00" && gateway != 0).then(|| Ipv6Addr::from(gateway).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_default_gateway_is_read_from_the_kernels_tables() {
        let four = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                    eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                    eth0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
        let found: Vec<_> = four.lines().filter_map(default_v4).collect();
        assert_eq!(found, ["172.17.0.1".parse::<IpAddr>().expect("an address")]);
        let six = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 fd000000000000000000000000000001 00000400 00000001 00000000 00000003     eth0\n\
                   fd000000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0\n\
                   00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n";
        let found: Vec<_> = six.lines().filter_map(default_v6).collect();
        assert_eq!(found, ["fd00::1".parse::<IpAddr>().expect("an address")]);
    }
}
