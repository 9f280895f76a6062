//! `arena rotate`: new database passwords. They are written as secrets of the event and take
//! effect when it starts next, which sets them on the servers and in the seats at once: a password
//! changed under a running app would break it in the middle of somebody's work.

use anyhow::Context;
use arena_workshop::Plan;
use arena_workshop::plan::SecretName;

use super::{print, print_json};
use crate::cli::{Format, Rotate};
use crate::failure::Failure;
use crate::host::{self, Host};
use crate::platform::secrets::Secrets;

/// Writes new passwords.
pub(crate) fn run(arguments: &Rotate) -> Result<(), Failure> {
    let host = Host::here()?;
    let event = host.chosen_to_use(arguments.which.event.as_deref())?;
    let places = host.event(&event);
    let again: Vec<_> = std::env::args_os().skip(1).collect();
    host::become_owner(&places, &again)?;
    let path = places.state.join("plan.json");
    let text = std::fs::read(&path)
        .with_context(|| format!("cannot read {}", path.display()))
        .map_err(Failure::environment)?;
    let plan: Plan = serde_json::from_slice(&text).context("cannot read the plan that ran last")?;
    let known = |name: &&String| {
        !plan
            .seats
            .iter()
            .any(|seat| seat.id.as_str() == name.as_str())
    };
    if let Some(unknown) = arguments.seats.iter().find(known) {
        let failure = Failure::configuration(format_args!("there is no seat {unknown} in {event}"));
        return Err(failure.hint("`arena status` lists the seats"));
    }
    let chosen = plan.seats.iter().filter(|seat| {
        arguments.all || arguments.seats.iter().any(|name| name == seat.id.as_str())
    });
    let mut rotated = Vec::new();
    for seat in chosen {
        Secrets::renew(&places.state, &SecretName::seat_database(&seat.id))?;
        rotated.push(seat.id.to_string());
    }
    match arguments.format {
        Format::Json => {
            print_json(&serde_json::json!({ "seats": rotated, "in_force": "at the next start" }))
        }
        Format::Text => print(&format!(
            "{} new {}, in force when {event} starts next: arena down, then arena up\n",
            rotated.len(),
            if rotated.len() == 1 {
                "password"
            } else {
                "passwords"
            }
        )),
    }
}
