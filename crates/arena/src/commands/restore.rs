//! `arena restore`: orders to put seats' databases back, or to bring back what was before.

use super::orders;
use super::status::runtime;
use crate::cli::RestoreArguments;
use crate::failure::{Failure, Kind};
use crate::host::Host;
use crate::platform::door::{Client, DatabaseAction};

/// Restores, or brings back.
pub(crate) fn run(arguments: &RestoreArguments) -> Result<(), Failure> {
    let host = Host::here()?;
    let event = host.chosen_to_use(arguments.which.event.as_deref())?;
    let door = Client::new(&host.event(&event).door_socket());
    let action = if arguments.undo {
        DatabaseAction::BringBack
    } else {
        DatabaseAction::Restore
    };
    let ended = runtime()?.block_on(async {
        if !door.is_running().await {
            let error = anyhow::anyhow!("{event} is not running");
            let failure = Failure::new(Kind::CheckFailed, error);
            return Err(failure.hint("start it with: arena up FOLDER"));
        }
        orders::carry_out(&door, &arguments.seats, action).await
    })?;
    orders::report(&ended, arguments.format)
}
