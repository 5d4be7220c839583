//! Tokens, logins, and the certificate authority.

use std::time::Duration;

use api::proto::access_server::Access;
use api::{BadCertificate, Code, Error, Fingerprint, Subject, proto as pb};
use model::access::{LONGEST_LOGIN, Newcomer, Rotation, Token, TokenId};
use model::command::NewToken;
use model::{Actor, Change, Millis, Refusal, RequestId, Role, State};
use rustls::pki_types::CertificateDer;
use tonic::{Request, Response};

use super::answers::{is_done, refused};
use super::{Answered, Service, principal};
use crate::ca;

/// The longest name of a user.
const LONGEST_NAME: usize = 64;

#[tonic::async_trait]
impl Access for Service {
    async fn create_token(&self, request: Request<pb::CreateTokenRequest>) -> Answered<pb::CreateTokenReply> {
        let by = principal(&request);
        Ok(Response::new(self.create_token_now(request.into_inner(), &by).await?))
    }

    async fn list_tokens(&self, _: Request<pb::ListTokensRequest>) -> Answered<pb::TokenList> {
        Ok(Response::new(self.tokens().await?))
    }

    async fn revoke_token(&self, request: Request<pb::RevokeTokenRequest>) -> Answered<pb::Done> {
        let by = principal(&request);
        self.revoke_token_now(request.into_inner(), &by).await?;
        Ok(Response::new(pb::Done {}))
    }

    async fn login(&self, request: Request<pb::LoginRequest>) -> Answered<pb::LoginReply> {
        Ok(Response::new(self.log_in(request.into_inner()).await?))
    }

    async fn rotate_authority(&self, request: Request<pb::RotateAuthorityRequest>) -> Answered<pb::Done> {
        let by = principal(&request);
        self.rotate_now(request.into_inner(), &by).await?;
        Ok(Response::new(pb::Done {}))
    }

    async fn get_authority(&self, _: Request<pb::GetAuthorityRequest>) -> Answered<pb::Authority> {
        Ok(Response::new(self.authority().await?))
    }
}

impl Service {
    pub(super) async fn create_token_now(
        &self,
        request: pb::CreateTokenRequest,
        by: &Actor,
    ) -> Result<pb::CreateTokenReply, Error> {
        let id = api::request_id(&request.request_id)?;
        let state = self.read().await?.state;
        if !is_done(&state, id)? {
            let change = Change::CreateToken(new_token(&state, request)?);
            self.propose(id, by, change).await?;
        }
        let known = state.authorities.as_ref().ok_or_else(not_bootstrapped)?;
        Ok(pb::CreateTokenReply { authority: known.signing.certificate.to_vec() })
    }

    pub(super) async fn tokens(&self) -> Result<pb::TokenList, Error> {
        let state = self.read().await?.state;
        let token = |(id, it): (&TokenId, &Token)| pb::Token {
            id: id.short().to_owned(),
            role: it.role.to_string(),
            created_ms: it.created.0,
            by: it.by.clone(),
            expires_ms: it.expires.map(|at| at.0),
            once: it.once,
            used: it.used.as_ref().map(|who| whom(&state, who)).unwrap_or_default(),
            instance: it.instance.as_ref().map(ToString::to_string).unwrap_or_default(),
        };
        Ok(pb::TokenList { tokens: state.tokens.iter().map(token).collect() })
    }

    pub(super) async fn revoke_token_now(
        &self,
        request: pb::RevokeTokenRequest,
        by: &Actor,
    ) -> Result<(), Error> {
        let id = api::request_id(&request.request_id)?;
        let state = self.read().await?.state;
        if !is_done(&state, id)? {
            let (token, _) = find(&state, &request.id)?;
            self.propose(id, by, Change::RevokeToken { id: token.clone() }).await?;
        }
        Ok(())
    }

