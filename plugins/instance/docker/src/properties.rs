//! The properties of an instance (instance-plugins §2.3), read so that nothing in them is dropped.

use std::collections::BTreeMap;

use bollard::models::{ContainerCreateBody, HostConfig};
use model::Opaque;
use model::tags::Tags;
use serde::Deserialize;
use spi::Error;

/// The parsed properties of an instance.
pub(crate) struct Properties {
    pub(crate) tags: Tags,
    pub(crate) config: ContainerCreateBody,
    pub(crate) host_config: HostConfig,
    pub(crate) networks: Vec<Network>,
}

/// A network to attach to; created if it does not exist.
#[derive(Deserialize, Debug, Clone, Default)]
pub(crate) struct Network {
    #[serde(rename = "Name")]
    pub(crate) name: String,
    #[serde(rename = "Driver", default)]
    pub(crate) driver: String,
    /// The subnet to create it with; required where a logical id is an address.
    #[serde(rename = "Subnet", default)]
    pub(crate) subnet: Option<String>,
    /// The part of the subnet that dynamic addresses come from; its upper half by default.
    #[serde(rename = "IPRange", default)]
    pub(crate) ip_range: Option<String>,
}

#[derive(Deserialize)]
struct Written {
    #[serde(rename = "Tags", default)]
    tags: Option<BTreeMap<String, String>>,
    #[serde(rename = "Config")]
    config: ContainerCreateBody,
    #[serde(rename = "HostConfig", default)]
    host_config: Option<HostConfig>,
    #[serde(rename = "NetworkAttachments", default)]
    networks: Option<Vec<Network>>,
}

pub(crate) fn read(properties: &Opaque) -> Result<Properties, Error> {
    let refused = |why: String| Error::invalid(format!("docker properties: {why}"));
    let value = serde_json::from_str(properties.as_json()).map_err(|error| refused(error.to_string()))?;
    let written: Written =
        spi::properties::read(value, &place).map_err(|problems: Vec<String>| refused(problems.join("; ")))?;
    if written.config.host_config.is_some() {
        return Err(refused(
            "Config.HostConfig: it belongs beside `Config`, and would be ignored in it".to_owned(),
        ));
    }
    if written.config.image.as_deref().is_none_or(str::is_empty) {
        return Err(Error::invalid("docker: Config.Image is missing"));
    }
    let networks = written.networks.unwrap_or_default();
    if networks.iter().any(|network| network.name.is_empty()) {
        return Err(Error::invalid("docker: a network attachment needs a Name"));
    }
    Ok(Properties {
        tags: written.tags.unwrap_or_default(),
        config: written.config,
        host_config: written.host_config.unwrap_or_default(),
        networks,
    })
}

/// Where a field belongs that stands at a wrong place.
fn place(path: &str, field: &str) -> Option<String> {
    let homes = [
        ("", spi::properties::fields_of::<Written>()),
        ("Config", spi::properties::fields_of::<ContainerCreateBody>()),
        ("HostConfig", spi::properties::fields_of::<HostConfig>()),
    ];
    if !homes.iter().any(|(home, _)| *home == path) {
        return None;
    }
    let (home, _) = homes.iter().find(|(home, fields)| *home != path && fields.contains(&field))?;
    Some(if home.is_empty() {
        format!("it belongs beside `{path}`")
    } else {
        format!("it belongs in `{home}`")
    })
}

#[cfg(test)]
mod tests {
    use spi::Class;

    use super::*;

