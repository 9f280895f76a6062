//! Starts, watches and ends child processes
