//! `arena up` of an event that runs already: its list of names may have changed.

use super::status::runtime;
use super::{inputs::Inputs, print, print_json};
use crate::cli::Format;
use crate::failure::Failure;
use crate::platform::door::Client;
use crate::platform::list::Changed;

/// Applies the list of names to the event that runs behind the door. `held` says that it runs, which is
/// all there is to say where the list is as it was.
///
/// # Errors
/// `held`; or why the list cannot be applied.
pub(super) fn apply(
    inputs: &Inputs,
    door: &Client,
    format: Format,
    held: Failure,
) -> Result<(), Failure> {
    let changed = runtime()?.block_on(async {
        if !door.is_running().await {
            return Ok(None);
        }
        let seats = &inputs.workshop.participants.seats;
        door.change_list(seats).await.map(Some)
    });
    let changed = match changed.map_err(Failure::environment)? {
        Some(changed) if !changed.is_nothing() => changed,
        _ => return Err(held),
    };
    match format {
        Format::Json => print_json(&changed),
        Format::Text => print(&text(&inputs.workshop.title, &changed)),
    }
}

fn text(title: &str, changed: &Changed) -> String {
    let mut text = format!("{title} goes on with the new list of names\n");
    for seat in &changed.come {
        text.push_str(&format!("  + {}  {}\n", seat.name, seat.link));
    }
    for seat in &changed.spare {
        text.push_str(&format!("  + {seat}, for walk-ins\n"));
    }
    for seat in &changed.gone {
        text.push_str(&format!(
            "  - {seat}: locked out; files, databases and results are kept\n"
        ));
    }
    text + "Anything else that changed in the folder counts when the event starts again.\n"
}
