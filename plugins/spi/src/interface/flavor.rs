//! `Flavor/0.1.1`: prepares, checks and drains instances (plugin-protocol §9.2). The contract, its messages, and both
//! ends of the wire.

use std::sync::Arc;

use async_trait::async_trait;
use model::spec::GroupSpec;
use model::{Allocation, Description, GroupId, Health, LogicalId, Opaque};
use serde::{Deserialize, Serialize};

use super::instance::{Described, InstanceSpec, Spec};
use crate::bounds;
use crate::call::Call;
use crate::client::{Client, Remote};
use crate::error::{Class, Error};
use crate::json::{Any, any, opaque};
use crate::object::{Interface, Method, Object};
use crate::rpc::{self, Request, Typed};

/// Its name and version.
pub const ID: &str = "Flavor/0.1.1";

pub(crate) static INTERFACE: Interface = Interface {
    id: ID,
    methods: &[
        Method::plain("Validate"),
        Method::plain("Prepare"),
        Method::plain("Healthy"),
        Method::plain("Drain"),
    ],
};

/// The group that a flavor prepares for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Its id.
    pub group: GroupId,
    /// Its size, as in Docker's InfraKit.
    pub sequence: u32,
}

/// The health of an instance as its flavor sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Healthy, unhealthy or unknown.
    pub health: Health,
    /// The reason; may be empty.
    pub message: String,
}

impl Verdict {
    /// Healthy, without a message.
    pub fn healthy() -> Self {
        Self { health: Health::Healthy, message: String::new() }
    }
}

/// The interface of flavor plugins: prepares, checks and drains instances.
#[async_trait]
pub trait Flavors: Send + Sync + 'static {
    /// Validates the properties.
    async fn validate(&self, properties: &Opaque, allocation: &Allocation) -> Result<(), Error>;

    /// Returns the spec to provision. Idempotent.
    async fn prepare(
        &self,
        properties: &Opaque,
        spec: InstanceSpec,
        allocation: &Allocation,
        index: &Index,
    ) -> Result<InstanceSpec, Error>;

    /// Checks the health of an instance.
    async fn healthy(&self, properties: &Opaque, instance: &Description) -> Result<Verdict, Error>;

    /// Drains an instance before it is destroyed. Idempotent.
    async fn drain(&self, properties: &Opaque, instance: &Description) -> Result<(), Error>;
}

/// A flavor plugin, as it is served.
pub(crate) struct Served(pub(crate) Arc<dyn Flavors>);

