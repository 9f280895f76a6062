//! `arena restore`: places orders through the platform's door and waits for what comes of them.

use std::time::Duration;

use super::status::runtime;
use super::{print, print_json};
use crate::cli::{Format, RestoreArguments};
use crate::failure::{Failure, Kind};
use crate::host::Host;
use crate::platform::door::{Client, OrderLine, RestoreRequest};
use crate::progress::Progress;

/// How often it looks how far the orders are.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Restores, or brings back.
pub(crate) fn run(arguments: &RestoreArguments) -> Result<(), Failure> {
    let host = Host::here()?;
    let event = host.chosen_to_use(arguments.which.event.as_deref())?;
    let door = Client::new(&host.event(&event).door_socket());
    let orders = runtime()?.block_on(carry_out(&door, arguments, event.as_str()))?;
    let failed = orders
        .iter()
        .filter(|order| order.state == "failed")
        .count();
    match arguments.format {
        Format::Json => print_json(&serde_json::json!({ "orders": orders }))?,
        Format::Text => {
            let lines = orders.iter().map(|order| {
                let message = order.message.as_deref().unwrap_or_default();
                format!("{}  {}: {message}\n", order.seat, order.state)
            });
            print(&lines.collect::<String>())?;
        }
    }
    if failed == 0 {
        return Ok(());
    }
    let error = anyhow::anyhow!("{failed} of {} orders failed", orders.len());
    Err(Failure::new(Kind::CheckFailed, error))
}

async fn carry_out(
    door: &Client,
    arguments: &RestoreArguments,
    event: &str,
) -> Result<Vec<OrderLine>, Failure> {
    if !door.is_running().await {
        let error = anyhow::anyhow!("{event} is not running");
        return Err(Failure::new(Kind::CheckFailed, error).hint("start it with: arena up FOLDER"));
    }
    let request = RestoreRequest {
        seats: arguments.seats.clone(),
        undo: arguments.undo,
    };
    let placed = door
        .restore(&request)
        .await
        .map_err(|error| Failure::new(Kind::Configuration, error))?;
    let ids: Vec<i64> = placed.iter().map(|order| order.id).collect();
    let progress = Progress::new();
    let line = progress.begin(if arguments.undo {
        "bring back"
    } else {
        "restore"
    });
    loop {
        let orders = door.orders(&ids).await.map_err(Failure::environment)?;
        let ended = orders
            .iter()
            .filter(|order| matches!(order.state.as_str(), "done" | "failed"))
            .count();
        line.tick(&format!("{ended} of {} databases", orders.len()));
        if ended == orders.len() {
            line.done(&format!("{ended} databases"));
            return Ok(orders);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
