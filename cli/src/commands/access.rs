//! `infrakit token`, `login`, `context` and `ca`: access to a cluster.

use api::{CertificateRequest, Client, Code, Fingerprint, JoinToken, proto as pb, tls};
use model::RequestId;
use serde_json::{Value, json};

use super::{addresses, client, duration};
use crate::args::{CaVerb, ContextVerb, Login, TokenVerb};
use crate::contexts::{self, Context};
use crate::global::Global;
use crate::output::{self, rfc3339};
use crate::report::{Failure, NOT_FOUND};

fn request_id() -> Vec<u8> {
    api::request_id_bytes(RequestId(rand::random()))
}

pub(crate) async fn tokens(verb: TokenVerb, global: &Global) -> Result<u8, Failure> {
    match verb {
        TokenVerb::Create { role, expires, once, instance } => {
            let lasts = match expires.as_str() {
                "never" => None,
                text => Some(duration(text)?.as_millis() as u64),
            };
            let request = pb::CreateTokenRequest {
                role: role.to_string(),
                lasts_ms: lasts,
                once,
                instance,
                ..pb::CreateTokenRequest::default()
            };
            create(request, global).await
        }
        TokenVerb::Rotate { id } => {
            create(pb::CreateTokenRequest { replaces: id, ..pb::CreateTokenRequest::default() }, global).await
        }
        TokenVerb::Revoke { id } => {
            let request = pb::RevokeTokenRequest { request_id: request_id(), id };
            client(global)?.call(async |mut c| c.revoke_token(request.clone()).await).await?;
            Ok(0)
        }
        TokenVerb::Ls => list(global).await,
    }
}

/// The secret is created here; only its digest is sent.
async fn create(request: pb::CreateTokenRequest, global: &Global) -> Result<u8, Failure> {
    let client = client(global)?;
    // The authority of the cluster is in the reply.
    let mut token = JoinToken::draw(Fingerprint::of(&Vec::new().into()));
    let request =
        pb::CreateTokenRequest { request_id: request_id(), id: token.id().as_str().to_owned(), ..request };
    let reply = client.call(async |mut c| c.create_token(request.clone()).await).await?;
    token.authority = Fingerprint::of(&reply.authority.into());
    let value = json!({ "id": token.id().short(), "token": token.expose() });
    if !output::object(global.output, "Token", value)? {
        output::line(&token.expose())?;
    }
    Ok(0)
}

fn token_json(token: &pb::Token) -> Value {
    json!({
        "id": token.id,
        "role": token.role,
        "created": rfc3339(token.created_ms),
        "by": token.by,
        "expires": token.expires_ms.map(rfc3339),
        "once": token.once,
        "used": token.used,
        "instance": token.instance,
    })
}

async fn list(global: &Global) -> Result<u8, Failure> {
    let list = client(global)?.call(async |mut c| c.list_tokens(pb::ListTokensRequest {}).await).await?;
    let items: Vec<Value> = list.tokens.iter().map(token_json).collect();
    if output::object(global.output, "TokenList", json!({ "items": items }))? {
        return Ok(0);
    }
    let row = |token: &pb::Token| {
        let uses = match (token.once, token.used.as_str()) {
            (false, _) => "any number",
            (true, "") => "once",
            (true, _) => "used",
        };
        vec![
            token.id.clone(),
            token.role.clone(),
            uses.to_owned(),
            token.expires_ms.map_or_else(|| "never".to_owned(), rfc3339),
            token.by.clone(),
            token.instance.clone(),
        ]
    };
    output::table(&["ID", "ROLE", "USES", "EXPIRES", "BY", "INSTANCE"], list.tokens.iter().map(row))?;
    Ok(0)
}

