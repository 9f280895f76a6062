//! The nest alone, for this crate's tests; `arena serve nest` is the same. With `exec` as first
//! argument it becomes another program, so that a test can bring its own agent into a seat.

use std::error::Error;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let message = match arguments.split_first() {
        Some((first, [program, rest @ ..])) if first == "exec" => {
            format!("{program}: {}", Command::new(program).args(rest).exec())
        }
        _ => match arena_local::nest::nest(arguments.last().map_or("", String::as_str)) {
            Ok(()) => return ExitCode::SUCCESS,
            Err(error) => format!(
                "{error}: {}",
                error.source().map(ToString::to_string).unwrap_or_default()
            ),
        },
    };
    let _ = writeln!(std::io::stderr(), "{message}");
    ExitCode::FAILURE
}
