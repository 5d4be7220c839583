//! Networks, and the addresses that named members have in them.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;

use bollard::Docker;
use bollard::models::{
    EndpointIpamConfig, EndpointSettings, Ipam, IpamConfig, Network as Found, NetworkConnectRequest,
    NetworkCreateRequest,
};
use bollard::query_parameters::ListNetworksOptionsBuilder;
use spi::{Class, Error};

use crate::engine;
use crate::labels::PLUGIN;
use crate::properties::Network;

/// A range of addresses, such as `10.0.0.0/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    first: IpAddr,
    prefix: u32,
}

impl Range {
    fn parse(text: &str) -> Option<Self> {
        let (first, prefix) = text.split_once('/')?;
        let range = Self { first: first.parse().ok()?, prefix: prefix.parse().ok()? };
        (range.prefix <= bits(range.first).1).then_some(range)
    }

    fn contains(self, address: IpAddr) -> bool {
        let ((mine, width), (other, their_width)) = (bits(self.first), bits(address));
        // A shift by the whole width is one by too much.
        let network = |bits: u128| bits.checked_shr(width - self.prefix).unwrap_or(0);
        width == their_width && network(mine) == network(other)
    }

    /// The half of the subnet that dynamic addresses come from; none of one that is too small to share.
    fn upper_half(self) -> Option<Self> {
        let (bits, width) = bits(self.first);
        let half = 1u128 << width.checked_sub(self.prefix + 1)?;
        (half >= 4).then(|| Self { first: address(bits | half, width), prefix: self.prefix + 1 })
    }

    /// The first address after that of the network itself.
    fn gateway(self) -> IpAddr {
        let (bits, width) = bits(self.first);
        address(bits + 1, width)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

fn bits(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    }
}

fn address(bits: u128, width: u32) -> IpAddr {
    match u32::try_from(bits) {
        Ok(bits) if width == 32 => IpAddr::V4(bits.into()),
        Ok(_) | Err(_) => IpAddr::V6(bits.into()),
    }
}

/// The networks in which members are being made.
#[derive(Default)]
pub(crate) struct Networks {
    /// Held while a network is looked for and made: this engine makes a second one of the same name.
    uses: tokio::sync::Mutex<BTreeMap<String, Use>>,
}

#[derive(Default)]
struct Use {
    members: usize,
    /// The id of the network, while it was made for members of whom none is made yet.
    fresh: Option<String>,
}

impl Networks {
    /// Makes the networks that do not exist, once it is known that the address fits into the first one.
    /// Whoever calls this calls [`Self::done`] in the end.
    pub(crate) async fn prepare(
        &self,
        docker: &Docker,
        networks: &[Network],
        address: Option<IpAddr>,
    ) -> Result<(), Error> {
        if let Some(address) = address
            && networks.first().is_none_or(|network| is_predefined(&network.name))
        {
            return Err(Error::invalid(format!(
                "docker: the logical id `{address}` is an address, and no network can give it: begin \
                 NetworkAttachments with a network of your own whose subnet has it, or use a name as the \
                 logical id"
            )));
        }
        let mut uses = self.uses.lock().await;
        let mut missing = Vec::new();
        for (n, network) in networks.iter().enumerate() {
            let address = address.filter(|_| n == 0);
            match find(docker, &network.name).await? {
                Some(found) => fits(&found, address)?,
                None => missing.push(request(network, address)?),
            }
        }
        for request in missing {
            let name = request.name.clone();
            match docker.create_network(request).await {
                Ok(made) => uses.entry(name).or_default().fresh = Some(made.id),
                // Somebody else made it.
                Err(error) if engine::status(&error) == Some(409) => {}
                Err(error) => {
                    clear(docker, &mut uses).await;
                    return Err(engine::unsure(error));
                }
            }
        }
        for network in networks {
            uses.entry(network.name.clone()).or_default().members += 1;
        }
        Ok(())
    }

