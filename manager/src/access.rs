//! Authentication and authorization of every call, in a layer before the services.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use api::{Code, Error, Subject, proto as pb};
use futures_util::future::BoxFuture;
use http_body_util::Limited;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use model::secret::SCHEME;
use model::{LogIndex, Role, State};
use raft::{PeerIdentity, Published};
use rustls::pki_types::CertificateDer;
use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service, http};

use crate::accept::{Caller, PeerCertificate};

/// Headers of a forwarded call: the name and the role of the caller.
const ASKED_BY: &str = "infrakit-asked-by";
const ASKED_AS: &str = "infrakit-asked-as";

/// The largest request of an unauthenticated caller.
const UNAUTHENTICATED_BODY: usize = 64 << 10;

/// How often the credentials of the caller of a stream are checked again.
const LOOKED_AGAIN: Duration = Duration::from_secs(10);

/// The authenticated caller, as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Principal {
    /// As in the log and in events: `user:ann`, `manager:3`.
    pub(crate) name: String,
    pub(crate) role: Role,
}

impl Principal {
    /// Adds the caller to the headers of a forwarded call.
    pub(crate) fn mark(&self, headers: &mut http::HeaderMap) {
        // Without a valid header value, the name of the forwarding manager is recorded.
        if let Ok(name) = http::HeaderValue::try_from(&self.name) {
            headers.insert(ASKED_BY, name);
        }
        headers.insert(ASKED_AS, http::HeaderValue::from_static(self.role.as_str()));
    }
}

/// A viewer may not plan specs with secrets: planning passes them to plugins.
pub(crate) fn may_name_secrets(role: Role, request: &pb::CommitRequest) -> Result<(), Error> {
    let specs = request.items.iter().filter_map(|item| item.spec.as_ref());
    let parts = specs.flat_map(|spec| spec.instance.iter().chain(&spec.flavor));
    if role >= Role::Operator || parts.into_iter().all(|part| !part.properties.contains(SCHEME)) {
        return Ok(());
    }
    Err(Error::new(Code::Forbidden, "a plan with secrets requires the role operator")
        .cause(format!("the caller has the role {role}, and a plan passes the secrets to plugins"))
        .remedy("log in with a token of that role; nothing was changed"))
}

/// The layer that authenticates and authorizes calls.
#[derive(Clone)]
pub(crate) struct AuthLayer {
    states: watch::Receiver<Published>,
    names: Arc<Mutex<Names>>,
}

/// The names of the authorities that are trusted, and the log index that made it so.
type Names = (LogIndex, Arc<Vec<Vec<u8>>>);

impl AuthLayer {
    pub(crate) fn new(states: watch::Receiver<Published>) -> Self {
        Self { states, names: Arc::default() }
    }

    /// Waits until the credentials of this user are revoked or expire, and returns the reason.
    async fn until_revoked(mut self, shown: PeerCertificate) -> Status {
        loop {
            let state = self.states.borrow_and_update().state.clone();
            if let Err(error) = is_known(&state, &self.trusted(&state), &shown) {
                return error.into();
            }
            // A certificate expires without a change of anything.
            let changed = tokio::time::timeout(LOOKED_AGAIN, self.states.changed());
            if let Ok(Err(_)) = changed.await {
                std::future::pending::<()>().await;
            }
        }
    }

    /// The names of the authorities that are trusted, read out of their certificates at every change.
    fn trusted(&self, state: &State) -> Arc<Vec<Vec<u8>>> {
        let Some(known) = &state.authorities else { return Arc::default() };
        let mut names = self.names.lock().expect("nobody panics while holding the names");
        if names.0 != known.changed {
            let name = |it: &Arc<[u8]>| api::named(&CertificateDer::from(&it[..])).ok();
            *names = (known.changed, Arc::new(known.trusted().filter_map(name).collect()));
        }
        names.1.clone()
    }
}

impl<S> tower::Layer<S> for AuthLayer {
    type Service = AuthService<S>;

