//! The identity of a starting manager: from its disk, or by bootstrapping or joining a cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use api::{Credentials, Subject, TokenFrom, tls};
use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};
use model::access::Authority;
use model::command::Manager;
use model::failpoints::{Protection, is_left_out};
use model::tags::{self, Tags};
use model::{Actor, Change, ClusterId, Command, NodeId, RequestId, Timestamp};
use raft::{Disk, Identity, Replica};
use spi::{Class, Directory, Found, Instances, interface};
use tokio::net::TcpListener;

use crate::accept;
use crate::config::{Adopt, Config, Start};
use crate::error::Error;
use crate::join::join;
use crate::recovery::next_lineage;

/// Timeout for listing the instances of a plugin before a bootstrap.
const SHOWN_WITHIN: Duration = Duration::from_secs(5);

/// How long a manager may take to say who it is.
const ANSWERS_WITHIN: Duration = Duration::from_secs(4);

/// How long a new manager waits for calls before it bootstraps a cluster: a leader calls a member that does not answer
/// several times in it.
const CALLED_WITHIN: Duration = Duration::from_secs(1);

/// The shortest accepted prefix of a cluster id: as long as the one in a token.
const SHORTEST_ID: usize = 8;

/// The identity of this manager, and its credentials.
pub(crate) struct Membership {
    pub(crate) identity: Identity,
    /// Whether it bootstraps the cluster.
    pub(crate) bootstraps: bool,
    /// The credentials issued when it joined; its state has newer ones as soon as it has one.
    pub(crate) credentials: Option<Credentials>,
}

/// The identity of this manager: from its disk, or a new one as the configuration says.
///
/// `is_new`: nothing was in the data directory before. `listener`: that of the address of a manager that bootstraps a
/// cluster.
pub(crate) async fn identify(
    config: &Config,
    disk: &Disk,
    is_new: bool,
    me: &Manager,
    listener: Option<&TcpListener>,
) -> Result<Membership, Error> {
    let unreadable = |error: std::io::Error| Error::new("the data directory cannot be read", error, "");
    if let Some(identity) = disk.identity().map_err(unreadable)? {
        // On a restart, --bootstrap and --join are ignored.
        let bootstraps = identity.node == NodeId(1);
        let pem = disk.credentials().map_err(unreadable)?;
        let given = pem.map(|pem| Credentials::from_pem(&String::from_utf8_lossy(&pem))).transpose();
        let credentials =
            given.map_err(|error| Error::new("the manager's certificate cannot be read", error, ""))?;
        return Ok(Membership { identity, bootstraps, credentials });
    }
    let (identity, credentials) = match &config.start {
        Start::Bootstrap { adopt } => {
            is_no_member(config, listener).await?;
            let (cluster, lineage) = origin(config, adopt.as_ref()).await?;
            (Identity { cluster, lineage, node: NodeId(1) }, None)
        }
        Start::Join(addresses) => {
            let token = config.token.as_ref().map(TokenFrom::read).transpose().map_err(|why| {
                let remedy = "give the complete output of `infrakit token create`; nothing was changed";
                Error::new("the join token cannot be read", why, remedy)
            })?;
            let token = token.flatten();
            let (identity, credentials) = join(addresses, token.as_ref(), me).await?;
            (identity, Some(credentials))
        }
        Start::Restart => {
            let dir = config.data_dir.display();
            return Err(Error::new(
                "this manager does not belong to a cluster",
                if is_new {
                    format!("{dir} is empty")
                } else {
                    format!("a start or a restore began in {dir} and was not finished")
                },
                "bootstrap a cluster with --bootstrap, join one with --join HOST:PORT, or restore a backup \
                 there with `infrakit restore`",
            ));
        }
    };
    let pem = credentials.as_ref().map(Credentials::to_pem).unwrap_or_default();
    disk.bind(&identity, pem.as_bytes()).map_err(unreadable)?;
    Ok(Membership { identity, bootstraps: matches!(config.start, Start::Bootstrap { .. }), credentials })
}

