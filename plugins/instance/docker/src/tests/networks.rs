//! Addresses in real networks.

use bollard::query_parameters::InspectNetworkOptions;

use super::*;

/// A subnet of this process and this test.
fn subnet(test: u32) -> String {
    format!("10.{}.{}", 220 + test, std::process::id() % 250)
}

fn pet(address: &str, network: &str, subnet: Option<&str>) -> InstanceSpec {
    let subnet = subnet.map_or(String::new(), |subnet| format!(r#","Subnet":"{subnet}""#));
    InstanceSpec {
        logical_id: Some(address.into()),
        ..spec(&format!(r#","NetworkAttachments":[{{"Name":"{network}"{subnet}}}]"#))
    }
}

impl Bench {
    async fn has_network(&self, name: &str) -> bool {
        self.docker.inspect_network(name, None::<InspectNetworkOptions>).await.is_ok()
    }
}

#[tokio::test]
async fn an_address_needs_a_network_that_has_it() {
    let Some(bench) = containers("address").await else { return };
    let net = format!("infrakit-test-address-{}", std::process::id());
    let three = subnet(0);
    let seven = format!("{three}.7");
    let cidr = format!("{three}.0/24");
    let plain = InstanceSpec { logical_id: Some(seven.as_str().into()), ..spec("") };
    let far = format!("{three}.200");
    for (spec, said) in [
        (plain, "begin NetworkAttachments with a network of your own"),
        (pet(&seven, "bridge", None), "begin NetworkAttachments with a network of your own"),
        (pet(&seven, &net, None), "create it, or give its Subnet"),
        (pet("192.168.250.9", &net, Some(&cidr)), "is outside of the network"),
        (pet(&far, &net, Some(&cidr)), "gives dynamic addresses"),
    ] {
        let error = bench.provision(&spec).await.expect_err(said);
        assert!(error.message.contains(said) && error.class == Class::InvalidSpec, "{error}");
        assert!(!bench.has_network(&net).await, "{said}");
    }
    assert_eq!(bench.all().await.len(), 0);
    // It fails at the end, and then the network that was made for it goes too.
    let failing = InstanceSpec { init: "exit 3".into(), ..pet(&seven, &net, Some(&cidr)) };
    bench.provision(&failing).await.expect_err("Init fails");
    assert!(!bench.has_network(&net).await, "no network is left behind");
    // A second member finds the network of the first.
    let first = bench.provision(&pet(&seven, &net, Some(&cidr))).await.expect("a container");
    let failing = InstanceSpec { init: "exit 3".into(), ..pet(&format!("{three}.8"), &net, Some(&cidr)) };
    bench.provision(&failing).await.expect_err("Init fails");
    assert!(bench.has_network(&net).await, "somebody is in it");
    let error = bench.provision(&pet("192.168.250.9", &net, None)).await.expect_err("outside");
    assert!(error.message.contains(&format!("is outside of the network `{net}` ({cidr})")), "{error}");
    bench.destroy(&first).await;
    bench.docker.remove_network(&net).await.expect("the network goes");
}

#[tokio::test]
async fn the_address_of_a_stopped_member_stays_its_own() {
    let Some(bench) = containers("stay").await else { return };
    let net = format!("infrakit-test-stay-{}", std::process::id());
    let three = subnet(1);
    let cidr = format!("{three}.0/24");
    // The first address that a network without a range would give.
    let member = bench.provision(&pet(&format!("{three}.2"), &net, Some(&cidr))).await.expect("a container");
    bench.docker.kill_container(member.as_str(), None).await.expect("it stops");
    let other = spec(&format!(r#","NetworkAttachments":[{{"Name":"{net}"}}]"#));
    bench.provision(&other).await.expect("another, with a dynamic address");
    bench.containers.start(&member).await.expect("its address is free");
    // A second one with the same address is refused, with its cause.
    let rival = InstanceSpec {
        tags: Tags::from([("a".into(), "b".into())]),
        ..pet(&format!("{three}.2"), &net, None)
    };
    let named = format!("/{}", rival.logical_id.as_ref().expect("an address"));
    let error = bench.provision(&rival).await.expect_err("the name is taken");
    assert!(error.message.contains(&named) && error.class == Class::Conflict, "{error}");
    let slot = [(tags::OWNER, "o"), (tags::GROUP, "g"), (tags::SLOT, "s"), (tags::GENERATION, "9")];
    let slot = slot.map(|(key, value)| (key.to_owned(), format!("{value}-{}", std::process::id())));
    let before = bench.all().await.len();
    let error = bench.provision(&InstanceSpec { tags: slot.into(), ..rival }).await.expect_err("taken");
    assert_eq!(error.class, Class::Conflict, "{error}");
    let holder = format!("{three}.2 in the network `{net}` belongs to `{three}.2`");
    assert!(error.message.contains("Address already in use") && error.message.contains(&holder), "{error}");
    assert_eq!(bench.all().await.len(), before, "the half-made one was removed");
    bench.clear().await;
    bench.docker.remove_network(&net).await.expect("the network goes");
}

#[tokio::test]
async fn a_logical_id_may_be_an_address_of_ip_version_6() {
    let Some(bench) = containers("six").await else { return };
    let net = format!("infrakit-test-six-{}", std::process::id());
    let prefix = format!("fd77:{:x}", std::process::id() % 0xffff);
    let spec = pet(&format!("{prefix}::7"), &net, Some(&format!("{prefix}::/64")));
    let id = bench.provision(&spec).await.expect("a container");
    let told = bench.all().await[0].properties.as_ref().expect("properties").as_json().to_owned();
    assert!(told.contains(&format!("\"GlobalIPv6Address\":\"{prefix}::7\"")), "{told}");
    bench.destroy(&id).await;
    bench.docker.remove_network(&net).await.expect("the network goes");
}
