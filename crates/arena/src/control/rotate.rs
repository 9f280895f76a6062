//! Gives a seat a new database password while the event runs: in the databases,
//! among the secrets, and in everything that runs in the seat, which is started
//! again with it, since a process keeps the environment that it began with.
//!
//! Repeatable: after a crash the next start sets the password that is among the
//! secrets, whichever that is, and the order is carried out anew.

use anyhow::Context;
use arena_store::Actor;

use super::Shared;
use super::seat::{SeatWatch, app_name};

/// What the participant reads in the terminal named *server*.
const TOLD: &str = "your database has a new password, and everything in this seat was started again with it; \
     copy the address anew from your seat's page where you pasted it by hand";

/// Exchanges the password and starts the seat again.
pub(super) async fn rotate(shared: &Shared, watch: &SeatWatch) -> anyhow::Result<String> {
    let provisioner = shared
        .provisioner
        .as_ref()
        .context("this workshop has no database")?;
    let old = watch.database().context("this seat has no database")?;
    let _turn = shared
        .restores
        .acquire()
        .await
        .context("control is stopping")?;
    // A grading with the old password would fail through no fault of the participant's.
    let _alone = watch.login.write().await;
    let logins = shared.databases.logins();
    let fresh = logins.fresh(watch.plan())?;
    let exchange = async {
        provisioner.create_seat(&fresh).await?;
        logins.replace(watch.plan(), &fresh)
    };
    if let Err(error) = exchange.await {
        // One server may have it already: both must know what the seat has.
        if let Err(again) = provisioner.create_seat(&old).await {
            tracing::warn!(seat.id = %watch.id(), error = %format!("{:#}", anyhow::Error::new(again)), "cannot set the old password again");
        }
        let what = format!("{} keeps its old password; order it again", watch.id());
        return Err(error.context(what));
    }
    let had_editor = watch.editor_is_ready();
    let woken = watch.woken_apps();
    shared.started.start_again(watch.plan()).await?;
    if had_editor {
        watch.agent().tell("/editor/wake").await?;
    } else {
        for app in woken {
            let name = app_name(app);
            watch.agent().tell(&format!("/apps/{name}/restart")).await?;
        }
    }
    watch.tell(TOLD).await;
    let by = Actor::System;
    shared
        .store
        .audit(by, "password_rotated", watch.id().as_str())
        .await?;
    Ok("new password in force, seat started again with it".to_owned())
}