/// Fails if a cluster answers where this manager is told to look, or takes it for a member: it may have been one, and
/// have lost its disk.
async fn is_no_member(config: &Config, listener: Option<&TcpListener>) -> Result<(), Error> {
    if is_left_out(Protection::FounderAsks) {
        return Ok(());
    }
    let asked = config.peers.iter().map(async |address| {
        let answer = tokio::time::timeout(ANSWERS_WITHIN, tls::who_is(address)).await;
        match answer {
            Ok(Ok(Subject::Manager { cluster, node, .. })) => Some((address, cluster, node)),
            _ => None,
        }
    });
    let (answers, caller) = tokio::join!(join_all(asked), caller(listener));
    let remedy = "to join that cluster, start with --join and an empty --data-dir, after `infrakit node rm` of the member \
                  that was here; to bootstrap another cluster, choose another address, or --peers of its own; nothing \
                  was changed";
    if let Some((address, cluster, node)) = answers.into_iter().flatten().next() {
        let what = format!("a cluster answers at {address}");
        return Err(Error::new(what, format!("it is manager {node} of cluster {cluster}"), remedy));
    }
    if let Some((from, cluster, node)) = caller {
        return Err(Error::new(
            "a cluster takes this manager for a member of its own",
            format!("manager {node} of cluster {cluster} calls it, from {from}"),
            remedy,
        ));
    }
    Ok(())
}

/// A manager that calls this address before anybody can know of it.
async fn caller(listener: Option<&TcpListener>) -> Option<(std::net::IpAddr, ClusterId, NodeId)> {
    let listener = listener?;
    let heard = async {
        // One that says nothing keeps no other from being heard.
        let mut calls = FuturesUnordered::new();
        loop {
            tokio::select! {
                Ok((stream, from)) = listener.accept() => {
                    calls.push(async move { (from.ip(), accept::hello(stream).await) });
                }
                Some((from, Ok((Some((cluster, node)), _)))) = calls.next() => return (from, cluster, node),
                else => return std::future::pending().await,
            }
        }
    };
    tokio::time::timeout(CALLED_WITHIN, heard).await.ok()
}

/// The command that bootstraps the cluster.
pub(crate) fn command(identity: &Identity, me: &Manager, authority: Authority, at: Timestamp) -> Command {
    Command {
        id: RequestId(raft::unique()),
        by: Actor(format!("manager:{}", me.name)),
        at,
        change: Change::Bootstrap {
            cluster: identity.cluster.clone(),
            lineage: identity.lineage,
            manager: me.clone(),
            authority: Some(authority),
        },
    }
}

