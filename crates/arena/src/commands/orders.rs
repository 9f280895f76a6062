//! Orders from the command line: placed through the platform's door, then waited for.

use std::time::Duration;

use super::{print, print_json};
use crate::cli::Format;
use crate::failure::{Failure, Kind};
use crate::platform::door::{Client, DatabaseAction, OrderLine, OrderRequest};
use crate::progress::Progress;

/// How often it looks how far the orders are.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Places the orders, for all seats if none is named, and waits until all have ended.
///
/// # Errors
/// When there is no such seat, or the platform does not answer.
pub(super) async fn carry_out(
    door: &Client,
    seats: &[String],
    action: DatabaseAction,
) -> Result<Vec<OrderLine>, Failure> {
    let request = OrderRequest {
        seats: seats.to_vec(),
        action,
    };
    let placed = door
        .order(&request)
        .await
        .map_err(|error| Failure::new(Kind::Configuration, error))?;
    let ids: Vec<i64> = placed.iter().map(|order| order.id).collect();
    let progress = Progress::new();
    let line = progress.begin(match action {
        DatabaseAction::Restore => "restore",
        DatabaseAction::BringBack => "bring back",
        DatabaseAction::Rotate => "rotate",
    });
    loop {
        let orders = door.orders(&ids).await.map_err(Failure::environment)?;
        let ended = orders
            .iter()
            .filter(|order| matches!(order.state.as_str(), "done" | "failed"))
            .count();
        line.count(ended, orders.len(), "databases");
        if ended == orders.len() {
            line.done(&format!("{ended} databases"));
            return Ok(orders);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Prints how each order ended.
///
/// # Errors
/// When one failed (exit code 1), or nothing can be printed.
pub(super) fn report(orders: &[OrderLine], format: Format) -> Result<(), Failure> {
    match format {
        Format::Json => print_json(&serde_json::json!({ "orders": orders }))?,
        Format::Text => {
            let lines = orders.iter().map(|order| {
                let message = order.message.as_deref().unwrap_or_default();
                format!("{}  {}: {message}\n", order.seat, order.state)
            });
            print(&lines.collect::<String>())?;
        }
    }
    let failed = orders
        .iter()
        .filter(|order| order.state == "failed")
        .count();
    if failed == 0 {
        return Ok(());
    }
    let error = anyhow::anyhow!("{failed} of {} orders failed", orders.len());
    Err(Failure::new(Kind::CheckFailed, error))
}
