//! The only door of an event: every browser's request comes in here and goes
//! to the portal, the instructions or the right seat.
//!
//! The gateway owns host names, sessions of hosts other than the portal's, the
//! rule about which page may ask for what, header hygiene in both directions,
//! WebSocket relays and the wait for a sleeping editor. It knows nothing about
//! exercises, databases or how a seat runs: routes are data ([`Routes`]), and
//! all it ever asks of anybody is an order in the store.
//!
//! Begin reading at [`serve`], then `door.rs` (what happens to one request, in
//! order), `session.rs` (who is asking) and `fetch_rule.rs` (may that page ask).

mod body;
mod cookies;
mod door;
mod fetch_rule;
mod forward;
mod frames;
mod head_tap;
mod headers;
mod hold;
mod inbound;
mod look_in;
mod pages;
mod refusal;
mod relay;
mod routes;
mod serve;
mod session;
mod settings;
mod tenure;
mod upstream;

pub use routes::{Endpoint, Routes, Target, Upstream};
pub use serve::{BindError, NotLoopback, ServeError, bind, check_loopback, serve};
pub use settings::{Limits, Settings};
