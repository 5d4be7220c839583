//! What is waited for.

use api::proto as pb;
use cluster_tests::Cluster;

/// Until every member of a group is there and ready, as the leader says.
pub(crate) async fn converged(cluster: &Cluster, name: &str, size: u64) {
    let brief = pb::GroupRequest { group: name.to_owned(), brief: true, ..Default::default() };
    let mut stream =
        cluster.client().call(async |c| c.groups().watch(brief.clone()).await).await.expect("a stream");
    while let Ok(Some(group)) = stream.message().await {
        if group.converged && group.ready == size {
            return;
        }
    }
    panic!("the stream ended before {name} had {size}");
}
