//! Errors: `error: …` with the code, the cause and what to do next; as a document
//! under `--output json`.

use serde_json::{Value, json};

use super::paint::{Paint, harmless};
use crate::failure::Failure;

/// Prints a failure where its reader looks: the line always on stderr, the document on
/// stdout when JSON was asked for.
pub fn failure(failure: &Failure, json: bool) {
    if json {
        // The exit code says that it failed even if stdout cannot be written.
        let _ = super::write_json(&document(failure));
    }
    eprintln!("{}", line(failure, Paint::stderr()));
}

/// The JSON document.
pub fn document(failure: &Failure) -> Value {
    json!({ "error": {
        "code": failure.code,
        "class": failure.class,
        "message": failure.message,
        "hint": failure.hint,
    } })
}

/// The line for people: `error: message [CODE]; hint`.
pub fn line(failure: &Failure, paint: Paint) -> String {
    let hint = failure.hint.as_deref();
    text(&failure.code, &failure.message, hint, paint)
}

/// An error of any origin. A cause of several lines (an engine's snippet) keeps them.
pub fn text(code: &str, message: &str, hint: Option<&str>, paint: Paint) -> String {
    let message = harmless(message.trim_end());
    let (first, rest) = message.split_once('\n').unwrap_or((&message, ""));
    let mut line = format!("{} {first} [{code}]", paint.red("error:"));
    let hint = hint.map(harmless).filter(|hint| !hint.is_empty());
    if rest.is_empty() {
        if let Some(hint) = hint {
            line.push_str("; ");
            line.push_str(&hint);
        }
        return line;
    }
    for more in rest.lines() {
        line.push_str("\n  ");
        line.push_str(more);
    }
    if let Some(hint) = hint {
        line.push_str(&format!("\n{} {hint}", paint.cyan("next:")));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_with_code_cause_and_next_step() {
        let failure = Failure::user("NO_ENGINE", "no engine found").hint("install one");
        assert_eq!(
            line(&failure, Paint::Plain),
            "error: no engine found [NO_ENGINE]; install one"
        );
    }

    #[test]
    fn a_snippet_keeps_its_lines() {
        let shown = text(
            "HCL",
            "bad\non main.tf line 3:\n",
            Some("fix it"),
            Paint::Plain,
        );
        assert_eq!(
            shown,
            "error: bad [HCL]\n  on main.tf line 3:\nnext: fix it"
        );
    }

    #[test]
    fn the_document_has_code_class_message_and_hint() {
        let failure = Failure::unreachable("no answer");
        assert_eq!(
            document(&failure),
            json!({ "error": {
                "code": "QUEUE_UNREACHABLE",
                "class": "internal",
                "message": "no answer",
                "hint": null,
            } })
        );
    }
}
