//! `infrakit var`: variables and cluster settings.

use api::proto as pb;
use clap::Subcommand;
use serde_json::json;

use super::{client, request_id};
use crate::global::Global;
use crate::output;
use crate::report::Failure;

#[derive(Subcommand)]
pub(crate) enum VarVerb {
    /// Print a variable
    Get { key: String },
    /// Store a variable
    ///
    /// Names that begin with `infrakit/` are cluster settings:
    ///
    /// infrakit/max-instances (a number or `none`): limit on the instances of all groups together.
    ///
    /// infrakit/dead-manager-after (300s, or `never`): autopilot removes a voter that has been unreachable
    /// for this long.
    ///
    /// infrakit/start-managers-after (30s, or `never`): without a leader for this long, the machines of
    /// managers are restarted.
    ///
    /// infrakit/certificate-life (2592000s): validity of the managers' certificates.
    ///
    /// infrakit/plugin/NAME/class (C, D or `none`): class of a plugin that does not report one.
    Set { key: String, value: String },
}

pub(crate) async fn run(verb: VarVerb, global: &Global) -> Result<u8, Failure> {
    let client = client(global)?;
    match verb {
        VarVerb::Get { key } => {
            let request = pb::GetVariableRequest { key: key.clone() };
            let found = client.call(async |c| c.variables().get(request.clone()).await).await?;
            let value = json!({"key": key, "value": found.value, "index": found.index});
            if !output::object(global.output, "Variable", value)? {
                output::block(&found.value)?;
            }
        }
        VarVerb::Set { key, value } => {
            let done = format!("{key}: set to `{value}`");
            let request = pb::SetVariableRequest { request_id: request_id(), key, value };
            client.call(async |c| c.variables().set(request.clone()).await).await?;
            output::done(global.output, &done)?;
        }
    }
    Ok(0)
}