    fn layer(&self, service: S) -> AuthService<S> {
        AuthService { service, auth: self.clone() }
    }
}

/// A service behind the layer.
#[derive(Clone)]
pub(crate) struct AuthService<S> {
    service: S,
    auth: AuthLayer,
}

impl<S> Service<http::Request<Body>> for AuthService<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let caller = request.extensions().get::<Caller>().cloned().unwrap_or(Caller::Unknown);
        let state = self.auth.states.borrow().state.clone();
        let forwarded = ForwardedIdentity::by(request.headers());
        let trusted = self.auth.trusted(&state);
        let admitted = admit(&state, &trusted, &caller, request.uri().path(), forwarded);
        if caller == Caller::Unknown {
            request = request.map(|body| Body::new(Limited::new(body, UNAUTHENTICATED_BODY)));
        }
        match admitted {
            Ok(Admitted::Peer(peer)) => drop(request.extensions_mut().insert(peer)),
            Ok(Admitted::Principal(principal)) => drop(request.extensions_mut().insert(principal)),
            Err(error) => {
                let refusal = Status::from(error).into_http();
                return Box::pin(async move { Ok(refusal) });
            }
        }
        let answering = self.service.call(request);
        let Caller::Certified(shown @ PeerCertificate { subject: Subject::Person { .. }, .. }) = caller
        else {
            return Box::pin(answering);
        };
        let auth = self.auth.clone();
        Box::pin(async move {
            let answer = answering.await?;
            // A stream may last long, but not longer than the credentials of its caller.
            Ok(answer.map(|body| {
                Body::new(WhileTrusted { body, over: Some(Box::pin(auth.until_revoked(shown))) })
            }))
        })
    }
}

/// A response body that ends when the credentials of the caller are revoked or expire.
struct WhileTrusted {
    body: Body,
    /// Why it ends; none when it has.
    over: Option<BoxFuture<'static, Status>>,
}

