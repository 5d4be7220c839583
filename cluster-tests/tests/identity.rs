//! Who is let in, who is known, and who is not any more.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use api::{Code, Credentials, JoinToken, Services, proto as pb, tls};
use cluster_tests::{Cluster, Process, Surroundings, free_ports, group, over_the_network, until};
use model::Role;

/// Somebody who asks as from another machine.
async fn remote(address: &str, who: &Credentials) -> Result<Services, String> {
    remote_by(address, tls::client(who).expect("credentials")).await
}

async fn remote_by(address: &str, tls: Arc<rustls::ClientConfig>) -> Result<Services, String> {
    over_the_network(address, tls).await.map(Services::over).map_err(|error| format!("{error:?}"))
}

fn set(key: &str) -> pb::SetVariableRequest {
    pb::SetVariableRequest { key: key.into(), value: "v".into(), ..Default::default() }
}

/// What a call came to, for somebody who asks over the network.
async fn ask_to_set(cluster: &Cluster, who: &Credentials, key: &str) -> Result<(), Code> {
    let client = remote(&cluster.address(0), who).await.map_err(|_| Code::Forbidden)?;
    client.variables().set(set(key)).await.map(drop).map_err(|status| api::Error::from(status).code)
}

/// A manager on a machine of its own, with a token or none.
fn on_another_machine(cluster: &Cluster, name: &str, listen: &str, token: Option<&str>) -> Process {
    let dir = cluster.path().join(name);
    let data = dir.display().to_string();
    let plugins = cluster.plugins_dir().display().to_string();
    let to = cluster.address(0);
    let mut args = vec!["manager", "start", "--name", name, "--data-dir", &data, "--listen", listen];
    args.extend(["--plugins-dir", &plugins, "--join", &to]);
    args.extend(token.iter().flat_map(|token| ["--token", token]));
    let elsewhere = cluster.path().join(format!("run-{name}")).display().to_string();
    let environment = vec![("INFRAKIT_RUNTIME_DIR".to_owned(), elsewhere)];
    let log = cluster.path().join(format!("{name}.log"));
    Process::start_in(&Surroundings { before: Vec::new(), environment }, &args, Path::new(&log))
}

