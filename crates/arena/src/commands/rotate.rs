//! `arena rotate`: new database passwords. In a running event they are orders, in force at once;
//! otherwise they are written as secrets of the event, which its next start sets on the servers and
//! in the seats.

use anyhow::Context;
use arena_workshop::Plan;
use arena_workshop::plan::SecretName;

use super::status::runtime;
use super::{orders, print, print_json};
use crate::cli::{Format, Rotate};
use crate::failure::Failure;
use crate::host::{self, Host};
use crate::platform::door::{Client, DatabaseAction};
use crate::platform::secrets::Secrets;

/// Orders new passwords, or writes them where nothing runs.
pub(crate) fn run(arguments: &Rotate) -> Result<(), Failure> {
    let host = Host::here()?;
    let event = host.chosen_to_use(arguments.which.event.as_deref())?;
    let places = host.event(&event);
    let door = Client::new(&places.door_socket());
    let ended = runtime()?.block_on(async {
        if !door.is_running().await {
            return Ok(None);
        }
        let ended = orders::carry_out(&door, &arguments.seats, DatabaseAction::Rotate);
        ended.await.map(Some)
    })?;
    if let Some(ended) = ended {
        return orders::report(&ended, arguments.format);
    }
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
            "{} new {}, in force when {event} starts next: arena up\n",
            rotated.len(),
            if rotated.len() == 1 {
                "password"
            } else {
                "passwords"
            }
        )),
    }
}
