//! Commands of a process that was killed: the server goes on with what it was
//! asked for, and would drop or copy in the middle of what the next process does.

use std::time::Duration;

use bson::{Bson, Document, doc};
use mongodb::Client;
use tokio::time::{Instant, sleep};

use super::{code, failed};
use crate::ProvisionError;

/// What was asked to end does so at its next look at the clock; a collection's drop is short.
const END_TIME_MAX: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Ends what connections of this name still run, which are a former process's, and waits until it has ended.
/// An administrator needs no right to see and end what is their own; a server that offers no such list (small
/// ones of Atlas) has to be trusted to be done.
pub(super) async fn end(client: &Client, application: &str) -> Result<(), ProvisionError> {
    let deadline = Instant::now() + END_TIME_MAX;
    while let Some(left) = running(client, application).await? {
        if Instant::now() >= deadline {
            return Err(ProvisionError::Leftover(left.len()));
        }
        for operation in left {
            end_one(client, operation).await?;
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// Lists what runs, without the question itself and drivers' waiting for news; nothing when nothing does.
async fn running(client: &Client, application: &str) -> Result<Option<Vec<Bson>>, ProvisionError> {
    let own = doc! { "$currentOp": { "allUsers": false } };
    let quiet = ["admin.$cmd", "admin.$cmd.aggregate"];
    let others =
        doc! { "$match": { "appName": application, "active": true, "ns": { "$nin": &quiet } } };
    let mut listed = match client.database("admin").aggregate([own, others]).await {
        Err(error) if code(&error).is_some() => return Ok(None),
        listed => listed.map_err(failed("see what a former process left"))?,
    };
    let mut left = Vec::new();
    while listed
        .advance()
        .await
        .map_err(failed("see what a former process left"))?
    {
        let operation: Document = listed
            .deserialize_current()
            .map_err(failed("see what a former process left"))?;
        left.extend(operation.get("opid").cloned());
    }
    Ok((!left.is_empty()).then_some(left))
}

async fn end_one(client: &Client, operation: Bson) -> Result<(), ProvisionError> {
    let command = doc! { "killOp": 1, "op": operation };
    match client.database("admin").run_command(command).await {
        // It may have ended meanwhile; whether it has is looked at again.
        Err(error) if code(&error).is_some() => Ok(()),
        answer => answer
            .map(drop)
            .map_err(failed("end what a former process left")),
    }
}
