//! Arena's command line. The only place that knows all crates, reads the
//! environment and exits. Begin at [`cli`] for what can be typed and at
//! [`commands`] for what it does; [`platform`] composes the running event.

mod cli;
mod commands;
mod content;
mod control;
mod failure;
mod folder;
mod host;
mod platform;
mod progress;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Arena, Colour};

fn main() -> ExitCode {
    let arguments = Arena::parse();
    match arguments.color {
        Colour::Auto => {}
        Colour::Always => failure::set_colour(true),
        Colour::Never => failure::set_colour(false),
    }
    match commands::run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
