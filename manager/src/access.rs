//! The door-keeper: who calls, and whether their role allows the call. It stands before every service.

use std::convert::Infallible;
use std::task::{Context, Poll};

use api::{Code, Error, Subject};
use futures_util::future::BoxFuture;
use model::{Role, State};
use raft::{Published, Speaker};
use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::metadata::{MetadataMap, MetadataValue};

use crate::doors::Caller;

/// Who asked, and in which role, told by the manager that was asked to the one that leads.
const ASKED_BY: &str = "infrakit-asked-by";
const ASKED_AS: &str = "infrakit-asked-as";

/// Who asks, for the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asker {
    /// As the log and the events name it: `user:ann`, `manager:3`.
    pub(crate) name: String,
    pub(crate) role: Role,
}

impl Asker {
    /// Tells the leader who asks.
    pub(crate) fn mark(&self, metadata: &mut MetadataMap) {
        if let Ok(name) = MetadataValue::try_from(&self.name) {
            metadata.insert(ASKED_BY, name);
            metadata.insert(ASKED_AS, MetadataValue::from_static(self.role.as_str()));
        }
    }
}

/// The role that a call asks for. What is not named here asks for the most.
pub(crate) fn needed(method: &str) -> Option<Role> {
    match method {
        "Login" => None,
        "GetAuthority" | "Plan" | "ListGroups" | "DescribeGroup" | "InspectGroup" | "WatchGroup"
        | "Status" | "Events" | "GetVariable" => Some(Role::Viewer),
        "Commit" | "Scale" | "Free" | "Destroy" | "Settle" | "SetVariable" => Some(Role::Operator),
        _ => Some(Role::Admin),
    }
}

/// Puts a door-keeper before every service.
#[derive(Clone)]
pub(crate) struct Keeper {
    pub(crate) states: watch::Receiver<Published>,
}

impl<S> tower::Layer<S> for Keeper {
    type Service = Kept<S>;

    fn layer(&self, door: S) -> Kept<S> {
        Kept { door, keeper: self.clone() }
    }
}

/// A service behind a door-keeper.
#[derive(Clone)]
pub(crate) struct Kept<S> {
    door: S,
    keeper: Keeper,
}

impl<S> Service<http::Request<Body>> for Kept<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.door.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let caller = request.extensions().get::<Caller>().cloned().unwrap_or(Caller::Unknown);
        let state = self.keeper.states.borrow().state.clone();
        let told = Told::by(request.headers());
        match admit(&state, &caller, request.uri().path(), told) {
            Ok(Admitted::Peer(speaker)) => drop(request.extensions_mut().insert(speaker)),
            Ok(Admitted::Asker(asker)) => drop(request.extensions_mut().insert(asker)),
            Err(error) => {
                let refusal = Status::from(error).into_http();
                return Box::pin(async move { Ok(refusal) });
            }
        }
        Box::pin(self.door.call(request))
    }
}

/// What a manager tells of the one who asked it.
struct Told {
    name: Option<String>,
    role: Option<Role>,
}

