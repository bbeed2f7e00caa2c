//! What a process that serves tells people, among log lines that programs read.

use serde_json::{Map, Value, json};

use super::time::{now_ms, rfc3339};
use crate::failure::Failure;

/// How grave a line is.
#[derive(Debug, Clone, Copy)]
pub enum Level {
    /// Told.
    Info,
    /// A warning.
    Warn,
}

/// A line in the shape of our log lines.
pub fn line(level: Level, message: &str) -> String {
    let level = match level {
        Level::Info => "INFO",
        Level::Warn => "WARN",
    };
    object(level, &json!({ "message": message }))
}

/// Why the process ends.
pub fn failure(failure: &Failure) -> String {
    let mut fields = Map::new();
    fields.insert("message".to_owned(), json!(failure.message));
    fields.insert("error.code".to_owned(), json!(failure.code));
    fields.insert("error.class".to_owned(), json!(failure.class));
    if let Some(hint) = &failure.hint {
        fields.insert("error.hint".to_owned(), json!(hint));
    }
    object("ERROR", &Value::Object(fields))
}

fn object(level: &str, fields: &Value) -> String {
    json!({
        "timestamp": rfc3339(now_ms()),
        "level": level,
        "fields": fields,
        "target": "provisionerd",
    })
    .to_string()
}
