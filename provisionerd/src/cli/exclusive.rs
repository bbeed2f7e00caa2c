//! Two flags of which only one can count. The one from the stronger layer does: flags win
//! over the environment, the environment over the file. Both from one layer is wrong usage.
//!
//! clap's own `conflicts_with` does not serve: it takes a variable of the environment for
//! something that was typed, and never sees what comes from the file.

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Error};

/// Which of two flags counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counts {
    Neither,
    First,
    Second,
}

/// Where the value of `id` comes from, unless it has none.
pub fn source(matches: &ArgMatches, id: &str) -> Option<ValueSource> {
    matches.value_source(id)
}

/// The same for a flag without a value, which is always there and mostly off.
pub fn source_of_switch(matches: &ArgMatches, id: &str) -> Option<ValueSource> {
    let source = matches.value_source(id);
    source.filter(|_| matches.get_flag(id))
}

/// Which of the flags named counts, by where their values come from.
///
/// # Errors
/// Both come from the same layer.
pub fn stronger(
    (first, from_first): (&str, Option<ValueSource>),
    (second, from_second): (&str, Option<ValueSource>),
) -> Result<Counts, Error> {
    match (from_first, from_second) {
        (None, None) => Ok(Counts::Neither),
        (Some(_), None) => Ok(Counts::First),
        (None, Some(_)) => Ok(Counts::Second),
        (Some(one), Some(other)) if one > other => Ok(Counts::First),
        (Some(one), Some(other)) if one < other => Ok(Counts::Second),
        (Some(layer), Some(_)) => {
            let message = format!(
                "{first} and {second} exclude each other, and both come from {}\n",
                place(layer)
            );
            Err(Error::raw(ErrorKind::ArgumentConflict, message))
        }
    }
}

fn place(layer: ValueSource) -> &'static str {
    match layer {
        ValueSource::EnvVariable => "the environment",
        ValueSource::DefaultValue => "the configuration file",
        // The command line; the type may grow, it is not ours.
        _ => "the command line",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stronger_layer_counts_whichever_flag_it_holds() {
        let (file, variable, typed) = (
            ValueSource::DefaultValue,
            ValueSource::EnvVariable,
            ValueSource::CommandLine,
        );
        for (weak, strong) in [(file, variable), (file, typed), (variable, typed)] {
            let first = stronger(("a", Some(strong)), ("b", Some(weak)));
            assert_eq!(first.expect("one"), Counts::First);
            let second = stronger(("a", Some(weak)), ("b", Some(strong)));
            assert_eq!(second.expect("one"), Counts::Second);
        }
        let alone = stronger(("a", Some(file)), ("b", None));
        assert_eq!(alone.expect("one"), Counts::First);
        let none = stronger(("a", None), ("b", None));
        assert_eq!(none.expect("none"), Counts::Neither);
    }

    #[test]
    fn both_from_one_layer_is_wrong_usage_that_names_the_layer() {
        for (layer, name) in [
            (ValueSource::DefaultValue, "the configuration file"),
            (ValueSource::EnvVariable, "the environment"),
            (ValueSource::CommandLine, "the command line"),
        ] {
            let refused = stronger(("--a", Some(layer)), ("--b", Some(layer)));
            let refused = refused.expect_err("both");
            assert_eq!(refused.kind(), ErrorKind::ArgumentConflict);
            assert!(refused.to_string().contains(name), "{refused}");
        }
    }
}