    pub(super) async fn log_in(&self, request: pb::LoginRequest) -> Result<pb::LoginReply, Error> {
        let name = request.name;
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
        if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(fits) {
            return Err(Error::new(Code::Invalid, format!("`{name}` is not a valid name"))
                .remedy("use at most 64 letters, digits and - _ . @"));
        }
        let token = api::token_id(&request.secret);
        // An invalid token causes no write.
        let key = api::key_digest(&request.csr).map_err(unreadable)?;
        let known = self.replica.published().state.admits(&token, &Newcomer::Person { key: &key });
        known.map_err(|why| refused(&Refusal::Token(why)))?;
        let by = Actor(format!("user:{name}"));
        // An unauthenticated caller cannot choose the request id: it must not get the reply to another
        // request.
        let id = RequestId(raft::unique());
        self.propose(id, &by, Change::Login { token: token.clone(), name: name.clone(), key }).await?;
        let state = self.read().await?.state;
        let known = state.authorities.as_ref().ok_or_else(not_bootstrapped)?;
        let gone = || Error::new(Code::Forbidden, "the token was just revoked");
        let role = state.tokens.get(&token).ok_or_else(gone)?.role;
        let cluster = self.replica.identity().cluster.clone();
        let subject = Subject::Person { cluster, name, role, token };
        let lasts = Duration::from_millis(LONGEST_LOGIN.0);
        let certificate = ca::sign(&known.signing, &request.csr, &subject, lasts).map_err(unreadable)?;
        let trusted = known.trusted().map(|it| it.to_vec()).collect();
        Ok(pb::LoginReply { certificate, trusted, role: role.to_string() })
    }

    pub(super) async fn rotate_now(
        &self,
        request: pb::RotateAuthorityRequest,
        by: &Actor,
    ) -> Result<(), Error> {
        let id = api::request_id(&request.request_id)?;
        let state = self.read().await?.state;
        if is_done(&state, id)? {
            return Ok(());
        }
        let known = state.authorities.as_ref().ok_or_else(not_bootstrapped)?;
        let (next, bridge) = ca::follow(&self.replica.identity().cluster, &known.signing)
            .map_err(|error| Error::new(Code::Internal, error.to_string()))?;
        self.propose(id, by, Change::Rotate { next, bridge }).await.map(drop)
    }

    pub(super) async fn authority(&self) -> Result<pb::Authority, Error> {
        let state = self.read().await?.state;
        let known = state.authorities.as_ref().ok_or_else(not_bootstrapped)?;
        let signing = CertificateDer::from(&known.signing.certificate[..]);
        Ok(pb::Authority {
            fingerprint: Fingerprint::of(&signing).to_string(),
            rotation: match known.rotation {
                Rotation::None => "",
                Rotation::Announced { .. } => "Announced",
                Rotation::Retiring { .. } => "Retiring",
            }
            .to_owned(),
            trusted: known.trusted().map(|it| it.to_vec()).collect(),
        })
    }
}

fn unreadable(error: BadCertificate) -> Error {
    Error::new(Code::Invalid, error.to_string())
}

fn not_bootstrapped() -> Error {
    Error::new(Code::Unavailable, "the cluster is not bootstrapped yet")
}

/// The name of the manager that used a token, or `yes` for a user.
fn whom(state: &State, used: &str) -> String {
    let manager = state.managers.values().find(|it| it.storage == used);
    manager.map_or_else(|| "yes".to_owned(), |it| it.name.clone())
}

/// The token with this id or prefix of an id.
fn find<'a>(state: &'a State, asked: &str) -> Result<(&'a TokenId, &'a Token), Error> {
    let mut fitting =
        state.tokens.iter().filter(|(id, _)| asked.len() >= 4 && id.as_str().starts_with(asked));
    match (fitting.next(), fitting.next()) {
        (Some(found), None) => Ok(found),
        (found, _) => {
            let what = if found.is_some() { "several tokens match" } else { "no such token" };
            Err(Error::new(Code::NotFound, format!("{what}: `{asked}`"))
                .remedy("`infrakit token ls` lists the tokens; give at least four characters"))
        }
    }
}

fn new_token(state: &State, request: pb::CreateTokenRequest) -> Result<NewToken, Error> {
    let invalid = |what: String| Error::new(Code::Invalid, what).remedy("nothing was changed");
    let digits = request.id.len() == 64 && request.id.chars().all(|c| c.is_ascii_hexdigit());
    if !digits {
        return Err(invalid("the id of a token is the SHA-256 of its secret".into()));
    }
    let id = TokenId::new(request.id);
    if !request.replaces.is_empty() {
        let (old, token) = find(state, &request.replaces)?;
        return Ok(NewToken {
            id,
            role: token.role,
            lasts: token.expires.map(|end| end.since(token.created)),
            once: token.once,
            instance: token.instance.clone(),
            replaces: Some(old.clone()),
        });
    }
    let role: Role = request.role.parse().map_err(invalid)?;
    if request.lasts_ms == Some(0) {
        return Err(invalid("the validity of a token must be positive".into()));
    }
    if request.instance.is_some() && role != Role::Manager {
        return Err(invalid("only a token for managers can be restricted to an instance".into()));
    }
    let instance = request.instance.map(Into::into);
    Ok(NewToken {
        id,
        role,
        lasts: request.lasts_ms.map(Millis),
        once: request.once,
        instance,
        replaces: None,
    })
}
