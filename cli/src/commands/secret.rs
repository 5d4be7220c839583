//! `infrakit secret`: the values of `secret://NAME` in specs.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use api::proto as pb;
use clap::Subcommand;
use serde_json::{Value, json};

use super::{client, confirm, read_file, request_id};
use crate::global::Global;
use crate::output::{self, rfc3339};
use crate::report::{self, Failure};

#[derive(Subcommand)]
pub(crate) enum SecretVerb {
    /// Store or replace a secret; existing members keep the old value until they are replaced
    Set {
        /// Letters, digits, `-`, `_` and `.`
        name: String,
        /// The file with the value; `-` reads the standard input, and asks on a terminal. One line ending at its end is
        /// removed
        #[arg(long, value_name = "FILE", default_value = "-")]
        file: PathBuf,
    },
    /// List the names of the secrets
    #[command(alias = "list")]
    Ls,
    /// Remove a secret that no group references
    #[command(aliases = ["delete", "remove"])]
    Rm {
        /// Its name
        name: String,
        /// Do not ask for confirmation
        #[arg(short, long)]
        yes: bool,
    },
}

pub(crate) async fn run(verb: SecretVerb, global: &Global) -> Result<u8, Failure> {
    match verb {
        SecretVerb::Set { name, file } => {
            let value = read_value(&file, &name).await?;
            let done = format!("secret `{name}` is set; members get it when they are replaced");
            let request = pb::SetSecretRequest { request_id: request_id(), name, value };
            client(global)?.call(async |c| c.secrets().set(request.clone()).await).await?;
            output::done(global.output, &done)?;
        }
        SecretVerb::Ls => {
            let list =
                client(global)?.call(async |c| c.secrets().list(pb::ListSecretsRequest {}).await).await?;
            let json = |it: &pb::Secret| json!({"name": it.name, "set": rfc3339(it.set_ms), "by": it.by});
            let items: Vec<Value> = list.secrets.iter().map(json).collect();
            if !output::object(global.output, "SecretList", json!({ "items": items }))? {
                let row = |it: &pb::Secret| vec![it.name.clone(), output::ago(it.set_ms), it.by.clone()];
                output::table(global.output, &["NAME", "SET", "BY"], list.secrets.iter().map(row))?;
            }
        }
        SecretVerb::Rm { name, yes } => {
            confirm(yes, &format!("This removes the secret `{name}` permanently"), &name).await?;
            let done = format!("secret `{name}` is removed");
            let request = pb::RemoveSecretRequest { request_id: request_id(), name };
            client(global)?.call(async |c| c.secrets().remove(request.clone()).await).await?;
            output::done(global.output, &done)?;
        }
    }
    Ok(0)
}

/// The value of a secret: from a file, from a pipe, or typed without being shown.
async fn read_value(file: &Path, name: &str) -> Result<Vec<u8>, Failure> {
    if file.as_os_str() == "-" && std::io::stdin().is_terminal() {
        return typed(format!("Value of secret `{name}`: ")).await;
    }
    let (_, value) = read_file(file)?;
    Ok(without_line_ending(value))
}

async fn typed(prompt: String) -> Result<Vec<u8>, Failure> {
    let cannot = |why: String| Failure::new("the terminal cannot be read").cause(why);
    let before = rustix::termios::tcgetattr(std::io::stdin()).map_err(|error| cannot(error.to_string()))?;
    let interrupted = tokio::signal::ctrl_c();
    let reading = tokio::task::spawn_blocking(|| rpassword::prompt_password(prompt));
    let value = tokio::select! {
        biased;
        _ = interrupted => Err(Failure::new("interrupted; nothing was changed").exit(report::INTERRUPTED)),
        value = reading => match value {
            Ok(Ok(value)) => Ok(value.into_bytes()),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::Interrupted => {
                Err(Failure::new("interrupted; nothing was changed").exit(report::INTERRUPTED))
            }
            Ok(Err(error)) => Err(cannot(error.to_string())),
            Err(error) => Err(cannot(error.to_string())),
        },
    };
    // Whoever is interrupted still sees what is typed next.
    let _ = rustix::termios::tcsetattr(std::io::stdin(), rustix::termios::OptionalActions::Now, &before);
    value
}

/// Shells and editors end a text with one, which is no part of it.
fn without_line_ending(mut value: Vec<u8>) -> Vec<u8> {
    if value.pop_if(|last| *last == b'\n').is_some() {
        value.pop_if(|last| *last == b'\r');
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_loses_one_line_ending() {
        for (file, value) in [
            ("s", "s"),
            ("s\n", "s"),
            ("s\r\n", "s"),
            ("s\n\n", "s\n"),
            ("s\r\n\r\n", "s\r\n"),
            ("s\r", "s\r"),
            ("\n", ""),
            ("", ""),
        ] {
            assert_eq!(without_line_ending(file.as_bytes().to_vec()), value.as_bytes(), "{file:?}");
        }
    }
}