fn free_address() -> String {
    format!("127.0.0.1:{}", free_ports(1)[0])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_on_another_machine_joins_with_a_token_and_not_without() {
    let cluster = Cluster::of(1).await;
    let other = Cluster::of(1).await;
    let minute = Some(Duration::from_secs(60));
    let token = async |cluster: &Cluster, role, once, lasts| {
        cluster.token(role, once, lasts).await.expect("an admin asks").expose()
    };
    let good = token(&cluster, Role::Manager, true, minute).await;
    let expired = token(&cluster, Role::Manager, false, Some(Duration::from_millis(1))).await;
    let person = token(&cluster, Role::Admin, false, minute).await;
    let theirs = token(&other, Role::Manager, false, minute).await;
    let (authority, _) = good.rsplit_once('-').expect("it has parts");
    let guess = format!("{authority}-{}", theirs.rsplit('-').next().expect("a part"));
    let refusals = [
        (None, "no credentials for"),
        (Some(&expired), "the token has expired"),
        (Some(&person), "is for the role admin"),
        (Some(&theirs), "for another cluster"),
        (Some(&guess), "the token is not known"),
    ];
    for (n, (token, why)) in refusals.into_iter().enumerate() {
        let name = format!("x{n}");
        let mut manager = on_another_machine(&cluster, &name, &free_address(), token.map(String::as_str));
        let code = until("it is refused", async || manager.ended()).await;
        let log = manager.log();
        assert!(code == 1 && log.contains(why) && log.contains("token create"), "{why}: {code}: {log}");
        assert!(!token.is_some_and(|token| log.contains(token)), "the token is told to nobody: {log}");
    }
    let count = async || cluster.status().await.map_or(0, |status| status.nodes.len());
    assert_eq!(count().await, 1, "nothing was changed");
    let address = free_address();
    let mut joined = on_another_machine(&cluster, "m2", &address, Some(&good));
    cluster.until_voters(2).await;
    // It served once.
    let mut second = on_another_machine(&cluster, "m3", &free_address(), Some(&good));
    until("it is refused", async || second.ended()).await;
    assert!(second.log().contains("was used"), "{}", second.log());
    assert_eq!(count().await, 2);
    // A restart uses the same command, and needs the token no more.
    joined.kill();
    let _again = on_another_machine(&cluster, "m2", &address, Some(&good));
    cluster.until_voters(2).await;
    cluster.set("k", "v").await.expect("both agree");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_over_the_network_needs_a_role_and_is_named_in_what_they_did() {
    let cluster = Cluster::of(3).await;
    let other = Cluster::of(1).await;
    let viewer = cluster.log_in(Role::Viewer, "vera").await;
    let token = cluster.token(Role::Operator, false, None).await.expect("an admin asks");
    let operator = cluster.log_in_by(&token, "olga").await.expect("the token is good");
    let admin = cluster.log_in(Role::Admin, "ada").await;
    let stranger = other.log_in(Role::Admin, "eve").await;
    assert_eq!(ask_to_set(&cluster, &viewer, "a").await, Err(Code::Forbidden));
    assert_eq!(ask_to_set(&cluster, &stranger, "a").await, Err(Code::Forbidden));
    assert_eq!(ask_to_set(&cluster, &operator, "a").await, Ok(()));
    assert_eq!(ask_to_set(&cluster, &operator, "infrakit/max-instances").await, Err(Code::Forbidden));
    assert_eq!(
        ask_to_set(&cluster, &admin, "infrakit/max-instances").await,
        Err(Code::Invalid),
        "it may try"
    );
    // No certificate at all.
    let newcomer = tls::newcomer(token.authority).expect("a fingerprint");
    let nobody = remote_by(&cluster.address(1), newcomer).await.expect("a connection");
    let refused = nobody.cluster().status(pb::StatusRequest::default()).await.expect_err("it is not known");
    assert_eq!(api::Error::from(refused).code, Code::Forbidden);
    // Every manager names who asked, also the one that only passes it on.
    for i in 0..3 {
        let client = remote(&cluster.address(i), &operator).await.expect("she is known");
        let text = group(&format!("web{i}"), 1, "v1");
        let draft = model::draft::read("test.yaml", text.as_bytes(), model::draft::Yaml::Unsaid)
            .expect("a valid file");
        let spec = Some(api::spec(&draft.specs[0], model::Revision(0)));
        let items = vec![pb::CommitItem { spec, if_revision: None }];
        client.groups().commit(pb::CommitRequest { items, ..Default::default() }).await.expect("she may");
        let found = until("the event is told", async || {
            let request = pb::EventsRequest { group: format!("web{i}"), follow: false, after: 0 };
            let mut events = client.cluster().events(request).await.ok()?.into_inner();
            let event = events.message().await.ok()??;
            (event.kind == "GroupCommitted").then_some(event)
        });
        assert_eq!(found.await.by, "user:olga");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_revoked_takes_everybody_with_it_who_came_by_it() {
    let cluster = Cluster::of(3).await;
    cluster.commit(&group("web", 1, "v1")).await.expect("it is accepted");
    let token = cluster.token(Role::Operator, false, None).await.expect("an admin asks");
    let operator = cluster.log_in_by(&token, "olga").await.expect("the token is good");
    let admin = cluster.log_in(Role::Admin, "ada").await;
    // On connections that are open too.
    let open = remote(&cluster.address(2), &operator).await.expect("she is known");
    open.variables().set(set("b")).await.expect("she may");
    let follow = pb::EventsRequest { group: String::new(), follow: true, after: 0 };
    let events = open.cluster().events(follow).await.expect("she may").into_inner();
    let watch = pb::GroupRequest { group: "web".into(), ..Default::default() };
    let mut watched = open.groups().watch(watch).await.expect("she may").into_inner();
    watched.message().await.expect("she is known").expect("there is such a group");
    let id = token.id().short().to_owned();
    let revoke = pb::RevokeTokenRequest { request_id: vec![7; 16], id };
    cluster
        .client()
        .call(async |c| c.access().revoke_token(revoke.clone()).await)
        .await
        .expect("an admin asks");
    until("she is known no more", async || {
        let refused = open.variables().set(set("c")).await.err()?;
        (api::Error::from(refused).code == Code::Forbidden).then_some(())
    })
    .await;
    // What she watches ends as well.
    let ended = async { [end_of(events).await, end_of(watched).await] };
    let ended = tokio::time::timeout(Duration::from_secs(20), ended).await.expect("her streams end");
    assert_eq!(ended, [Code::Forbidden, Code::Forbidden]);
    assert_eq!(ask_to_set(&cluster, &admin, "d").await, Ok(()), "others are");
    let again: Result<_, _> = cluster.log_in_by(&token, "olga").await;
    assert_eq!(again.expect_err("it was revoked").code, Code::Forbidden);
}

/// Why a stream ends.
async fn end_of<T>(mut stream: tonic::Streaming<T>) -> Code {
    loop {
        if let Err(why) = stream.message().await {
            return api::Error::from(why).code;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_serves_once_lets_in_one_key_and_no_managers_token_lets_in_a_person() {
    let cluster = Cluster::of(1).await;
    // Whatever name is given.
    let once = cluster.token(Role::Viewer, true, None).await.expect("an admin asks");
    cluster.log_in_by(&once, "vera").await.expect("the token is good");
    assert_eq!(cluster.log_in_by(&once, "vera").await.expect_err("it was used").code, Code::Forbidden);
    let manager = cluster.token(Role::Manager, false, None).await.expect("an admin asks");
    assert_eq!(cluster.log_in_by(&manager, "2").await.expect_err("it is no person's").code, Code::Forbidden);
}

/// Asks all the time, half of the time over a connection of its own, until it is told to stop. Gives how often
/// it asked, and what failed.
async fn load(
    address: String,
    who: Credentials,
    done: Arc<AtomicUsize>,
    mut stop: tokio::sync::watch::Receiver<bool>,
) -> (usize, Vec<String>) {
    let (mut asked, mut failed) = (0, Vec::new());
    let kept = remote(&address, &who).await.expect("it is known");
    while !*stop.borrow_and_update() {
        asked += 1;
        let key = format!("load-{address}");
        let result = if asked % 2 == 0 {
            kept.variables().set(set(&key)).await.map_err(|status| status.to_string())
        } else {
            match remote(&address, &who).await {
                Ok(fresh) => fresh.variables().set(set(&key)).await.map_err(|status| status.to_string()),
                Err(why) => Err(why),
            }
        };
        failed.extend(result.err());
        done.fetch_add(1, Ordering::Relaxed);
    }
    (asked, failed)
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_change_under_load_and_no_request_fails() {
    let cluster = Cluster::of(3).await;
    let who = cluster.log_in(Role::Operator, "olga").await;
    // A voter that has just joined may be without a state for a moment: it knows nobody then.
    for i in 0..3 {
        until("every manager knows her", async || {
            let client = remote(&cluster.address(i), &who).await.ok()?;
            client.variables().set(set("known")).await.ok().map(drop)
        })
        .await;
    }
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let done = Arc::new(AtomicUsize::new(0));
    let work: Vec<_> = (0..3)
        .map(|i| tokio::spawn(load(cluster.address(i), who.clone(), done.clone(), stopped.clone())))
        .collect();
    // More of them are asked and answered from now on.
    let goes_on = async || {
        let before = done.load(Ordering::Relaxed);
        let more = async || (done.load(Ordering::Relaxed) > before + 50).then_some(());
        until("the load goes on", more).await;
    };
    // Whenever the life of certificates changes, each manager signs its own anew.
    for n in 0..10 {
        cluster.set("infrakit/certificate-life", &format!("{}s", 600 + n)).await.expect("an admin asks");
        goes_on().await;
    }
    let authority = async || {
        let client = cluster.client();
        client.call(async |c| c.access().get_authority(pb::GetAuthorityRequest {}).await).await.ok()
    };
    let before = authority().await.expect("it is told").fingerprint;
    let open = remote(&cluster.address(2), &who).await.expect("she is known");
    let rotate = pb::RotateAuthorityRequest { request_id: vec![9; 16] };
    cluster
        .client()
        .call(async |c| c.access().rotate_authority(rotate.clone()).await)
        .await
        .expect("an admin asks");
    let twice = pb::RotateAuthorityRequest { request_id: vec![8; 16] };
    let twice = cluster.client().call(async |c| c.access().rotate_authority(twice.clone()).await).await;
    assert_eq!(twice.expect_err("one is under way").code, Code::Conflict);
    until("the new one signs", async || (authority().await?.rotation == "Retiring").then_some(())).await;
    goes_on().await;
    // Logins end with the former authority, so the load ends before.
    stop.send_replace(true);
    for work in work {
        let (asked, failed) = work.await.expect("it ends");
        assert!(failed.is_empty() && asked > 20, "{} of {asked}: {:?}", failed.len(), failed.first());
    }
    until("the former one is retired", async || authority().await?.rotation.is_empty().then_some(())).await;
    assert_ne!(authority().await.expect("it is told").fingerprint, before);
    assert_eq!(ask_to_set(&cluster, &who, "k").await, Err(Code::Forbidden), "it is trusted no more");
    let refused = open.variables().set(set("k")).await.expect_err("nor over a connection that is open");
    assert_eq!(api::Error::from(refused).code, Code::Forbidden);
    let again = cluster.log_in(Role::Operator, "olga").await;
    assert_eq!(ask_to_set(&cluster, &again, "k").await, Ok(()));
    cluster.until_voters(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_tells_which_cluster_is_meant() {
    let cluster = Cluster::of(1).await;
    let token: JoinToken = cluster.token(Role::Viewer, false, None).await.expect("an admin asks");
    let other = Cluster::of(1).await;
    let meant = tls::newcomer(token.authority).expect("a fingerprint");
    assert!(remote_by(&cluster.address(0), meant.clone()).await.is_ok());
    let why = remote_by(&other.address(0), meant).await.expect_err("it is another");
    assert!(why.contains("the token is for another cluster"), "{why}");
}
