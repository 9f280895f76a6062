//! What the model makes of texts: text in, values and problems out.
#![expect(
    clippy::unwrap_used,
    reason = "a test's helper that cannot go on ends the test"
)]

mod config;
mod folder;
mod mutations;
mod navigation;
mod participants;
mod plan;
mod scoring;
mod workshop;
mod yaml;

/// The reference's configuration with every key.
const REFERENCE_CONFIG: &str = include_str!("reference/config.yaml");
/// A navigation as the reference's workshops have it.
const REFERENCE_NAVIGATION: &str = include_str!("reference/navigation-guided.yml");
