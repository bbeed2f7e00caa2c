//! The right to a job: how long it lasts and who may still write.
