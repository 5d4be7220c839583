//! Shell completions and manual pages, from the same source as the help.

use std::path::Path;

use clap::Command;
use clap_complete::Shell;

use crate::output;
use crate::report::Failure;

/// Prints the completions for a shell.
pub(crate) fn completion(mut command: Command, shell: Shell) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "infrakit", &mut script);
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
