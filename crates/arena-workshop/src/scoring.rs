//! Who is ahead: the reference's two rules, timed and score. Computed, never stored.
