//! The check format: what an exercise's `arena/exercises/{slug}.yaml` may say.
//! Parsing and its messages are here; running a check is `arena-grader`'s.

use serde::{Deserialize, Serialize};

/// One thing verified about an exercise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Says what is verified, such as `returns the requested page, sorted by name`.
    pub name: String,
}