impl HttpBody for WhileTrusted {
    type Data = <Body as HttpBody>::Data;
    type Error = <Body as HttpBody>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let Some(over) = &mut self.over else { return Poll::Ready(None) };
        if let Poll::Ready(why) = over.as_mut().poll(cx) {
            self.over = None;
            let mut trailers = http::HeaderMap::new();
            // Without the status, the stream ends anyway.
            let _ = why.add_header(&mut trailers);
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.over.is_none() || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The caller of a forwarded call, as the forwarding manager reports it.
struct ForwardedIdentity {
    name: Option<String>,
    role: Option<Role>,
}

impl ForwardedIdentity {
    fn by(headers: &http::HeaderMap) -> Self {
        let text = |name| headers.get(name)?.to_str().ok().map(str::to_owned);
        Self { name: text(ASKED_BY), role: text(ASKED_AS).and_then(|role| role.parse().ok()) }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Admitted {
    Peer(PeerIdentity),
    Principal(Principal),
}

fn forbidden(what: impl Into<String>) -> Error {
    Error::new(Code::Forbidden, what)
}

/// Whether this caller may make this call, and as whom. `trusted` are the names of the trusted authorities.
fn admit(
    state: &State,
    trusted: &[Vec<u8>],
    caller: &Caller,
    path: &str,
    forwarded: ForwardedIdentity,
) -> Result<Admitted, Error> {
    let mut parts = path.trim_start_matches('/').splitn(2, '/');
    let (service, method) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if let Caller::Certified(shown) = caller {
        is_known(state, trusted, shown)?;
    }
    if service == raft::SERVICE {
        let peer = match caller {
            Caller::Certified(PeerCertificate { subject: Subject::Manager { node, .. }, .. }) => {
                PeerIdentity::Manager(*node)
            }
            Caller::Local { .. } if method == "Join" => PeerIdentity::Local,
            _ if method == "Join" => PeerIdentity::Unknown,
            _ => return Err(forbidden("only managers of this cluster may call this service")),
        };
        return Ok(Admitted::Peer(peer));
    }
    let principal = match caller {
        Caller::Local { user } => Principal { name: format!("user:{user}"), role: Role::Admin },
        Caller::Certified(PeerCertificate { subject, .. }) => match subject {
            Subject::Person { name, role, .. } => Principal { name: format!("user:{name}"), role: *role },
            Subject::Manager { node, .. } if !state.managers.contains_key(node) => {
                return Err(forbidden(format!("manager {node} is not a member of the cluster")));
            }
            // A manager forwards calls of others.
            Subject::Manager { node, .. } => match forwarded.role {
                Some(role) => {
                    Principal { name: forwarded.name.unwrap_or_else(|| format!("manager:{node}")), role }
                }
                None => Principal { name: format!("manager:{node}"), role: Role::Viewer },
            },
        },
        Caller::Unknown => Principal { name: "anonymous".into(), role: Role::Viewer },
    };
    let Some(needed) = api::required_role(path) else { return Ok(Admitted::Principal(principal)) };
    if *caller == Caller::Unknown {
        return Err(forbidden("unauthenticated: no client certificate was presented").remedy(api::LOG_IN));
    }
    if principal.role < needed {
        return Err(forbidden(format!("requires the role {needed}"))
            .cause(format!("{} has the role {}", principal.name, principal.role))
            .remedy("log in with a token of that role; nothing was changed"));
    }
    Ok(Admitted::Principal(principal))
}

/// Whether the certificate of a connection is still valid: it was checked only when the connection was made.
fn is_known(state: &State, trusted: &[Vec<u8>], shown: &PeerCertificate) -> Result<(), Error> {
    let subject = &shown.subject;
    let (Subject::Manager { cluster, .. } | Subject::Person { cluster, .. }) = subject;
    let Some(ours) = &state.cluster else {
        // Other managers may call one that has no state yet.
        return match subject {
            Subject::Manager { .. } => Ok(()),
            Subject::Person { .. } => Err(Error::new(Code::Unavailable, "this manager has no state yet")),
        };
    };
    if ours != cluster {
        return Err(forbidden(format!("the certificate is for cluster {}", cluster.short())));
    }
    let present = state.lineages.now;
    if let Subject::Manager { lineage, node, .. } = subject {
        let what = || format!("manager {node} has lineage {lineage}, and this one lineage {present}");
        if *lineage < present {
            return Err(forbidden(what()).cause("the cluster went on without it"));
        }
        if *lineage > present {
            // This manager is the outdated one: the caller must not take that for its own removal.
            return Err(Error::new(Code::Unavailable, what()).cause("the cluster went on without this one"));
        }
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    match subject {
        // Raft accepts a removed manager as long as its vote counts, and rejects it afterwards. A member
        // renews its certificate; its open connections stay valid.
        Subject::Manager { .. } => Ok(()),
        Subject::Person { .. } if !trusted.iter().any(|name| *name == *shown.issuer) => {
            let what = "the issuing CA is no longer trusted";
            Err(forbidden(what).remedy("log in again"))
        }
        Subject::Person { .. } if now > shown.until => {
            Err(forbidden("the certificate has expired").remedy("log in again"))
        }
        Subject::Person { name, role, token, .. } => match state.tokens.get(token) {
            Some(known) if known.role == *role => Ok(()),
            _ => Err(forbidden(format!("the credentials of `{name}` are revoked"))
                .cause(format!("token {} was revoked", token.short()))
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

    const CA: &[u8] = b"the authority";
    const RAFT: &str = "/infrakit.raft.v1.Peers/Vote";

    fn state() -> State {
        let authority =
            model::access::Authority { certificate: CA.into(), key: model::access::Secret::new(CA) };
        let authorities = Some(model::access::Authorities::new(authority, model::LogIndex(1)));
        let cluster = Some(ClusterId::new("ours"));
        let mut state = State { cluster, lineages: 2.into(), authorities, ..State::default() };
        let manager = Manager {
            name: "m1".into(),
            address: "h:1".into(),
            storage: "s1".into(),
            instance: None,
            program: Default::default(),
        };
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

    fn not_forwarded() -> ForwardedIdentity {
        ForwardedIdentity { name: None, role: None }
    }

    /// The path of a method such as `Groups/Commit`.
    fn api(method: &str) -> String {
        format!("/infrakit.v1.{method}")
    }

    /// A person who is known, but for one thing.
    fn changed(change: impl Fn(&mut PeerCertificate)) -> Caller {
        let Caller::Certified(mut shown) = person("ours", Role::Operator, "t") else {
            unreachable!("it is one")
        };
        change(&mut shown);
        Caller::Certified(shown)
    }

    /// Every method that the public API has.
    fn methods() -> Vec<String> {
        let mut methods = Vec::new();
        for proto in [
            include_str!("../../api/proto/infrakit/v1/access.proto"),
            include_str!("../../api/proto/infrakit/v1/cluster.proto"),
            include_str!("../../api/proto/infrakit/v1/group.proto"),
            include_str!("../../api/proto/infrakit/v1/node.proto"),
            include_str!("../../api/proto/infrakit/v1/secret.proto"),
            include_str!("../../api/proto/infrakit/v1/variable.proto"),
        ] {
            let named =
                |line: &'static str, before: &str| line.trim().strip_prefix(before)?.split([' ', '(']).next();
            let service = proto.lines().find_map(|line| named(line, "service ")).expect("one service a file");
            let rpcs = proto.lines().filter_map(|line| named(line, "rpc "));
            methods.extend(rpcs.map(|method| format!("{service}/{method}")));
        }
        methods
    }

    fn manager(cluster: &str, node: u64) -> Caller {
        shown(Subject::Manager { cluster: cluster.into(), lineage: 2, node: NodeId(node) })
    }

    fn person(cluster: &str, role: Role, token: &str) -> Caller {
        let (cluster, name, token) = (cluster.into(), "ann".into(), TokenId::new(token));
        shown(Subject::Person { cluster, name, role, token })
    }

    fn shown(subject: Subject) -> Caller {
        Caller::Certified(PeerCertificate { subject, issuer: CA.into(), until: i64::MAX })
    }

    #[test]
    fn who_is_not_known_may_do_nothing_but_show_a_token() {
        let state = state();
        let unauthenticated = [
            Caller::Unknown,
            manager("theirs", 1),
            // It belongs to what the cluster was before it began anew.
            shown(Subject::Manager { cluster: "ours".into(), lineage: 1, node: NodeId(1) }),
            person("theirs", Role::Admin, "t"),
            person("ours", Role::Operator, "revoked"),
            // The certificate says more than the token.
            person("ours", Role::Admin, "t"),
            changed(|it| it.issuer = b"retired".as_slice().into()),
            changed(|it| it.until = 1_000_000_000),
        ];
        let methods = methods();
        assert!(methods.len() > 20, "{methods:?}");
        for caller in &unauthenticated {
            for method in methods.iter().filter(|it| *it != "Access/Login") {
                let admitted = admit(&state, &[CA.to_vec()], caller, &api(method), not_forwarded());
                assert_eq!(admitted.expect_err(method).code, Code::Forbidden, "{caller:?} {method}");
            }
            assert!(admit(&state, &[CA.to_vec()], caller, RAFT, not_forwarded()).is_err(), "{caller:?}");
        }
        assert!(
            admit(&state, &[CA.to_vec()], &Caller::Unknown, &api("Access/Login"), not_forwarded()).is_ok()
        );
        let join = "/infrakit.raft.v1.Peers/Join";
        let joins = admit(&state, &[CA.to_vec()], &Caller::Unknown, join, not_forwarded());
        assert_eq!(joins, Ok(Admitted::Peer(PeerIdentity::Unknown)));
        for odd in ["", "/", "//", "/x", "/infrakit.v1.Groups/NoSuch", "/grpc.reflection/List"] {
            assert!(admit(&state, &[CA.to_vec()], &Caller::Unknown, odd, not_forwarded()).is_err(), "{odd}");
        }
    }

    #[test]
    fn one_that_is_left_behind_tells_nobody_to_stop() {
        // Peers stop at a word of permission denied (raft/src/peers.rs, Expelled).
        let state = state();
        let of = |lineage| shown(Subject::Manager { cluster: "ours".into(), lineage, node: NodeId(1) });
        let code = |lineage| {
            let admitted = admit(&state, &[CA.to_vec()], &of(lineage), RAFT, not_forwarded());
            admitted.map(drop).map_err(|error| error.code)
        };
        assert_eq!(code(1), Err(Code::Forbidden));
        assert_eq!(code(2), Ok(()));
        assert_eq!(code(3), Err(Code::Unavailable));
    }

    #[test]
    fn a_role_allows_what_those_before_it_allow_and_nobody_but_a_manager_is_a_peer() {
        let mut state = state();
        let local = Caller::Local { user: "root".into() };
        for method in methods() {
            assert!(
                admit(&state, &[CA.to_vec()], &local, &api(&method), not_forwarded()).is_ok(),
                "{method}"
            );
        }
        assert!(admit(&state, &[CA.to_vec()], &local, RAFT, not_forwarded()).is_err(), "a person is no peer");
        let mut allowed = Vec::new();
        for role in [Role::Viewer, Role::Operator, Role::Admin] {
            state.tokens[&TokenId::new("t")].role = role;
            let caller = person("ours", role, "t");
            let may = |method: &String| {
                admit(&state, &[CA.to_vec()], &caller, &api(method), not_forwarded()).is_ok()
            };
            allowed.push(methods().into_iter().filter(may).collect::<Vec<_>>());
            assert!(admit(&state, &[CA.to_vec()], &caller, RAFT, not_forwarded()).is_err());
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
        let peer = admit(&state, &[CA.to_vec()], &manager("ours", 1), RAFT, not_forwarded());
        assert_eq!(peer, Ok(Admitted::Peer(PeerIdentity::Manager(NodeId(1)))));
    }

    #[test]
    fn a_manager_speaks_for_whoever_asked_it_and_one_that_is_gone_for_nobody() {
        let state = state();
        let forwarded = || ForwardedIdentity { name: Some("user:ann".into()), role: Some(Role::Viewer) };
        let asked = admit(&state, &[CA.to_vec()], &manager("ours", 1), &api("Cluster/Status"), forwarded());
        assert_eq!(asked, Ok(Admitted::Principal(Principal { name: "user:ann".into(), role: Role::Viewer })));
        assert!(
            admit(&state, &[CA.to_vec()], &manager("ours", 1), &api("Groups/Commit"), forwarded()).is_err(),
            "she looks only"
        );
        assert!(
            admit(&state, &[CA.to_vec()], &manager("ours", 9), &api("Cluster/Status"), forwarded()).is_err(),
            "it was removed"
        );
        // Nobody else is believed what they tell.
        let admin = || ForwardedIdentity { name: Some("user:root".into()), role: Some(Role::Admin) };
        let ann = person("ours", Role::Operator, "t");
        assert!(admit(&state, &[CA.to_vec()], &ann, &api("Access/CreateToken"), admin()).is_err());
        assert!(admit(&state, &[CA.to_vec()], &Caller::Unknown, &api("Cluster/Status"), admin()).is_err());
        let local = Caller::Local { user: "bob".into() };
        let asked =
            admit(&state, &[CA.to_vec()], &local, &api("Cluster/Status"), forwarded()).map(|it| match it {
                Admitted::Principal(principal) => principal.name,
                Admitted::Peer(_) => unreachable!("it is no peer's call"),
            });
        assert_eq!(asked, Ok("user:bob".to_owned()));
    }
}