    /// A member is made, or it is not: then a network that was made for it goes too.
    pub(crate) async fn done(&self, docker: &Docker, networks: &[Network], is_made: bool) {
        if networks.is_empty() {
            return;
        }
        let mut uses = self.uses.lock().await;
        for network in networks {
            if let Some(known) = uses.get_mut(&network.name) {
                known.members = known.members.saturating_sub(1);
                if is_made {
                    known.fresh = None;
                }
            }
        }
        clear(docker, &mut uses).await;
    }
}

/// Forgets the networks that nobody is being made in, and removes those that nobody was made in.
async fn clear(docker: &Docker, uses: &mut BTreeMap<String, Use>) {
    let (unused, used) = std::mem::take(uses).into_iter().partition(|(_, known)| known.members == 0);
    *uses = used;
    let unused: BTreeMap<String, Use> = unused;
    for (name, unused) in unused {
        if let Some(id) = unused.fresh
            && let Err(error) = docker.remove_network(&id).await
        {
            // Somebody else may use it by now.
            tracing::warn!(%name, error = engine::message(&error), "a network made for nobody stays");
        }
    }
}

/// Whether these networks could be made, as far as their properties tell.
pub(crate) fn check(networks: &[Network]) -> Result<(), Error> {
    networks.iter().try_for_each(|network| request(network, None).map(drop))
}

/// Networks of every engine, in which nobody chooses an address.
fn is_predefined(name: &str) -> bool {
    matches!(name, "bridge" | "host" | "none" | "default")
}

/// The network with exactly this name. The engine's own filter matches parts of names.
async fn find(docker: &Docker, name: &str) -> Result<Option<Found>, Error> {
    let filters = HashMap::from([("name".to_owned(), vec![name.to_owned()])]);
    let options = ListNetworksOptionsBuilder::default().filters(&filters).build();
    let listed = docker.list_networks(Some(options)).await.map_err(engine::failed)?;
    Ok(listed.into_iter().find(|network| network.name.as_deref() == Some(name)))
}

/// Whether the address can be had in this network, as far as its subnets are known.
fn fits(network: &Found, address: Option<IpAddr>) -> Result<(), Error> {
    let Some(address) = address else { return Ok(()) };
    let name = network.name.as_deref().unwrap_or_default();
    let configs = || network.ipam.iter().flat_map(|ipam| ipam.config.iter().flatten());
    let subnets: Vec<Range> =
        configs().filter_map(|config| Range::parse(config.subnet.as_deref()?)).collect();
    if !subnets.is_empty() && !subnets.iter().any(|subnet| subnet.contains(address)) {
        let known: Vec<String> = subnets.iter().map(Range::to_string).collect();
        return Err(Error::invalid(format!(
            "docker: the logical id `{address}` is outside of the network `{name}` ({})",
            known.join(", ")
        )));
    }
    let is_ours = network.labels.as_ref().is_some_and(|labels| labels.contains_key(PLUGIN));
    let ranges = configs().filter_map(|config| Range::parse(config.ip_range.as_deref()?));
    match ranges.filter(|_| is_ours).find(|range| range.contains(address)) {
        Some(range) => Err(in_range(name, address, range)),
        None => Ok(()),
    }
}

fn in_range(name: &str, address: IpAddr, range: Range) -> Error {
    Error::invalid(format!(
        "docker: the logical id `{address}` is in {range}, from which the network `{name}` gives dynamic \
         addresses, so that it could be another's after a stop; choose one outside, or another IPRange"
    ))
}

/// How to make a network, so that it has the address, and gives it to nobody else.
fn request(network: &Network, address: Option<IpAddr>) -> Result<NetworkCreateRequest, Error> {
    let Network { name, driver, subnet, ip_range } = network;
    let range = |what: &str, text: &String| {
        Range::parse(text).ok_or(Error::invalid(format!(
            "docker: the {what} `{text}` of the network `{name}` is not one; write it like 10.0.0.0/24"
        )))
    };
    let subnet = subnet.as_ref().map(|text| range("Subnet", text)).transpose()?;
    let ip_range = ip_range.as_ref().map(|text| range("IPRange", text)).transpose()?;
    if let Some(range) = ip_range.filter(|range| !subnet.is_some_and(|subnet| subnet.contains(range.first))) {
        return Err(Error::invalid(format!(
            "docker: the IPRange {range} of the network `{name}` is no part of its Subnet"
        )));
    }
    let ip_range = ip_range.or_else(|| subnet.and_then(Range::upper_half));
    if let Some(address) = address {
        match subnet {
            None => {
                return Err(Error::invalid(format!(
                    "docker: the network `{name}` does not exist, and the logical id `{address}` needs one \
                     whose subnet has it: create it, or give its Subnet in NetworkAttachments"
                )));
            }
            Some(subnet) if !subnet.contains(address) || subnet.gateway() == address => {
                return Err(Error::invalid(format!(
                    "docker: the logical id `{address}` is outside of the network `{name}` ({subnet}), or \
                     is its gateway"
                )));
            }
            Some(_) => {}
        }
        if let Some(range) = ip_range.filter(|range| range.contains(address)) {
            return Err(in_range(name, address, range));
        }
    }
    let config = subnet.map(|subnet| IpamConfig {
        subnet: Some(subnet.to_string()),
        ip_range: ip_range.map(|range| range.to_string()),
        gateway: Some(subnet.gateway().to_string()),
        ..IpamConfig::default()
    });
    Ok(NetworkCreateRequest {
        name: name.clone(),
        driver: Some(driver.clone()).filter(|driver| !driver.is_empty()),
        attachable: Some(true),
        enable_ipv6: subnet.map(|subnet| subnet.first.is_ipv6()),
        ipam: config.map(|config| Ipam { config: Some(vec![config]), ..Ipam::default() }),
        labels: Some(HashMap::from([(PLUGIN.to_owned(), "docker".to_owned())])),
        ..NetworkCreateRequest::default()
    })
}

/// Attaches a container to a network.
pub(crate) async fn connect(
    docker: &Docker,
    id: &str,
    network: &str,
    address: Option<IpAddr>,
) -> Result<(), Error> {
    let ipam = address.map(|address| EndpointIpamConfig {
        ipv4_address: Some(address.to_string()).filter(|_| address.is_ipv4()),
        ipv6_address: Some(address.to_string()).filter(|_| address.is_ipv6()),
        ..EndpointIpamConfig::default()
    });
    let request = NetworkConnectRequest {
        container: id.to_owned(),
        endpoint_config: Some(EndpointSettings { ipam_config: ipam, ..EndpointSettings::default() }),
    };
    docker.connect_network(network, request).await.map_err(|error| match engine::status(&error) {
        // It was there a moment ago, so the next call makes it.
        Some(404) => Error::internal(format!("docker: {}", engine::message(&error))),
        Some(_) | None => engine::failed(error),
    })
}

/// Starts a container. If its address is taken, the refusal says by whom.
pub(crate) async fn start(docker: &Docker, id: &str) -> Result<(), Error> {
    let Err(error) = docker.start_container(id, None).await else { return Ok(()) };
    if !engine::is_address_taken(&error) {
        return Err(engine::failed(error));
    }
    let holders = holders(docker, id).await.unwrap_or_default();
    let by =
        if holders.is_empty() { "by whom the engine does not say".to_owned() } else { holders.join(", ") };
    Err(Error::new(Class::Conflict, format!("docker: {}: {by}", engine::message(&error))))
}

/// Who has the fixed addresses of a container.
async fn holders(docker: &Docker, id: &str) -> Result<Vec<String>, Error> {
    let found = engine::inspect(docker, id).await?.and_then(|found| found.network_settings);
    let mut holders = Vec::new();
    for (name, endpoint) in found.and_then(|settings| settings.networks).unwrap_or_default() {
        let ipam = endpoint.ipam_config.unwrap_or_default();
        let wanted = [ipam.ipv4_address, ipam.ipv6_address].into_iter().flatten().filter(|it| !it.is_empty());
        for address in wanted {
            let network = docker.inspect_network(&name, None).await.map_err(engine::failed)?;
            for (_, other) in network.containers.unwrap_or_default() {
                let theirs = [other.ipv4_address, other.ipv6_address];
                let has = |theirs: &String| theirs.split('/').next() == Some(address.as_str());
                if theirs.iter().flatten().any(has) {
                    let holder = other.name.unwrap_or_default();
                    holders.push(format!("{address} in the network `{name}` belongs to `{holder}`"));
                }
            }
        }
    }
    Ok(holders)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_range_knows_its_addresses() {
        for (range, address, is_in) in [
            ("10.0.0.0/24", "10.0.0.255", true),
            ("10.0.0.0/24", "10.0.1.0", false),
            ("10.0.0.7/24", "10.0.0.1", true),
            ("0.0.0.0/0", "9.9.9.9", true),
            ("10.0.0.1/32", "10.0.0.1", true),
            ("10.0.0.1/32", "10.0.0.2", false),
            ("fd00::/64", "fd00::ffff:1", true),
            ("fd00::/64", "fd00:0:0:1::1", false),
            ("::/0", "fd00::1", true),
            ("::/0", "10.0.0.1", false),
        ] {
            assert_eq!(Range::parse(range).expect(range).contains(ip(address)), is_in, "{range} {address}");
        }
        for odd in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/-1", "x/8", "fd00::/129"] {
            assert_eq!(Range::parse(odd), None, "{odd}");
        }
        let half = |range| Range::parse(range).and_then(Range::upper_half).map(|half| half.to_string());
        assert_eq!(half("10.0.0.0/24").as_deref(), Some("10.0.0.128/25"));
        assert_eq!(half("fd00::/64").as_deref(), Some("fd00::8000:0:0:0/65"));
        assert_eq!(half("10.0.0.0/30"), None);
        assert_eq!(half("10.0.0.0/32"), None);
    }

