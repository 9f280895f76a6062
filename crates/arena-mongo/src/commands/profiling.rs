//! The profiler, which there is as little of as on a router: it may be looked at and
//! kept off. From which time on a statement is slow is kept for each user, and
//! changes nothing of what facilitators see.

use bson::doc;

use super::{Answer, Call, approximate, integer, raw};
use crate::error::CommandError;
use crate::users::Action;

/// Answers what was set before.
pub(super) fn run(call: &Call<'_>) -> Answer {
    let body = call.body();
    let level = body.get("profile")?.and_then(integer);
    call.allow(match level {
        Some(-1) => Action::Look,
        _ => Action::Administer,
    })?;
    if !matches!(level, Some(-1 | 0)) {
        let message = "the built-in database has no profiler, so the level can only be 0; \
                       explain tells what an operation does";
        return Err(CommandError::bad_value(message));
    }
    if body.get("filter")?.is_some() {
        return Err(CommandError::not_supported("a profiler's filter"));
    }
    let was = call.place.profiling();
    let mut set = was;
    if let Some(slow) = body.get("slowms")?.and_then(integer) {
        set.milliseconds = i32::try_from(slow).unwrap_or(i32::MAX);
    }
    if let Some(sample) = body.get("sampleRate")?.and_then(approximate) {
        if !(0.0..=1.0).contains(&sample) {
            let message = "'sampleRate' must be between 0.0 and 1.0 inclusive";
            return Err(CommandError::bad_value(message));
        }
        set.sampled = sample;
    }
    call.place.set_profiling(set);
    Ok(raw(
        &doc! { "was": 0, "slowms": was.milliseconds, "sampleRate": was.sampled, "ok": 1.0 },
    ))
}
