//! The instructions' navigation and the scenario's filter over it.

/// Pages that the scenario shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Navigation {}
