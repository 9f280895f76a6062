//! Real child processes, seen from outside: by /proc, by ports, by files.

mod restarts;
mod stops;
mod world;
