//! Settings: the command line, and the only reader of the process environment outside clap.

use clap::{
    Command, Error, Parser,
    error::{ContextKind, ContextValue},
};

/// Reads the command line; shows what is wrong with it and ends the process where it cannot.
///
/// Values are never shown, neither by errors nor by the help: they may be secrets pasted in place
/// of references, or hold passwords.
pub fn parse<C: Parser>() -> C {
    parsed(without_env_values(C::command())).unwrap_or_else(|error| without_value(error).exit())
}

fn parsed<C: Parser>(mut command: Command) -> Result<C, Error> {
    let mut matches = command.try_get_matches_from_mut(std::env::args_os())?;
    C::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
}

/// A command line whose help names environment variables, and not what is in them.
fn without_env_values(command: Command) -> Command {
    command.mut_args(|arg| arg.hide_env_values(true)).mut_subcommands(without_env_values)
}

/// The error of an unusable value without the value.
pub fn without_value(mut error: Error) -> Error {
    // An empty one says that there is none.
    let is_value =
        |shown: &ContextValue| !matches!(shown, ContextValue::String(it) if it.is_empty());
    if error.get(ContextKind::InvalidValue).is_some_and(is_value) {
        let hidden = ContextValue::String("(not shown)".to_owned());
        error.insert(ContextKind::InvalidValue, hidden);
    }
    error
}

/// The value of an environment variable; `None` when it is unset or is not UTF-8.
#[allow(clippy::disallowed_methods)]
pub fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::{CommandFactory, Subcommand};

    use super::*;

    /// Every process of this machine has it.
    const VARIABLE: &str = "PATH";

    #[derive(Debug, Parser)]
    struct Line {
        #[arg(long, env = VARIABLE)]
        store: Option<String>,
        #[arg(long)]
        number: Option<u8>,
        #[arg(long)]
        flag: bool,
        #[command(subcommand)]
        command: Option<Sub>,
    }

    #[derive(Debug, Subcommand)]
    enum Sub {
        Inner {
            #[arg(long, env = VARIABLE)]
            keys: Option<String>,
        },
    }

    #[test]
    fn the_help_names_variables_and_not_what_is_in_them() {
        let value = env(VARIABLE).unwrap();
        for arguments in [&["line", "--help"][..], &["line", "inner", "--help"]] {
            let help = |command: Command| {
                command.try_get_matches_from(arguments).unwrap_err().render().to_string()
            };
            assert!(help(Line::command()).contains(&value), "{arguments:?} proves nothing");
            let hidden = help(without_env_values(Line::command()));
            assert!(hidden.contains(VARIABLE) && !hidden.contains(&value), "{hidden}");
        }
    }

    #[test]
    fn errors_name_the_option_and_not_the_value() {
        for wrong in ["--number=canary", "--flag=canary"] {
            let error = Line::try_parse_from(["line", wrong]).unwrap_err();
            let shown = without_value(error).to_string();
            let (option, _) = wrong.split_once('=').unwrap();
            assert!(shown.contains(option) && !shown.contains("canary"), "{shown}");
        }
        let none = without_value(Line::try_parse_from(["line", "--number"]).unwrap_err());
        assert!(none.to_string().contains("value is required"), "{none}");
    }
}