impl Told {
    fn by(headers: &http::HeaderMap) -> Self {
        let text = |name| headers.get(name)?.to_str().ok().map(str::to_owned);
        Self { name: text(ASKED_BY), role: text(ASKED_AS).and_then(|role| role.parse().ok()) }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Admitted {
    Peer(Speaker),
    Asker(Asker),
}

fn forbidden(what: impl Into<String>) -> Error {
    Error::new(Code::Forbidden, what)
}

/// Whether this caller may call this, and as whom.
fn admit(state: &State, caller: &Caller, path: &str, told: Told) -> Result<Admitted, Error> {
    let mut parts = path.trim_start_matches('/').splitn(2, '/');
    let (service, method) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if let Caller::Certified(subject) = caller {
        is_known(state, subject)?;
    }
    if service == raft::SERVICE {
        let speaker = match caller {
            Caller::Certified(Subject::Manager { node, .. }) => Speaker::Manager(*node),
            Caller::Local { .. } if method == "Join" => Speaker::Local,
            _ if method == "Join" => Speaker::Unknown,
            _ => return Err(forbidden("only managers of this cluster are heard here")),
        };
        return Ok(Admitted::Peer(speaker));
    }
    let asker = match caller {
        Caller::Local { user } => Asker { name: format!("user:{user}"), role: Role::Admin },
        Caller::Certified(Subject::Person { name, role, .. }) => {
            Asker { name: format!("user:{name}"), role: *role }
        }
        // A manager speaks for whoever asked it.
        Caller::Certified(Subject::Manager { node, .. }) if !state.managers.contains_key(node) => {
            return Err(forbidden(format!("manager {node} is no member of the cluster")));
        }
        Caller::Certified(Subject::Manager { node, .. }) => match (told.name, told.role) {
            (Some(name), Some(role)) => Asker { name, role },
            _ => Asker { name: format!("manager:{node}"), role: Role::Viewer },
        },
        Caller::Unknown => Asker { name: "anonymous".into(), role: Role::Viewer },
    };
    let Some(needed) = needed(method) else { return Ok(Admitted::Asker(asker)) };
    if *caller == Caller::Unknown {
        return Err(forbidden("the managers do not know who asks")
            .because("the connection shows no certificate")
            .remedy("`infrakit login` with a token of theirs; on a manager's machine, ask as the user who runs it"));
    }
    if asker.role < needed {
        return Err(forbidden(format!("this asks for the role {needed}"))
            .because(format!("{} has the role {}", asker.name, asker.role))
            .remedy("log in with a token of that role; nothing was changed"));
    }
    Ok(Admitted::Asker(asker))
}

/// A certificate outlives what it says.
fn is_known(state: &State, subject: &Subject) -> Result<(), Error> {
    let cluster = match subject {
        Subject::Manager { cluster, .. } | Subject::Person { cluster, .. } => cluster,
    };
    if state.cluster.as_ref().is_some_and(|ours| ours != cluster) {
        return Err(forbidden(format!("the certificate is of cluster {}", cluster.short())));
    }
    match subject {
        // Raft itself hears a removed manager as long as its vote counts, and tells it when it does not.
        Subject::Manager { .. } => Ok(()),
        Subject::Person { name, role, token, .. } => match state.tokens.get(token) {
            Some(known) if known.role == *role => Ok(()),
            _ => Err(forbidden(format!("`{name}` is known no more"))
                .because(format!("token {} was revoked", token.short()))
                .remedy("log in with another token")),
        },
    }
}

#[cfg(test)]
mod tests {
    use model::access::{Token, TokenId};
    use model::command::Manager;
    use model::{ClusterId, NodeId, Timestamp};

    use super::*;

    const RAFT: &str = "/infrakit.raft.v1.Peers/Vote";

    fn state() -> State {
        let mut state = State { cluster: Some(ClusterId::new("ours")), ..State::default() };
        let manager =
            Manager { name: "m1".into(), address: "h:1".into(), storage: "s1".into(), instance: None };
        state.managers.insert(NodeId(1), manager);
        let token = Token {
            role: Role::Operator,
            created: Timestamp(0),
            by: "user:root".into(),
            expires: None,
            once: false,
            used: None,
            instance: None,
        };
        state.tokens.insert(TokenId::new("t"), token);
        state
    }

    fn nothing_told() -> Told {
        Told { name: None, role: None }
    }

    fn api(method: &str) -> String {
        format!("/infrakit.v1.Manager/{method}")
    }

    /// Every method that the public API has.
    fn methods() -> Vec<String> {
        let proto = include_str!("../../api/proto/infrakit/v1/manager.proto");
        let method = |line: &str| Some(line.trim().strip_prefix("rpc ")?.split('(').next()?.to_owned());
        proto.lines().filter_map(method).collect()
    }

    fn manager(cluster: &str, node: u64) -> Caller {
        Caller::Certified(Subject::Manager { cluster: cluster.into(), node: NodeId(node) })
    }

    fn person(cluster: &str, role: Role, token: &str) -> Caller {
        let (cluster, name, token) = (cluster.into(), "ann".into(), TokenId::new(token));
        Caller::Certified(Subject::Person { cluster, name, role, token })
    }

    #[test]
    fn who_is_not_known_may_do_nothing_but_show_a_token() {
        let state = state();
        let strangers = [
            Caller::Unknown,
            manager("theirs", 1),
            person("theirs", Role::Admin, "t"),
            person("ours", Role::Operator, "revoked"),
            // The certificate says more than the token.
            person("ours", Role::Admin, "t"),
        ];
        let methods = methods();
        assert!(methods.len() > 20, "{methods:?}");
        for stranger in &strangers {
            for method in methods.iter().filter(|it| *it != "Login") {
                let admitted = admit(&state, stranger, &api(method), nothing_told());
                assert_eq!(admitted.expect_err(method).code, Code::Forbidden, "{stranger:?} {method}");
            }
            assert!(admit(&state, stranger, RAFT, nothing_told()).is_err(), "{stranger:?}");
        }
        assert!(admit(&state, &Caller::Unknown, &api("Login"), nothing_told()).is_ok());
        let join = "/infrakit.raft.v1.Peers/Join";
        let joins = admit(&state, &Caller::Unknown, join, nothing_told());
        assert_eq!(joins, Ok(Admitted::Peer(Speaker::Unknown)));
        for odd in ["", "/", "//", "/x", "/infrakit.v1.Manager/NoSuch", "/grpc.reflection/List"] {
            assert!(admit(&state, &Caller::Unknown, odd, nothing_told()).is_err(), "{odd}");
        }
    }

    #[test]
    fn a_role_allows_what_those_before_it_allow_and_nobody_but_a_manager_is_a_peer() {
        let mut state = state();
        let local = Caller::Local { user: "root".into() };
        for method in methods() {
            assert!(admit(&state, &local, &api(&method), nothing_told()).is_ok(), "{method}");
        }
        assert!(admit(&state, &local, RAFT, nothing_told()).is_err(), "a person is no peer");
        let mut allowed = Vec::new();
        for role in [Role::Viewer, Role::Operator, Role::Admin] {
            state.tokens[&TokenId::new("t")].role = role;
            let caller = person("ours", role, "t");
            let may = |method: &String| admit(&state, &caller, &api(method), nothing_told()).is_ok();
            allowed.push(methods().into_iter().filter(may).collect::<Vec<_>>());
            assert!(admit(&state, &caller, RAFT, nothing_told()).is_err());
        }
        for pair in allowed.windows(2) {
            assert!(pair[0].iter().all(|it| pair[1].contains(it)) && pair[0].len() < pair[1].len());
        }
        let viewer = &allowed[0];
        for method in ["Commit", "Scale", "Destroy", "SetVariable", "CreateToken", "Stand"] {
            assert!(!viewer.contains(&method.to_owned()), "{method}");
        }
        for method in ["CreateToken", "RevokeToken", "RotateAuthority", "Stand", "TransferLeadership"] {
            assert!(!allowed[1].contains(&method.to_owned()), "{method}");
        }
        let peer = admit(&state, &manager("ours", 1), RAFT, nothing_told());
        assert_eq!(peer, Ok(Admitted::Peer(Speaker::Manager(NodeId(1)))));
    }

    #[test]
    fn a_manager_speaks_for_whoever_asked_it_and_one_that_is_gone_for_nobody() {
        let state = state();
        let told = || Told { name: Some("user:ann".into()), role: Some(Role::Viewer) };
        let asked = admit(&state, &manager("ours", 1), &api("Status"), told());
        assert_eq!(asked, Ok(Admitted::Asker(Asker { name: "user:ann".into(), role: Role::Viewer })));
        assert!(admit(&state, &manager("ours", 1), &api("Commit"), told()).is_err(), "she looks only");
        assert!(admit(&state, &manager("ours", 9), &api("Status"), told()).is_err(), "it was removed");
        // Nobody else is believed what they tell.
        let admin = || Told { name: Some("user:root".into()), role: Some(Role::Admin) };
        let ann = person("ours", Role::Operator, "t");
        assert!(admit(&state, &ann, &api("CreateToken"), admin()).is_err());
        assert!(admit(&state, &Caller::Unknown, &api("Status"), admin()).is_err());
        let local = Caller::Local { user: "bob".into() };
        let asked = admit(&state, &local, &api("Status"), told()).map(|it| match it {
            Admitted::Asker(asker) => asker.name,
            Admitted::Peer(_) => unreachable!("it is no peer's call"),
        });
        assert_eq!(asked, Ok("user:bob".to_owned()));
    }
}
