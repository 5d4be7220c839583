//! `infrakit secret`: the values of `secret://NAME` in specs.

use std::path::PathBuf;

use api::proto as pb;
use clap::Subcommand;
use serde_json::{Value, json};

use super::{client, confirm, read_file, request_id};
use crate::global::Global;
use crate::output::{self, rfc3339};
use crate::report::Failure;

#[derive(Subcommand)]
pub(crate) enum SecretVerb {
    /// Store or replace a secret; existing members keep the old value until they are replaced
    Set {
        /// Letters, digits, `-`, `_` and `.`
        name: String,
        /// The file with the value; `-` reads the standard input. A trailing newline is removed
        #[arg(long, value_name = "FILE", default_value = "-")]
        file: PathBuf,
    },
    /// List the names of the secrets
    Ls,
    /// Remove a secret that no group references
    Rm {
        name: String,
        /// Do not ask for confirmation
        #[arg(short, long)]
        yes: bool,
    },
}

pub(crate) async fn run(verb: SecretVerb, global: &Global) -> Result<u8, Failure> {
    match verb {
        SecretVerb::Set { name, file } => {
            let (_, mut value) = read_file(&file)?;
            // Shells and editors end a text with a newline.
            if value.last() == Some(&b'\n') {
                value.pop();
            }
            let request = pb::SetSecretRequest { request_id: request_id(), name, value };
            client(global)?.call(async |c| c.secrets().set(request.clone()).await).await?;
        }
        SecretVerb::Ls => {
            let list =
                client(global)?.call(async |c| c.secrets().list(pb::ListSecretsRequest {}).await).await?;
            let json = |it: &pb::Secret| json!({"name": it.name, "set": rfc3339(it.set_ms), "by": it.by});
            let items: Vec<Value> = list.secrets.iter().map(json).collect();
            if !output::object(global.output, "SecretList", json!({ "items": items }))? {
                let row = |it: &pb::Secret| vec![it.name.clone(), output::ago(it.set_ms), it.by.clone()];
                output::table(&["NAME", "SET", "BY"], list.secrets.iter().map(row))?;
            }
        }
        SecretVerb::Rm { name, yes } => {
            confirm(yes, &format!("This removes the secret `{name}` permanently"), &name)?;
            let request = pb::RemoveSecretRequest { request_id: request_id(), name };
            client(global)?.call(async |c| c.secrets().remove(request.clone()).await).await?;
        }
    }
    Ok(0)
}
