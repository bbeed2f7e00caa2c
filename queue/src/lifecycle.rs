//! The states of a job and what moves it between them.