    #[test]
    fn a_missing_network_is_made_with_the_subnet_that_an_address_needs_or_not_at_all() {
        let network = |subnet: Option<&str>| Network {
            name: "n".to_owned(),
            subnet: subnet.map(str::to_owned),
            ..Network::default()
        };
        let made = request(&network(Some("10.0.0.0/24")), Some(ip("10.0.0.7"))).expect("a network");
        let config = made.ipam.and_then(|ipam| ipam.config).expect("a subnet").remove(0);
        assert_eq!(config.subnet.as_deref(), Some("10.0.0.0/24"));
        assert_eq!(config.ip_range.as_deref(), Some("10.0.0.128/25"));
        assert_eq!(config.gateway.as_deref(), Some("10.0.0.1"));
        assert!(request(&network(None), None).expect("a network").ipam.is_none());
        for (subnet, address, said) in [
            (None, "10.0.0.7", "create it, or give its Subnet"),
            (Some("10.0.1.0/24"), "10.0.0.7", "is outside of the network `n` (10.0.1.0/24)"),
            (Some("10.0.0.0/24"), "10.0.0.1", "is its gateway"),
            (Some("10.0.0.0/24"), "10.0.0.200", "gives dynamic addresses"),
            (Some("10.0.0.0/24"), "fd00::7", "is outside of the network"),
            (Some("10.0.0.0"), "10.0.0.7", "write it like 10.0.0.0/24"),
        ] {
            let error = request(&network(subnet), Some(ip(address))).expect_err(said);
            assert!(error.message.contains(said), "{error}");
            assert_eq!(error.class, Class::InvalidSpec);
        }
        for (subnet, ip_range, is_right) in [
            (Some("10.0.0.0/24"), "10.0.0.64/26", true),
            (Some("10.0.0.0/24"), "10.0.1.0/26", false),
            (None, "10.0.1.0/26", false),
            (Some("10.0.0.0/24"), "10.0.0.64", false),
        ] {
            let network = Network { ip_range: Some(ip_range.to_owned()), ..network(subnet) };
            assert_eq!(check(&[network]).is_ok(), is_right, "{subnet:?} {ip_range}");
        }
    }
}
