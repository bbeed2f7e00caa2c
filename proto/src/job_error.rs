//! Errors as they travel: class, code, message and the next step. They are made where
//! the error is born; nobody downstream guesses a code from a text.

use crate::v1::{ErrorClass, JobError};

impl JobError {
    /// The template, its parameters or the request are wrong.
    #[must_use]
    pub fn user(code: &str, message: impl Into<String>) -> Self {
        Self::new(ErrorClass::User, code, message)
    }

    /// A cloud or a provider plugin refused or broke.
    #[must_use]
    pub fn provider(code: &str, message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Provider, code, message)
    }

    /// Memory, disk, quota or attempts are used up.
    #[must_use]
    pub fn capacity(code: &str, message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Capacity, code, message)
    }

    /// Ours: a lost worker, a missing engine, a bug.
    #[must_use]
    pub fn internal(code: &str, message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Internal, code, message)
    }

    /// What the reader should do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    fn new(class: ErrorClass, code: &str, message: impl Into<String>) -> Self {
        Self {
            class: class.into(),
            code: code.to_owned(),
            message: message.into(),
            hint: String::new(),
        }
    }
}
