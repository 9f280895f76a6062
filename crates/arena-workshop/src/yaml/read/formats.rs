//! Texts with a form of their own, named by a schema's `format`.

use crate::ExerciseSlug;

/// Returns what is wrong with a text of that format, and what to write instead; `None` when it is
/// right or the format is not one of: `email`, `uri`, `date-time`, `duration`, `exercise-slug`.
pub(super) fn format_mistake(format: &str, text: &str) -> Option<(String, String)> {
    let is_right = match format {
        "email" => is_email(text),
        "uri" => url::Url::parse(text).is_ok(),
        "date-time" => crate::config::instant(text).is_some(),
        "duration" => crate::scoring::parse_duration(text).is_some(),
        "exercise-slug" => ExerciseSlug::new(text).is_ok(),
        _ => true,
    };
    if is_right {
        return None;
    }
    let (what, example) = match format {
        "email" => ("an e-mail address", "such as `ada@example.com`"),
        "uri" => ("an address", "such as `https://example.com/workshop.git`"),
        "date-time" => (
            "an instant",
            "such as `2026-11-23T17:00:00Z`, or with an offset: `2026-11-23T18:00:00+01:00`",
        ),
        "duration" => ("a duration", "such as `1h 30m`, `25m` or `45s`"),
        _ => (
            "an exercise's name",
            "such as `crud-1`: lower-case letters, digits and single hyphens",
        ),
    };
    Some((
        format!("is not {what}: `{text}`"),
        format!("write one {example}"),
    ))
}

/// Whether a text looks like an address that mail could go to.
fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else {
        return false;
    };
    !local.is_empty()
        && domain.contains('.')
        && !domain.starts_with('.')
        && !domain.ends_with('.')
        && !text.contains(char::is_whitespace)
}
