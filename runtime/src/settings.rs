//! Settings: the command line, and the only reader of the process environment outside clap.

use std::ffi::{OsStr, OsString};

use clap::{
    Command, Error, Parser,
    builder::Resettable,
    error::{ContextKind, ContextValue, ErrorKind},
};

/// Reads the command line; shows what is wrong with it and ends the process where it cannot.
///
/// A value that cannot be used is not shown: it may be a secret pasted in place of a reference,
/// or hold a password. An environment variable that is empty counts as one that is not set: there
/// are places where a variable cannot be left out.
pub fn parse<C: Parser>() -> C {
    let mut command = without_empty(C::command(), &|name| std::env::var_os(name));
    let parsed = command
        .try_get_matches_from_mut(std::env::args_os())
        .and_then(|mut matches| C::from_arg_matches_mut(&mut matches))
        .map_err(|error| error.format(&mut command));
    parsed.unwrap_or_else(|error| without_value(error).exit())
}

/// The command without the variables that are empty.
fn without_empty(command: Command, variable: &dyn Fn(&OsStr) -> Option<OsString>) -> Command {
    command
        .mut_args(|arg| match arg.get_env().and_then(variable) {
            Some(value) if value.is_empty() => arg.env(Resettable::Reset),
            _ => arg,
        })
        .mut_subcommands(|command| without_empty(command, variable))
}

/// The error of an unusable value without the value.
pub fn without_value(mut error: Error) -> Error {
    if error.kind() == ErrorKind::ValueValidation {
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
        variables(&without_empty(Line::command(), &variable))
    }

    #[test]
    fn an_empty_variable_is_not_looked_at() {
        let all = ["NETWORKS", "LIMIT", "NEEDED", "TIMES"];
        assert_eq!(looked_at(&[]), all);
        assert_eq!(looked_at(&all.map(|name| (name, "1"))), all);
        assert_eq!(looked_at(&[("LIMIT", "")]), ["NETWORKS", "NEEDED", "TIMES"]);
        assert!(looked_at(&all.map(|name| (name, ""))).is_empty());
    }
}
