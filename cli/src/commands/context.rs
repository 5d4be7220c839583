//! `infrakit context`: saved logins.

use clap::Subcommand;
use serde_json::{Value, json};

use crate::contexts::{self, Context};
use crate::global::Global;
use crate::output;
use crate::report::{Failure, NOT_FOUND};

#[derive(Subcommand)]
pub(crate) enum ContextVerb {
    /// List the saved contexts
    #[command(alias = "list")]
    Ls,
    /// Remove a saved context and its certificate
    #[command(aliases = ["delete", "remove"])]
    Rm {
        /// Its name
        name: String,
    },
}

pub(crate) fn run(verb: ContextVerb, global: &Global) -> Result<u8, Failure> {
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
                output::table(
                    global.output,
                    &["NAME", "USER", "ROLE", "MANAGERS"],
                    known.into_iter().map(row),
                )?;
            }
        }
        ContextVerb::Rm { name } => {
            if !contexts::remove(&name)? {
                return Err(Failure::new(format!("context `{name}` not found"))
                    .exit(NOT_FOUND)
                    .remedy("`infrakit context ls` lists them"));
            }
            output::done(global.output, &format!("context `{name}` and its certificate are removed"))?;
        }
    }
    Ok(0)
}
