//! The only door: host names, sessions and the way to every seat
