//! The model of Arena, pure: a workshop's files become typed values, every
//! mistake is found at once with its place, and a [`Workshop`] with a
//! [`Target`] becomes a [`Plan`].
//!
//! Nothing here waits, reads a file, looks at a clock or at the environment:
//! the caller hands texts in as [`SourceFile`]s. Begin reading at
//! [`Workshop::parse`], then [`plan`](plan::plan).

pub mod check;
pub mod config;
mod ids;
pub mod navigation;
pub mod participants;
pub mod plan;
pub mod scoring;
pub mod source;
mod workshop;
pub mod yaml;

pub use ids::{DatabaseName, EventId, ExerciseSlug, InvalidId, SeatId, ServiceName};
pub use plan::{Plan, Target, plan};
pub use source::{Problem, Problems, Severity, SourceFile, Span};
pub use workshop::{
    AppKeys, AppsKeys, Capability, ContentKeys, DataKeys, DataSetName, Exercise, Hint,
    ParsedWorkshop, Sources, Workshop,
};
