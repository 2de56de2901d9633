//! Settings: the command line, and the only reader of the process environment outside clap.

use std::ffi::{OsStr, OsString};

use clap::{
    Command, Error, Parser,
    builder::Resettable,
    error::{ContextKind, ContextValue},
};

/// Reads the command line; shows what is wrong with it and ends the process where it cannot.
///
/// Values are never shown, neither by errors nor by the help: they may be secrets pasted in place
/// of references, or hold passwords. An environment variable that is empty counts as one that is
/// not set: there are places where a variable cannot be left out.
pub fn parse<C: Parser>() -> C {
    let command = with_variables(C::command(), &|name| std::env::var_os(name));
    parsed(command).unwrap_or_else(|error| without_value(error).exit())
}

fn parsed<C: Parser>(mut command: Command) -> Result<C, Error> {
    let mut matches = command.try_get_matches_from_mut(std::env::args_os())?;
    C::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
}

/// The command without the variables that are empty, and whose help names the others, but not what
/// is in them.
fn with_variables(command: Command, variable: &dyn Fn(&OsStr) -> Option<OsString>) -> Command {
    command
        .mut_args(|arg| match arg.get_env().and_then(variable) {
            Some(value) if value.is_empty() => arg.env(Resettable::Reset),
            _ => arg.hide_env_values(true),
        })
        .mut_subcommands(|command| with_variables(command, variable))
}

/// The error of an unusable value without the value, and without words that are no options: one may
/// be the rest of a value that has a space in it.
pub fn without_value(mut error: Error) -> Error {
    for kind in [ContextKind::InvalidValue, ContextKind::InvalidArg, ContextKind::InvalidSubcommand]
    {
        // An empty value says that there is none; the argument beside a value is its option.
        let shows = |shown: &ContextValue| match shown {
            ContextValue::String(it) => !it.is_empty() && !it.starts_with('-'),
            _ => kind == ContextKind::InvalidValue,
        };
        if error.get(kind).is_some_and(shows) {
            error.insert(kind, ContextValue::String("(not shown)".to_owned()));
        }
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
    use super::*;
    use clap::{Args, CommandFactory, Subcommand};

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        command: Option<Below>,
        #[command(flatten)]
        networks: Networks,
        #[arg(long, env = "LIMIT", default_value_t = 7)]
        limit: u8,
        #[arg(long, env = "NEEDED", required = true)]
        needed: Option<u8>,
    }

    #[derive(Debug, Args)]
    struct Networks {
        #[arg(long = "network", env = "NETWORKS", value_delimiter = ',')]
        networks: Vec<std::net::IpAddr>,
    }

    #[derive(Debug, Subcommand)]
    enum Below {
        Run {
            #[arg(long, env = "TIMES")]
            times: Option<u8>,
        },
    }

    /// The variables of a command, its subcommands' included.
    fn variables(command: &Command) -> Vec<String> {
        let own = command.get_arguments().filter_map(|arg| arg.get_env()?.to_str());
        let below = command.get_subcommands().flat_map(variables);
        own.map(str::to_owned).chain(below).collect()
    }

    /// Which of them it still looks at.
    fn looked_at(set: &[(&str, &str)]) -> Vec<String> {
        let variable = |name: &OsStr| {
            let found = set.iter().find(|(of, _)| *of == name)?;
            Some(OsString::from(found.1))
        };
        variables(&with_variables(Line::command(), &variable))
    }

    #[test]
    fn an_empty_variable_is_not_looked_at() {
        let all = ["NETWORKS", "LIMIT", "NEEDED", "TIMES"];
        assert_eq!(looked_at(&[]), all);
        assert_eq!(looked_at(&all.map(|name| (name, "1"))), all);
        assert_eq!(looked_at(&[("LIMIT", "")]), ["NETWORKS", "NEEDED", "TIMES"]);
        assert!(looked_at(&all.map(|name| (name, ""))).is_empty());
    }

    /// Every process of this machine has it.
    const VARIABLE: &str = "PATH";

    #[derive(Debug, Parser)]
    struct Options {
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
            assert!(help(Options::command()).contains(&value), "{arguments:?} proves nothing");
            let hidden = help(with_variables(Options::command(), &|name| std::env::var_os(name)));
            assert!(hidden.contains(VARIABLE) && !hidden.contains(&value), "{hidden}");
        }
    }

    #[test]
    fn errors_name_the_option_and_not_the_value() {
        for wrong in ["--number=canary", "--flag=canary"] {
            let error = Options::try_parse_from(["line", wrong]).unwrap_err();
            let shown = without_value(error).to_string();
            let (option, _) = wrong.split_once('=').unwrap();
            assert!(shown.contains(option) && !shown.contains("canary"), "{shown}");
        }
        for word in ["canary", "-canary"] {
            let stray = Options::try_parse_from(["line", "--store", "a", word]).unwrap_err();
            assert!(!without_value(stray).to_string().contains("canary"), "{word}");
        }
        let none = without_value(Options::try_parse_from(["line", "--number"]).unwrap_err());
        assert!(none.to_string().contains("value is required"), "{none}");
    }
}
