//! The portal: pages, the API and the live room of an event, over the store.
//!
//! It owns what people see and may ask for; it never acts: whatever takes time
//! is an order in the store. It believes the gateway's `x-arena-*` headers and
//! nothing else about who asks. Ranking is the model's, people and results are
//! the store's. Begin reading at [`serve`], then `serve.rs` for the routes and
//! `live.rs` for how changes reach browsers.

mod api;
mod assets;
mod board;
mod caller;
mod csv;
mod echo;
mod guard;
mod instructions;
mod limits;
mod live;
mod pages;
mod problem;
mod room;
mod serve;
mod settings;
mod state;
mod texts;

pub use serve::{Listener, ServeError, serve};
pub use settings::{
    DatabaseAccess, ExerciseEntry, Prizes, SeatDatabases, Settings, StaticPage, StaticPages,
};
pub use texts::Language;
