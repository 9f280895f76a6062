//! A seat's agent as others meet it: HTTP on its listener, files in its folder,
//! real apps under Node, hostile ones included.

mod apps;
mod editor;
mod events;
mod files;
mod hostile;
mod terminal;
#[expect(
    clippy::unwrap_used,
    reason = "a world that cannot be made fails its test, with the place"
)]
mod world;
