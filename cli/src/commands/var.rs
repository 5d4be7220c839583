//! `infrakit var`: variables and cluster settings.

use api::proto as pb;
use clap::Subcommand;
use serde_json::{Value, json};

use super::{client, request_id};
use crate::global::Global;
use crate::output;
use crate::report::Failure;

#[derive(Subcommand)]
pub(crate) enum VarVerb {
    /// List the variables, and the cluster settings with their defaults
    #[command(alias = "list")]
    Ls,
    /// Print a variable
    #[command(alias = "show")]
    Get {
        /// Its name
        key: String,
    },
    /// Remove a variable; a cluster setting gets its default again
    #[command(aliases = ["delete", "remove", "unset"])]
    Rm {
        /// Its name
        key: String,
    },
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
    Set {
        /// Its name
        key: String,
        /// Its value
        value: String,
    },
}

pub(crate) async fn run(verb: VarVerb, global: &Global) -> Result<u8, Failure> {
    let client = client(global)?;
    match verb {
        VarVerb::Ls => {
            let list = client.call(async |c| c.variables().list(pb::ListVariablesRequest {}).await).await?;
            let items: Vec<Value> = list.variables.iter().map(as_json).collect();
            if !output::object(global.output, "VariableList", json!({ "items": items }))? {
                let row = |it: &pb::Variable| {
                    let value = it.value.lines().next().unwrap_or_default();
                    let value =
                        if value.len() < it.value.len() { format!("{value} …") } else { value.to_owned() };
                    vec![it.key.clone(), value, if it.default { "default".to_owned() } else { String::new() }]
                };
                output::table(global.output, &["NAME", "VALUE", ""], list.variables.iter().map(row))?;
            }
        }
        VarVerb::Get { key } => {
            let request = pb::GetVariableRequest { key: key.clone() };
            let found = client.call(async |c| c.variables().get(request.clone()).await).await?;
            let value = json!({"key": key, "value": found.value, "index": found.index});
            if !output::object(global.output, "Variable", value)? {
                output::block(&found.value)?;
            }
        }
        VarVerb::Rm { key } => {
            let done = format!("{key}: removed");
            let request = pb::RemoveVariableRequest { request_id: request_id(), key };
            client.call(async |c| c.variables().remove(request.clone()).await).await?;
            output::done(global.output, &done)?;
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

fn as_json(it: &pb::Variable) -> Value {
    json!({ "key": it.key, "value": it.value, "index": it.index, "default": it.default })
}
