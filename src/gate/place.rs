//! Where a client is, as limits see it.

use crate::policy::Limits;
use crate::policy::rate::Rate;
use ipnet::{IpNet, Ipv6Net};
use std::net::IpAddr;
use std::num::NonZeroU32;

/// A customer's IPv6 connection is a /48 at the largest (RFC 6177): who rotates through its networks is still one.
const WIDE: u8 = 48;
/// How many times what one network may have a /48 may have: failures, connections, sessions.
const WIDE_ALLOWANCE: NonZeroU32 = NonZeroU32::new(8).expect("it is not zero");

/// A client's address and the networks it is counted in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The address; IPv4 also where it came mapped into IPv6.
    pub(super) client: IpAddr,
    /// An IPv4 address, or the IPv6 network of `limits.ipv6_prefix`.
    pub(super) own: IpNet,
    /// The /48 around an IPv6 network.
    wide: Option<IpNet>,
    /// No limits by address hold here.
    pub(super) exempt: bool,
}

impl Place {
    pub(super) fn of(client: IpAddr, limits: &Limits) -> Self {
        let client = client.to_canonical();
        let exempt = limits.exempt.iter().any(|net| net.contains(&client));
        let (own, wide) = match client {
            IpAddr::V4(_) => (IpNet::from(client), None),
            IpAddr::V6(address) => {
                let length = limits.ipv6_prefix.clamp(1, 128);
                let wide = (length > WIDE).then(|| network(address, WIDE));
                (network(address, length), wide)
            }
        };
        Self { client, own, wide, exempt }
    }

    /// The networks, the narrow one first.
    pub(super) fn nets(&self) -> impl Iterator<Item = IpNet> + use<> {
        std::iter::once(self.own).chain(self.wide)
    }

    /// How many a network of this place may have, where one network may have `each`.
    pub(super) fn many(&self, net: IpNet, each: usize) -> usize {
        let times = usize::try_from(self.times(net).get()).unwrap_or(usize::MAX);
        each.saturating_mul(times)
    }

    /// What one network may do so often, for a network of this place.
    pub(super) fn rate(&self, net: IpNet, rate: Rate) -> Rate {
        Rate { count: rate.count.saturating_mul(self.times(net)), ..rate }
    }

    /// How many failures a network of this place may have.
    pub(super) fn allowance(&self, net: IpNet, limit: Rate) -> usize {
        usize::try_from(self.rate(net, limit).count.get()).unwrap_or(usize::MAX)
    }

    fn times(&self, net: IpNet) -> NonZeroU32 {
        if net == self.own { NonZeroU32::MIN } else { WIDE_ALLOWANCE }
    }
}

fn network(address: std::net::Ipv6Addr, length: u8) -> IpNet {
    Ipv6Net::new(address, length).map_or_else(|_| IpNet::from(IpAddr::V6(address)), |net| net.trunc().into())
}
