//! `infrakit ca`: the certificate authority of the cluster.

use api::{Fingerprint, proto as pb};
use clap::Subcommand;
use serde_json::json;

use super::{client, request_id};
use crate::global::Global;
use crate::output;
use crate::report::Failure;

#[derive(Subcommand)]
pub(crate) enum CaVerb {
    /// Show the active authority and the progress of a rotation
    Show,
    /// Rotate the authority: the new one is trusted, then signs, then the old one is no longer trusted
    ///
    /// Managers renew their certificates automatically, and requests keep working. Existing tokens and logins
    /// are invalid once the old authority is no longer trusted.
    Rotate,
}

pub(crate) async fn run(verb: CaVerb, global: &Global) -> Result<u8, Failure> {
    let client = client(global)?;
    if let CaVerb::Rotate = verb {
        let request = pb::RotateAuthorityRequest { request_id: request_id() };
        client.call(async |c| c.access().rotate_authority(request.clone()).await).await?;
    }
    let known = client.call(async |c| c.access().get_authority(pb::GetAuthorityRequest {}).await).await?;
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
