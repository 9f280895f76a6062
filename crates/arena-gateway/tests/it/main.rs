//! The gateway over real sockets: raw bytes in front, real servers on unix
//! sockets behind, a real store beside.

mod connections;
mod framing;
mod headers;
mod hold;
mod look_in;
mod sessions;
mod websocket;
mod world;
