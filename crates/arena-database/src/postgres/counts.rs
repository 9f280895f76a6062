//! Rows of each table of the template: counted once when it is loaded, noted in its comment, and
//! counted again in every copy, each time by the role that owns them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::link::{Link, failed};
use crate::ProvisionError;

/// Tables by their quoted name, with their rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Counts(BTreeMap<String, i64>);

impl Counts {
    /// Counts the rows of the tables that the logged-in role owns.
    pub(super) async fn of(link: &Link) -> Result<Self, ProvisionError> {
        let query = "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) \
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             JOIN pg_catalog.pg_roles r ON r.oid = c.relowner \
             WHERE r.rolname = current_user AND c.relkind IN ('r', 'p', 'm') AND NOT c.relispartition AND c.relpersistence <> 't'";
        let rows = link
            .client
            .query(query, &[])
            .await
            .map_err(failed("list the template's tables"))?;
        let tables: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        Self::count(link, tables.iter()).await
    }

    /// Says how what a role sees differs from these counts.
    pub(super) async fn difference(&self, link: &Link) -> Result<Option<String>, ProvisionError> {
        let seen = Self::count(link, self.0.keys()).await?;
        let differing = self.0.iter().find_map(|(table, rows)| {
            let found = seen.0.get(table).copied().unwrap_or_default();
            (found != *rows).then(|| format!("{table} has {found} of {rows} rows"))
        });
        Ok(differing)
    }

    async fn count(
        link: &Link,
        tables: impl Iterator<Item = &String>,
    ) -> Result<Self, ProvisionError> {
        let each: Vec<String> = tables
            .map(|table| {
                let literal = table.replace('\'', "''");
                format!("SELECT '{literal}'::text, pg_catalog.count(*) FROM {table}")
            })
            .collect();
        if each.is_empty() {
            return Ok(Self::default());
        }
        let rows = link
            .client
            .query(&each.join(" UNION ALL "), &[])
            .await
            .map_err(failed("count the rows of the tables"))?;
        Ok(Self(
            rows.iter().map(|row| (row.get(0), row.get(1))).collect(),
        ))
    }
}