/// Proposes the command until it is committed. Repeating is harmless: a second bootstrap is refused.
pub(crate) async fn propose_until_done(replica: &Replica, command: &Command) {
    while let Err(error) = replica.propose(command, None).await {
        tracing::debug!(%error, "the bootstrap is not committed yet");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The instances of another cluster that the plugins list.
#[derive(Debug, Default, PartialEq)]
struct Left {
    /// Number of instances by plugin.
    shown: BTreeMap<String, usize>,
    /// The highest lineage in their tokens.
    lineage: u32,
}

/// The id and the lineage for a bootstrap: new ones, or those of a cluster whose instances it adopts.
async fn origin(config: &Config, adopt: Option<&Adopt>) -> Result<(ClusterId, u32), Error> {
    let fresh = (ClusterId::new(format!("{:032x}", raft::unique())), 1);
    if adopt == Some(&Adopt::Nobody) {
        return Ok(fresh);
    }
    let (left, silent) = left_behind(&config.plugins_dir).await?;
    for (plugin, error) in silent {
        if adopt.is_some() {
            // An instance that it does not list may be of a later lineage than all others.
            return Err(Error::new(
                format!("plugin `{plugin}` cannot list its instances, which may belong to the cluster"),
                error,
                "repair or stop the plugin; nothing was changed",
            ));
        }
        // Some cannot before there is a cluster, and what is not seen is not touched either.
        tracing::warn!(
            plugin, %error,
            "cannot list its instances; should any belong to another cluster, they are left alone"
        );
    }
    match adopt {
        Some(Adopt::Cluster(desired)) if desired.len() < SHORTEST_ID => Err(Error::new(
            format!("--adopt {desired}: too short"),
            describe(&left),
            format!("give at least {SHORTEST_ID} characters of the cluster's id, or none"),
        )),
        Some(Adopt::Cluster(desired)) => {
            let fits = |id: &&ClusterId| id.as_str().starts_with(desired.as_str());
            let mut fitting = left.keys().filter(fits);
            match (fitting.next(), fitting.next()) {
                (Some(id), None) => Ok((id.clone(), next_lineage(left[id].lineage))),
                (found, _) => Err(Error::new(
                    format!(
                        "--adopt {desired}: {}",
                        if found.is_some() { "several clusters match" } else { "no such cluster" }
                    ),
                    describe(&left),
                    "give the id of the cluster whose instances are to be adopted, as in their tag \
                     infrakit.owner; its plugins must be running",
                )),
            }
        }
        _ if left.is_empty() => Ok(fresh),
        _ => Err(Error::new(
            "another cluster has instances here",
            describe(&left),
            "to join that cluster, use --join; to leave its instances alone, use --adopt none; if all its \
             managers are permanently lost, bootstrap it again with --adopt ID; nothing was changed",
        )),
    }
}

fn describe(left: &BTreeMap<ClusterId, Left>) -> String {
    if left.is_empty() {
        return "no plugin lists an instance of another cluster".to_owned();
    }
    let of = |(id, left): (&ClusterId, &Left)| {
        let shown: Vec<_> =
            left.shown.iter().map(|(plugin, count)| format!("{count} in `{plugin}`")).collect();
        format!("cluster {id} has {}", shown.join(", "))
    };
    left.iter().map(of).collect::<Vec<_>>().join("; ")
}

/// Lists the instances of every plugin, by the cluster that owns them.
/// Beside them, the plugins that cannot do that.
async fn left_behind(plugins_dir: &std::path::Path) -> Result<(BTreeMap<ClusterId, Left>, Silent), Error> {
    let plugins = Directory::new(plugins_dir).with_deadline(SHOWN_WITHIN).list().map_err(|error| {
        Error::new(format!("{} cannot be read", plugins_dir.display()), error, "see --plugins-dir")
    })?;
    let (mut left, mut silent) = (BTreeMap::<ClusterId, Left>::new(), Silent::new());
    for (listed, errors) in join_all(plugins.iter().map(owners)).await {
        silent.extend(errors);
        for (name, owners) in listed {
            for (owner, token) in owners {
                let left = left.entry(ClusterId::new(owner)).or_default();
                *left.shown.entry(name.clone()).or_default() += 1;
                left.lineage = left.lineage.max(token.as_deref().and_then(tags::lineage_of).unwrap_or(0));
            }
        }
    }
    Ok((left, silent))
}

/// Plugins that do not list their instances, and why.
type Silent = Vec<(String, spi::Error)>;

/// The owner and the token of each instance, for each type of a plugin.
type Owners = Vec<(String, Vec<(String, Option<String>)>)>;

async fn owners(plugin: &Found) -> (Owners, Silent) {
    let client = plugin.client();
    let types = match client.hello().await {
        Ok(hello) => hello.interfaces.get(interface::INSTANCE).cloned().unwrap_or_default(),
        Err(error) if error.class == Class::Unavailable => {
            tracing::warn!(plugin = plugin.name, %error, "plugin unreachable; its instances are unknown");
            return Default::default();
        }
        Err(error) => return (Vec::new(), vec![(plugin.name.clone(), error)]),
    };
    let (mut all, mut silent) = (Vec::new(), Silent::new());
    for kind in types {
        let (subtype, name) = match kind.as_str() {
            "." => ("", plugin.name.clone()),
            kind => (kind, format!("{}/{kind}", plugin.name)),
        };
        match client.instances(subtype).describe(&Tags::new(), false).await {
            Ok(items) => {
                let owned = items.into_iter().filter_map(|mut item| {
                    Some((item.tags.remove(tags::OWNER)?, item.tags.remove(tags::INTENT)))
                });
                all.push((name, owned.collect()));
            }
            Err(error) => silent.push((name, error)),
        }
    }
    (all, silent)
}
