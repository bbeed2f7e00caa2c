//! The closed sets of words the queue works with, without the wire's `unspecified`.
//!
//! Each has the text that stands in SQL and JSON and the number that travels.

use proto::v1;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident = $wire:ident {
        $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)?
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// Every word, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word as it stands in SQL and JSON.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// The word for its stored text.
            #[must_use]
            pub fn from_text(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)+ _ => None }
            }

            /// The word for a number from the wire; unspecified and unknown are `None`.
            #[must_use]
            pub fn from_wire(number: i32) -> Option<Self> {
                match v1::$wire::try_from(number).ok()? {
                    v1::$wire::Unspecified => None,
                    $(v1::$wire::$variant => Some(Self::$variant)),+
                }
            }

            /// As it travels.
            #[must_use]
            pub fn wire(self) -> v1::$wire {
                match self { $(Self::$variant => v1::$wire::$variant),+ }
            }
        }

        impl From<$name> for i32 {
            fn from(word: $name) -> Self { word.wire().into() }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// What a job is.
    Kind = JobKind {
        /// Reads a new template version.
        TemplateImport = "template_import",
        /// Plans a template without making anything.
        TemplateDryRun = "template_dry_run",
        /// Changes a workspace.
        WorkspaceBuild = "workspace_build",
    }
}

words! {
    /// What a build does.
    Transition = Transition {
        /// Makes or updates the workspace.
        Start = "start",
        /// Takes down what does not outlive a stop.
        Stop = "stop",
        /// Takes down everything.
        Delete = "delete",
    }
}

words! {
    /// Where a job stands, as clients see it.
    Status = JobStatus {
        /// Waits for a daemon; an unconfirmed offer is still pending.
        Pending = "pending",
        /// A daemon has confirmed it.
        Running = "running",
        /// A cancel was asked for and has not ended yet.
        Canceling = "canceling",
        /// Ended well.
        Succeeded = "succeeded",
        /// Ended by our cancel.
        Canceled = "canceled",
        /// Ended badly.
        Failed = "failed",
    }
}

words! {
    /// How far an attempt has come; moves forward only.
    Phase = Phase {
        /// Fetching and unpacking.
        Setup = "setup",
        /// The engine fetches modules and providers.
        Init = "init",
        /// The engine plans.
        Plan = "plan",
        /// The engine changes the world.
        Apply = "apply",
        /// State is stored, the work directory removed.
        Cleanup = "cleanup",
    }
}

words! {
    /// Who waits for a job.
    Priority = Priority {
        /// A person.
        Interactive = "interactive",
        /// A schedule.
        Automatic = "automatic",
    }
}

words! {
    /// How a cancel is meant.
    Cancel = CancelKind {
        /// Nobody asked.
        None = "none",
        /// One SIGINT and the long grace.
        Cancel = "cancel",
        /// The short grace.
        Force = "force",
    }
}

words! {
    /// How a daemon says that a job ended.
    Outcome = Outcome {
        /// Well.
        Succeeded = "succeeded",
        /// Badly.
        Failed = "failed",
        /// Badly, after our own cancel token.
        Canceled = "canceled",
        /// Not at all: given back before the gate.
        Released = "released",
    }
}

words! {
    /// Why a daemon gave a job back.
    ReleaseReason = ReleaseReason {
        /// It drains; not counted as an attempt.
        Drain = "drain",
        /// It could not begin; not counted as an attempt.
        NeverStarted = "never_started",
        /// Its worker or supervisor died.
        WorkerLost = "worker_lost",
        /// It was restarted.
        DaemonRestarted = "daemon_restarted",
    }
}

words! {
    /// What a concurrency limit limits.
    LimitOf = LimitOf {
        /// Jobs of one owner.
        Owner = "owner",
        /// Jobs of one template.
        Template = "template",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_survives_text_and_wire() {
        for &status in Status::ALL {
            assert_eq!(Status::from_text(status.as_str()), Some(status));
            assert_eq!(Status::from_wire(status.into()), Some(status));
        }
        assert_eq!(Kind::from_wire(0), None);
        assert_eq!(Kind::from_wire(99), None);
    }
}