pub(crate) async fn login(login: Login) -> Result<u8, Failure> {
    let remedy =
        "give --token-file FILE, --token, or INFRAKIT_TOKEN, with what `infrakit token create` printed";
    let none = |why: String| Failure::usage("no token to log in with").cause(why).remedy(remedy);
    let given = login.token.given().map(|from| from.read()).transpose().map_err(none)?;
    let token = given.flatten().ok_or_else(|| none("no token was given".into()))?;
    let user = std::env::var("USER").ok().filter(|user| !user.is_empty());
    let name =
        login.name.or(user).ok_or_else(|| Failure::usage("the user name is not known: give --name"))?;
    let no_key = |error: api::BadCertificate| Failure::new(error.to_string());
    let request = CertificateRequest::new().map_err(no_key)?;
    let managers = addresses(&login.managers)?;
    let tls = tls::newcomer(token.authority).map_err(no_key)?;
    let asked = pb::LoginRequest {
        secret: token.secret.expose().to_vec(),
        name: name.clone(),
        csr: request.der().to_vec(),
    };
    let reply = Client::with_tls(&managers, Some(tls))?
        .one_at_a_time()
        .call(async |mut c| c.login(asked.clone()).await)
        .await;
    let reply = reply.map_err(|error| match error.code {
        // The default remedy, to log in, does not help here.
        Code::Forbidden => Failure::from(error).remedy("ask an admin of the cluster for another token"),
        _ => Failure::from(error),
    })?;
    let credentials = request.granted(reply.certificate, reply.trusted).to_pem();
    let context =
        Context { managers: login.managers, user: name.clone(), role: reply.role.clone(), credentials };
    let file = contexts::save(&login.context, &context)?;
    output::line(&format!(
        "logged in as {name} with the role {}; saved as context `{}` in {}",
        reply.role,
        login.context,
        file.display()
    ))?;
    Ok(0)
}

pub(crate) fn contexts(verb: ContextVerb, global: &Global) -> Result<u8, Failure> {
    match verb {
        ContextVerb::Ls => {
            let mut known = Vec::new();
            for name in contexts::names()? {
                if let Some(context) = contexts::load(&name)? {
                    known.push((name, context));
                }
            }
            let item = |(name, it): &(String, Context)| json!({ "name": name, "managers": it.managers, "user": it.user, "role": it.role });
            let items: Vec<Value> = known.iter().map(item).collect();
            if !output::object(global.output, "ContextList", json!({ "items": items }))? {
                let row = |(name, it): (String, Context)| vec![name, it.user, it.role, it.managers];
                output::table(&["NAME", "USER", "ROLE", "MANAGERS"], known.into_iter().map(row))?;
            }
        }
        ContextVerb::Rm { name } => {
            if !contexts::remove(&name)? {
                return Err(Failure::new(format!("context `{name}` not found"))
                    .exit(NOT_FOUND)
                    .remedy("`infrakit context ls` lists them"));
            }
        }
    }
    Ok(0)
}

pub(crate) async fn authority(verb: CaVerb, global: &Global) -> Result<u8, Failure> {
    let client = client(global)?;
    if let CaVerb::Rotate = verb {
        let request = pb::RotateAuthorityRequest { request_id: request_id() };
        client.call(async |mut c| c.rotate_authority(request.clone()).await).await?;
    }
    let known = client.call(async |mut c| c.get_authority(pb::GetAuthorityRequest {}).await).await?;
    let rotation = match known.rotation.as_str() {
        "Announced" => "a new authority is trusted and will sign as soon as every manager has it",
        "Retiring" => "the previous authority is trusted until every manager has a new certificate",
        _ => "no rotation is in progress",
    };
    let value = json!({
        "fingerprint": known.fingerprint,
        "rotation": known.rotation,
        "trusted": known.trusted.iter().map(|it| Fingerprint::of(&it.clone().into()).to_string()).collect::<Vec<_>>(),
    });
    if !output::object(global.output, "Authority", value)? {
        output::line(&format!("authority {} is active; {rotation}", known.fingerprint))?;
    }
    Ok(0)
}