    #[test]
    fn what_is_wrong_with_properties_is_said_at_the_door() {
        for (properties, said) in [
            ("null", "docker properties"),
            ("{}", "missing field `Config`"),
            (r#"{"Config":{}}"#, "Config.Image is missing"),
            (
                r#"{"Config":{"Image":"x"},"HostConfigs":{}}"#,
                "unknown field `HostConfigs`; did you mean `HostConfig`?",
            ),
            (r#"{"Config":{"Image":"x"},"NetworkAttachments":[{"Name":""}]}"#, "needs a Name"),
            (
                r#"{"Config":{"Image":"x","HostConfig":{"Memory":67108864}}}"#,
                "Config.HostConfig: it belongs beside `Config`",
            ),
            (
                r#"{"Config":{"Image":"x","Enviroment":["A=b"]}}"#,
                "Config.Enviroment: unknown field `Enviroment`; no field has a name like it",
            ),
            (
                r#"{"Config":{"Image":"x","Enf":["A=b"]}}"#,
                "Config.Enf: unknown field `Enf`; did you mean `Env`?",
            ),
            (
                r#"{"Config":{"Image":"x","Memory":1}}"#,
                "Config.Memory: unknown field `Memory`; it belongs in `HostConfig`",
            ),
            (
                r#"{"Config":{"Image":"x"},"HostConfig":{"Env":[]}}"#,
                "HostConfig.Env: unknown field `Env`; it belongs in `Config`",
            ),
            (r#"{"Config":{"Image":"x"},"Env":[]}"#, "Env: unknown field `Env`; it belongs in `Config`"),
            (r#"{"Config":{"Image":"x"},"HostConfig":{"memry":1}}"#, "did you mean `Memory`?"),
            (
                r#"{"Config":{"Image":"x"},"HostConfig":{"RestartPolicy":{"Nam":"always"}}}"#,
                "HostConfig.RestartPolicy.Nam: unknown field `Nam`; did you mean `Name`?",
            ),
            (
                r#"{"Config":{"Image":"x"},"HostConfig":{"Mounts":[{"Target":"/a"},{"Sauce":"/b"}]}}"#,
                "HostConfig.Mounts[1].Sauce: unknown field `Sauce`; did you mean `Source`?",
            ),
            (
                r#"{"Config":{"Image":"x"},"NetworkAttachments":[{"Name":"n","Subnett":"10.0.0.0/8"}]}"#,
                "NetworkAttachments[0].Subnett: unknown field `Subnett`; did you mean `Subnet`?",
            ),
            (r#"{"Config":{"Image":"x","Env":"A=b"}}"#, "Config.Env: invalid type: string \"A=b\""),
            (r#"{"Config":{"Image":"x"},"HostConfig":{"Memory":"64m"}}"#, "HostConfig.Memory: invalid type"),
            (
                r#"{"Config":{"Image":"x"},"HostConfig":{"RestartPolicy":{"Name":"allways"}}}"#,
                "HostConfig.RestartPolicy.Name: unknown variant `allways`",
            ),
            (r#"{"Config":["x"]}"#, "Config: invalid type: a list"),
        ] {
            let error = read(&Opaque::from_json(properties)).map(drop).expect_err(properties);
            assert!(error.message.contains(said), "{properties}: {error}");
            assert_eq!(error.class, Class::InvalidSpec);
        }
        let two = r#"{"Config":{"Image":"x","Enf":[]},"HostConfig":{"Memroy":1}}"#;
        let error = read(&Opaque::from_json(two)).map(drop).expect_err("two mistakes");
        assert!(error.message.contains("`Enf`") && error.message.contains("`Memroy`"), "{error}");
    }

    #[test]
    fn what_is_known_is_read_to_its_last_field() {
        let written = r#"{
            "Tags": {"any key": "v"},
            "Config": {"Image": "x", "Env": ["A=b"], "Labels": {"any.key": "v"}, "ExposedPorts": {"80/tcp": {}},
                "Healthcheck": {"Test": ["CMD", "x"], "Interval": 1000000000}, "Entrypoint": null,
                "Volumes": {"/v": {}}, "StopTimeout": 3},
            "HostConfig": {"Memory": 67108864, "PortBindings": {"80/tcp": [{"HostPort": "8080"}], "81/tcp": null},
                "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}, "Sysctls": {"net.x": "1"},
                "Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 2}], "LogConfig": {"Type": "none", "Config": {"a": "b"}}},
            "NetworkAttachments": [{"Name": "n", "Driver": "bridge", "Subnet": "10.0.0.0/24"}]
        }"#;
        let read = read(&Opaque::from_json(written)).expect("all of it is known");
        let config = serde_json::to_value(&read.config).expect("JSON");
        assert_eq!(config["Labels"]["any.key"], "v");
        assert_eq!(config["ExposedPorts"]["80/tcp"], serde_json::json!({}));
        assert_eq!(config["Healthcheck"]["Interval"], 1_000_000_000);
        let host = serde_json::to_value(&read.host_config).expect("JSON");
        assert_eq!(host["Memory"], 67_108_864);
        assert_eq!(host["PortBindings"]["80/tcp"][0]["HostPort"], "8080");
        assert_eq!(host["RestartPolicy"]["MaximumRetryCount"], 3);
        assert_eq!(host["LogConfig"]["Config"]["a"], "b");
        assert_eq!(read.networks[0].subnet.as_deref(), Some("10.0.0.0/24"));
    }
}
