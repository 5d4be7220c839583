//! The tips of wrong usage: a tip must never lead to a command that does more than the one that was meant.

use std::ffi::OsString;

use clap::builder::{OsStr, Resettable};
use clap::error::{ContextKind, ContextValue};
use clap::{Command, Error};

/// Commands that take something away: whoever means them types them.
const NEVER: [&str; 12] = [
    "destroy",
    "destroy-strays",
    "free",
    "rm",
    "revoke",
    "rotate",
    "demote",
    "recover",
    "restore",
    "remove-peer",
    "remove",
    "delete",
];
/// A tip is for a slip of the finger.
const FARTHEST: usize = 2;

/// The error without what the environment gave: the usage line would name the options of its variables.
pub(crate) fn without_environment(error: Error, command: Command, arguments: &[OsString]) -> Error {
    fn bare(command: Command) -> Command {
        command.mut_args(|arg| arg.env(Resettable::<OsStr>::Reset)).mut_subcommands(bare)
    }
    match bare(command).try_get_matches_from(arguments) {
        Err(plain) if plain.kind() == error.kind() => plain,
        _ => error,
    }
}

/// Removes the tips that could do harm, and adds the one that is missing.
pub(crate) fn mend(error: &mut Error) {
    if let (Some(ContextValue::String(typed)), Some(ContextValue::String(meant))) =
        (error.get(ContextKind::InvalidArg), error.get(ContextKind::SuggestedArg))
    {
        let name = |text: &str| text.split(['=', ' ']).next().unwrap_or_default().to_owned();
        if strsim::damerau_levenshtein(&name(typed), &name(meant)) > FARTHEST {
            error.remove(ContextKind::SuggestedArg);
        }
    }
    let typed = match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(typed)) => typed.clone(),
        _ => return,
    };
    // Whoever means one of those is not led to any other.
    let is_like = |name: &str| strsim::damerau_levenshtein(name, &typed) <= FARTHEST;
    let means_harm = NEVER.iter().any(|name| is_like(name));
    let is_near = |name: &String| is_like(name) && !means_harm;
    let tips = match error.remove(ContextKind::SuggestedSubcommand) {
        Some(ContextValue::Strings(names)) => names,
        Some(ContextValue::String(name)) => vec![name],
        _ => Vec::new(),
    };
    let tips: Vec<String> = tips.into_iter().filter(is_near).collect();
    if !tips.is_empty() {
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(tips));
    }
    let usage = error.get(ContextKind::Usage).map(ToString::to_string).unwrap_or_default();
    if usage.contains("infrakit group") && ["rm", "remove", "delete"].contains(&typed.as_str()) {
        let tip =
            "`infrakit group free` leaves the instances as they are, `infrakit group destroy` destroys them";
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command;

    fn told(words: &[&str]) -> String {
        let words = std::iter::once(&"infrakit").chain(words);
        let mut error = command().try_get_matches_from(words).expect_err("wrong usage");
        mend(&mut error);
        error.to_string()
    }

    #[test]
    fn the_usage_line_has_nothing_of_the_environment() {
        let arguments = ["infrakit", "group", "scale"].map(OsString::from);
        // What a variable gives, as if it were set.
        let given = command().mut_arg("host", |arg| arg.env("PATH"));
        let error = given.clone().try_get_matches_from(&arguments).expect_err("wrong usage");
        assert!(error.to_string().contains("--host"), "clap has changed: {error}");
        let told = without_environment(error, given, &arguments).to_string();
        assert!(told.contains("Usage: infrakit group scale <NAME> <SIZE>"), "{told}");
    }

    #[test]
    fn no_tip_leads_to_what_takes_away() {
        for (words, tip) in [
            (&["group", "comit", "web.yaml"][..], Some("'commit'")),
            (&["grop", "ls"], Some("'group'")),
            (&["group", "remove", "web"], Some("`infrakit group free` leaves the instances")),
            (&["group", "rm", "web"], Some("`infrakit group destroy` destroys them")),
            (&["group", "destory", "web"], None),
            (&["group", "fre", "web"], None),
            (&["node", "remov", "m2"], None),
            (&["token", "revok", "x"], None),
            (&["destory", "web"], None),
        ] {
            let told = told(words);
            match tip {
                Some(tip) => assert!(told.contains(tip), "{words:?}: {told}"),
                None => assert!(!told.contains("tip:"), "{words:?}: {told}"),
            }
        }
    }
}
