//! `infrakit token`: tokens for managers and users.

use std::path::PathBuf;

use api::{Fingerprint, JoinToken, proto as pb};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{client, duration, request_id};
use crate::global::Global;
use crate::output::{self, rfc3339};
use crate::report::Failure;

#[derive(Subcommand)]
pub(crate) enum TokenVerb {
    /// Create a token and print it; it cannot be shown again
    Create {
        /// viewer: read only; operator: declare groups; admin: everything; manager: join as a manager
        #[arg(long)]
        role: model::Role,
        /// Validity of the token, such as 24h; `never` for no expiry
        #[arg(long, default_value = "24h", value_name = "TIME|never")]
        expires: String,
        /// Valid for a single use
        #[arg(long)]
        once: bool,
        /// Only for the manager that is started with this --instance
        #[arg(long, value_name = "ID")]
        instance: Option<String>,
    },
    /// List the tokens
    #[command(alias = "list")]
    Ls,
    /// Replace a token: revoke it, with the sessions issued with it, and print a new one
    Rotate {
        /// Its id, or a prefix of it
        id: String,
    },
    /// Revoke a token and the sessions issued with it
    Revoke {
        /// Its id, or a prefix of it
        id: String,
    },
}

#[derive(Args)]
pub(crate) struct TokenArg {
    /// The token to authenticate with; not needed by the same user on the same machine
    #[arg(long, env = "INFRAKIT_TOKEN", hide_env_values = true, conflicts_with = "token_file")]
    token: Option<String>,
    /// Read the token from a file, which keeps it out of process listings; `-` reads the standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl TokenArg {
    pub(crate) fn given(self) -> Option<api::TokenFrom> {
        let text = |text: String| api::TokenFrom::Text(model::access::Secret::new(text.into_bytes()));
        self.token_file.map(api::TokenFrom::File).or(self.token.map(text))
    }
}

pub(crate) async fn run(verb: TokenVerb, global: &Global) -> Result<u8, Failure> {
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
            let done = format!("token {id} is revoked, with the sessions issued with it");
            let request = pb::RevokeTokenRequest { request_id: request_id(), id };
            client(global)?.call(async |c| c.access().revoke_token(request.clone()).await).await?;
            output::done(global.output, &done)?;
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
    let reply = client.call(async |c| c.access().create_token(request.clone()).await).await?;
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
    let list = client(global)?.call(async |c| c.access().list_tokens(pb::ListTokensRequest {}).await).await?;
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
    output::table(
        global.output,
        &["ID", "ROLE", "USES", "EXPIRES", "BY", "INSTANCE"],
        list.tokens.iter().map(row),
    )?;
    Ok(0)
}
