//! The end of an event on a server that outlives it, with other events' seats beside its own.

use std::collections::BTreeSet;

use arena_workshop::DatabaseName;
use bson::doc;
use mongodb::Database;

use super::{Mongo, STATE, failed};
use crate::ProvisionError;
use crate::shared::SHARED_DATABASE;

impl Mongo {
    /// Returns the seats that this event made, without those that another event on the server has, too.
    pub(crate) async fn own(&self) -> Result<Vec<DatabaseName>, ProvisionError> {
        let mut others = BTreeSet::new();
        for template in self.other_templates().await? {
            others.extend(self.seats_of(&template).await?);
        }
        let own = self.list().await?.into_iter();
        Ok(own.filter(|name| !others.contains(name)).collect())
    }

    /// Drops the template, and what is shared when no other event is there. Seats come before: the template
    /// knows them.
    pub(crate) async fn remove_template(&self) -> Result<(), ProvisionError> {
        if self.other_templates().await?.is_empty() {
            self.empty(SHARED_DATABASE).await?;
        }
        self.empty(self.template.name()).await
    }

    async fn other_templates(&self) -> Result<Vec<Database>, ProvisionError> {
        let names = self.client.list_database_names().await;
        let mut templates = Vec::new();
        for name in names.map_err(failed("list the databases"))? {
            if name == self.template.name() {
                continue;
            }
            let database = self.client.database(&name);
            let states = database
                .list_collection_names()
                .filter(doc! { "name": STATE });
            let states = states.await;
            if !states
                .map_err(failed(format!("list the collections of {name}")))?
                .is_empty()
            {
                templates.push(database);
            }
        }
        Ok(templates)
    }
}
