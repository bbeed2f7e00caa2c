//! The command lines of engines: the whole table. Nothing a user wrote stands in argv;
//! file names come from the worker and are checked in `order` before they get here.

/// What an engine is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// Which engine is this?
    Version,
    /// Modules, providers, backend.
    Init {
        /// How it talks.
        output: InitOutput,
    },
    /// Compares world and template, writes the plan file.
    Plan {
        /// Where the plan goes.
        plan_file: String,
        /// Values of variables.
        var_file: Option<String>,
        /// What it aims at.
        goal: Goal,
    },
    /// Prints a plan file, or the state.
    Show {
        /// `None`: the state.
        plan_file: Option<String>,
    },
    /// Changes the world as the plan file says.
    Apply {
        /// What was planned.
        plan_file: String,
    },
}

/// What a plan aims at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    /// What the template describes.
    Template,
    /// Nothing is left.
    Destroy,
}

/// How `init` talks: engines before Terraform 1.9 know no `-json` there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InitOutput {
    /// Events.
    Json,
    /// Text.
    Plain,
}

impl Command {
    /// Whether it can change anything outside the job directory.
    pub(super) fn changes_the_world(&self) -> bool {
        match self {
            Self::Apply { .. } => true,
            Self::Version | Self::Init { .. } | Self::Plan { .. } | Self::Show { .. } => false,
        }
    }

    /// The arguments after the program's name.
    pub(super) fn arguments(&self) -> Vec<String> {
        let mut words = Vec::new();
        let mut add = |word: &str| words.push(word.to_owned());
        match self {
            Self::Version => {
                add("version");
                add("-json");
            }
            Self::Init { output } => {
                add("init");
                add("-no-color");
                add("-input=false");
                if *output == InitOutput::Json {
                    add("-json");
                }
            }
            Self::Plan {
                plan_file,
                var_file,
                goal,
            } => {
                add("plan");
                add("-no-color");
                add("-input=false");
                add("-json");
                add(&format!("-out={plan_file}"));
                if *goal == Goal::Destroy {
                    add("-destroy");
                }
                if let Some(var_file) = var_file {
                    add(&format!("-var-file={var_file}"));
                }
            }
            Self::Show { plan_file } => {
                add("show");
                add("-json");
                add("-no-color");
                if let Some(plan_file) = plan_file {
                    add(plan_file);
                }
            }
            Self::Apply { plan_file } => {
                add("apply");
                add("-no-color");
                add("-input=false");
                add("-auto-approve");
                add("-json");
                add(plan_file);
            }
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(command: &Command) -> String {
        command.arguments().join(" ")
    }

    #[test]
    fn the_table_is_this() {
        let plan = |goal, var_file: Option<&str>| Command::Plan {
            plan_file: "p".to_owned(),
            var_file: var_file.map(str::to_owned),
            goal,
        };
        let show = |plan_file: Option<&str>| Command::Show {
            plan_file: plan_file.map(str::to_owned),
        };
        let init = |output| Command::Init { output };
        let apply = Command::Apply {
            plan_file: "p".to_owned(),
        };
        for (command, expected) in [
            (Command::Version, "version -json"),
            (init(InitOutput::Json), "init -no-color -input=false -json"),
            (init(InitOutput::Plain), "init -no-color -input=false"),
            (
                plan(Goal::Template, None),
                "plan -no-color -input=false -json -out=p",
            ),
            (
                plan(Goal::Destroy, Some("v")),
                "plan -no-color -input=false -json -out=p -destroy -var-file=v",
            ),
            (show(None), "show -json -no-color"),
            (show(Some("p")), "show -json -no-color p"),
            (apply, "apply -no-color -input=false -auto-approve -json p"),
        ] {
            assert_eq!(line(&command), expected);
            assert_eq!(
                command.changes_the_world(),
                expected.starts_with("apply"),
                "{expected}"
            );
        }
    }
}
