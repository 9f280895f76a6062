//! The small program that prepares things inside a sandbox: brings the way out to loopback and
//! runs programs one after the other. What they print goes to our standard output.

use std::io::{self, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::{NestError, Step, Steps};

/// Where the outbound proxy's socket is found inside.
const OUTBOUND: &str = "/run/svc/outbound.sock";

/// Waits between the tries of a step; a registry that stumbled needs a moment.
const BETWEEN_TRIES: Duration = Duration::from_secs(1);

pub(super) fn steps(steps: &Steps) -> Result<(), NestError> {
    if let Some(address) = &steps.outbound {
        let listener = TcpListener::bind(address)
            .map_err(NestError::new(format!("cannot listen on {address}")))?;
        // Ends with the process: it lives as long as the steps do, and not longer.
        thread::spawn(move || forward(&listener));
    }
    let limit = Duration::from_secs(steps.limit_seconds);
    thread::spawn(move || {
        thread::sleep(limit);
        say(&format!(
            "# not done after {} minutes",
            limit.as_secs() / 60
        ));
        // We are the sandbox's main program: everything in it ends with us.
        std::process::exit(1);
    });
    for step in &steps.steps {
        say(&format!("# {}", step.title));
        run(step)?;
    }
    Ok(())
}

fn run(step: &Step) -> Result<(), NestError> {
    let Some((program, arguments)) = step.command.split_first() else {
        return Ok(());
    };
    let mut last = String::new();
    for number in 1..=step.tries.max(1) {
        if number > 1 {
            say(&format!("# once more ({number} of {})", step.tries));
            thread::sleep(BETWEEN_TRIES);
        }
        // One stream, so that what was printed stays in order.
        let output = io::stdout()
            .as_fd()
            .try_clone_to_owned()
            .map_err(NestError::new("cannot share our output"))?;
        let status = Command::new(program)
            .args(arguments)
            .envs(&step.environment)
            .current_dir(&step.directory)
            .stdin(Stdio::null())
            .stderr(output)
            .status()
            .map_err(NestError::new(format!("cannot start {program}")))?;
        if status.success() {
            return Ok(());
        }
        last = format!("{status}");
    }
    Err(NestError::new(format!(
        "`{}` failed",
        step.command.join(" ")
    ))(io::Error::other(last)))
}

fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

fn forward(listener: &TcpListener) {
    for client in listener.incoming().flatten() {
        thread::spawn(move || {
            if let Ok(server) = UnixStream::connect(OUTBOUND) {
                let _ = join(&client, &server);
            }
        });
    }
}

fn join(client: &TcpStream, server: &UnixStream) -> io::Result<()> {
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    let up = thread::spawn(move || {
        let _ = io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    let _ = io::copy(&mut &*server, &mut &*client);
    let _ = client.shutdown(Shutdown::Write);
    let _ = up.join();
    Ok(())
}
