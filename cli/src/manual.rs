//! Shell completions and manual pages, from the same source as the help.

use std::path::Path;

use clap::Command;
use clap_complete::env::Shells;
use clap_complete::{CompleteEnv, Shell};

use crate::output;
use crate::report::Failure;

/// The variable by which a shell asks for completions.
const ASKED_BY: &str = "INFRAKIT_COMPLETE";

/// Answers a shell that asks what could be typed next; does nothing for anybody else.
pub(crate) fn complete(command: fn() -> Command) {
    CompleteEnv::with_factory(command).var(ASKED_BY).complete();
}

/// Prints the completions for a shell: all of them, or a script that asks this program at each key.
pub(crate) fn completion(mut command: Command, shell: Shell, is_dynamic: bool) -> Result<u8, Failure> {
    let mut script = Vec::new();
    if is_dynamic {
        let failed = |why: &str| Failure::new(format!("{shell} cannot ask for completions")).cause(why);
        let shells = Shells::builtins();
        let asking = shells.completer(&shell.to_string()).ok_or_else(|| failed("it is not known"))?;
        asking
            .write_registration(ASKED_BY, "infrakit", "infrakit", "infrakit", &mut script)
            .map_err(|error| failed(&error.to_string()))?;
    } else {
        clap_complete::generate(shell, &mut command, "infrakit", &mut script);
    }
    output::raw(&script)?;
    Ok(0)
}

/// Writes the pages: `infrakit.1`, and one such as `infrakit-group-commit.1` for each command.
pub(crate) fn pages(command: Command, directory: &Path) -> Result<u8, Failure> {
    let written =
        std::fs::create_dir_all(directory).and_then(|()| clap_mangen::generate_to(command, directory));
    written.map_err(|error| {
        Failure::new(format!("{} cannot be written", directory.display())).cause(error.to_string())
    })?;
    output::line(&format!("the manual pages are in {}: read them with man -l", directory.display()))?;
    Ok(0)
}