#[async_trait]
impl Object for Served {
    async fn answer(&self, method: &'static str, request: &Request, _: &Call) -> rpc::Result {
        match method {
            "Validate" => {
                let it: ValidateFlavor = request.params()?;
                let allocation = it.allocation.into();
                self.0.validate(&opaque(it.properties), &allocation).await?;
                rpc::done(&Typed { r#type: it.r#type, ok: true })
            }
            "Prepare" => {
                let it: Prepare = request.params()?;
                let allocation = it.allocation.into();
                let index = Index { group: it.index.group.into(), sequence: it.index.sequence };
                let spec =
                    self.0.prepare(&opaque(it.properties), it.spec.into(), &allocation, &index).await?;
                rpc::done(&Prepared { r#type: it.r#type, spec: Spec::from(&spec) })
            }
            "Healthy" => {
                let it: AboutInstance = request.params()?;
                let verdict = self.0.healthy(&opaque(it.properties), &it.instance.into()).await?;
                rpc::done(&Healthy {
                    r#type: it.r#type,
                    health: number_of(verdict.health),
                    message: verdict.message,
                })
            }
            "Drain" => {
                let it: AboutInstance = request.params()?;
                self.0.drain(&opaque(it.properties), &it.instance.into()).await?;
                rpc::done(&Typed { r#type: it.r#type, ok: true })
            }
            _ => Err(request.no_method()),
        }
    }
}

impl Client {
    /// The flavor plugin at `subtype`.
    pub fn flavors(&self, subtype: &str) -> impl Flavors + use<> {
        Remote { client: self.clone(), subtype: subtype.to_owned() }
    }
}

#[async_trait]
impl Flavors for Remote {
    async fn validate(&self, properties: &Opaque, allocation: &Allocation) -> Result<(), Error> {
        let params = ValidateFlavor {
            r#type: self.subtype.clone(),
            properties: any(properties),
            allocation: allocation.into(),
        };
        let reply: Result<Typed, _> = self.client.call("Flavor.Validate", &params, &Call::default()).await;
        reply.map(|_| ()).map_err(|fault| fault.into_error(Class::InvalidSpec))
    }

    async fn prepare(
        &self,
        properties: &Opaque,
        spec: InstanceSpec,
        allocation: &Allocation,
        index: &Index,
    ) -> Result<InstanceSpec, Error> {
        let params = Prepare {
            r#type: self.subtype.clone(),
            properties: any(properties),
            spec: Spec::from(&spec),
            allocation: allocation.into(),
            index: GroupIndex { group: index.group.to_string(), sequence: index.sequence },
        };
        let reply: Prepared = self
            .client
            .call("Flavor.Prepare", &params, &Call::default())
            .await
            .map_err(|fault| fault.into_error(Class::Internal))?;
        Ok(reply.spec.into())
    }

    async fn healthy(&self, properties: &Opaque, instance: &Description) -> Result<Verdict, Error> {
        let params = self.about(properties, instance);
        let reply: Healthy = self
            .client
            .call("Flavor.Healthy", &params, &Call::default())
            .await
            .map_err(|fault| fault.into_error(Class::Internal))?;
        let message = bounds::shorten(reply.message);
        Ok(Verdict { health: health_of(reply.health), message })
    }

    async fn drain(&self, properties: &Opaque, instance: &Description) -> Result<(), Error> {
        let params = self.about(properties, instance);
        let reply: Result<Typed, _> = self.client.call("Flavor.Drain", &params, &Call::default()).await;
        reply.map(|_| ()).map_err(|fault| fault.into_error(Class::Internal))
    }
}

impl Remote {
    fn about(&self, properties: &Opaque, instance: &Description) -> AboutInstance {
        AboutInstance { r#type: self.subtype.clone(), properties: any(properties), instance: instance.into() }
    }
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct AllocationMethod {
    #[serde(rename = "Size")]
    size: u32,
    #[serde(rename = "LogicalIDs")]
    logical_ids: Option<Vec<String>>,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct GroupIndex {
    group: String,
    sequence: u32,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct ValidateFlavor {
    r#type: String,
    properties: Any,
    allocation: AllocationMethod,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct Prepare {
    r#type: String,
    properties: Any,
    spec: Spec,
    allocation: AllocationMethod,
    index: GroupIndex,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct Prepared {
    r#type: String,
    spec: Spec,
}

/// Parameters of `Flavor.Healthy` and `Flavor.Drain`.
#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct AboutInstance {
    r#type: String,
    properties: Any,
    instance: Described,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct Healthy {
    r#type: String,
    health: i64,
    /// An extension: the reason. Clients of Docker's InfraKit ignore it.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[serde(rename = "Because")]
    message: String,
}

impl From<&Allocation> for AllocationMethod {
    fn from(allocation: &Allocation) -> Self {
        match allocation {
            Allocation::Size(size) => AllocationMethod { size: *size, logical_ids: None },
            Allocation::LogicalIds(ids) => AllocationMethod {
                size: 0,
                logical_ids: Some(ids.iter().map(LogicalId::to_string).collect()),
            },
        }
    }
}

impl From<AllocationMethod> for Allocation {
    fn from(allocation: AllocationMethod) -> Self {
        match allocation.logical_ids {
            Some(ids) if !ids.is_empty() => {
                Allocation::LogicalIds(ids.into_iter().map(LogicalId::from).collect())
            }
            Some(_) | None => Allocation::Size(allocation.size.min(GroupSpec::MOST_MEMBERS)),
        }
    }
}

fn number_of(health: Health) -> i64 {
    match health {
        Health::Unknown => 0,
        Health::Healthy => 1,
        Health::Unhealthy => 2,
    }
}

fn health_of(number: i64) -> Health {
    match number {
        1 => Health::Healthy,
        2 => Health::Unhealthy,
        _ => Health::Unknown,
    }
}
