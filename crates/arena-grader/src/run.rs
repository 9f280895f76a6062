//! One check: bind what is given, act, bind what is then so, compare, clean up.

use arena_workshop::check::{Binding, Check, MongodbStep, SqlStep, Step};
use bson::{Bson, Document};
use tokio::time::{Instant, timeout, timeout_at};

use crate::http::seconds;
use crate::random::Random;
use crate::session::{Session, StepFailure};
use crate::values::Values;
use crate::{CheckOutcome, files, http, matchers, mongo, show, sql};

/// Something put into the participant's data that must be gone at the end.
pub(crate) enum Marker {
    Mongodb(mongo::Marker),
    Sql(sql::Marker),
}

struct Run<'run, 'seat> {
    session: &'run mut Session<'seat>,
    values: Values,
    markers: Vec<Marker>,
}

/// Runs one check. Markers are removed whatever happens.
pub(crate) async fn check(
    session: &mut Session<'_>,
    check: &Check,
    index: usize,
    deadline: Instant,
) -> CheckOutcome {
    let limits = session.limits;
    let values = Values::new(
        session.seat.seat.as_str(),
        Random::new(session.seat.random_seed, index),
    );
    let mut run = Run {
        session,
        values,
        markers: Vec::new(),
    };
    // The driver's connections survive a step that is dropped halfway; the markers that it may
    // have inserted are in `run.markers` before they are sent.
    let result = match timeout_at(deadline, run.steps(check)).await {
        Ok(result) => result,
        Err(_) => Err(StepFailure::new(format!(
            "stopped: this exercise's checks took longer than {}",
            seconds(limits.exercise)
        ))),
    };
    if timeout(limits.cleanup, run.clean(check)).await.is_err() {
        tracing::warn!(seat.id = %session.seat.seat, "markers of a check may be left: cleaning up took too long");
    }
    let message = result
        .err()
        .map(|failure| show::message(&failure.0, limits.message_lines));
    CheckOutcome {
        name: check.name.clone(),
        passed: message.is_none(),
        message,
    }
}

impl Run<'_, '_> {
    async fn steps(&mut self, check: &Check) -> Result<(), StepFailure> {
        for binding in &check.given {
            self.bind(binding).await?;
        }
        if let Some(step) = &check.act {
            let value = self.step(step).await?;
            match (step, value) {
                (Step::Request(_) | Step::File { .. }, Bson::Document(fields)) => {
                    fields
                        .into_iter()
                        .for_each(|(name, value)| self.values.bind(&name, value));
                }
                (_, value) => self.values.bind("result", value),
            }
        }
        for binding in &check.then {
            self.bind(binding).await?;
        }
        let mut failures = check.expect.iter().filter_map(|expectation| {
            matchers::failure(expectation, &self.values, self.session.limits.rows)
        });
        failures
            .next()
            .map_or(Ok(()), |lines| Err(StepFailure(lines)))
    }

    async fn bind(&mut self, binding: &Binding) -> Result<(), StepFailure> {
        let value = self.step(&binding.step).await?;
        if let (Some(subject), Some(rows)) = (subject(&binding.step), rows(&value))
            && rows < i64::from(binding.at_least)
        {
            return Err(StepFailure::new(format!(
                "restore your data first: {subject} gives {rows} rows where this check needs at least {}",
                binding.at_least
            )));
        }
        self.values.bind(&binding.name, value);
        Ok(())
    }

    async fn step(&mut self, step: &Step) -> Result<Bson, StepFailure> {
        match step {
            Step::Request(request) => http::send(self.session, request, &self.values)
                .await
                .map(Bson::Document),
            Step::File { path } => files::read(self.session, path).await.map(Bson::Document),
            Step::Mongodb(step) => {
                let (limits, samples) = (
                    self.session.limits,
                    std::sync::Arc::clone(&self.session.seat.samples),
                );
                let mongo = self.session.mongo().await?;
                if let MongodbStep::Insert {
                    collection,
                    is_like_template,
                    with,
                } = step
                {
                    let fields = self.values.fill_document(with).unwrap_or_default();
                    let like = if *is_like_template {
                        mongo.like(&samples, collection).await?
                    } else {
                        Document::new()
                    };
                    let marker = mongo::Marker::new(collection, like, fields);
                    let document = marker.document.clone();
                    self.markers.push(Marker::Mongodb(marker));
                    mongo.insert(collection, &document, limits).await?;
                    return Ok(Bson::Document(document));
                }
                mongo.ask(step, &self.values, limits).await
            }
            Step::Sql(step) => {
                let limits = self.session.limits;
                let sql = self.session.sql().await?;
                if let SqlStep::Insert { table, with } = step {
                    let columns = with
                        .iter()
                        .map(|(column, value)| (column.clone(), self.values.fill(value)))
                        .collect();
                    self.markers.push(Marker::Sql(sql::Marker {
                        table: table.clone(),
                        columns,
                    }));
                    let Some(Marker::Sql(marker)) = self.markers.last_mut() else {
                        return Err(StepFailure::new("the marker cannot be inserted"));
                    };
                    return sql.insert(marker).await;
                }
                sql.ask(step, &self.values, limits).await
            }
        }
    }

    /// Runs the check's last steps and removes its markers, newest first.
    async fn clean(&mut self, check: &Check) {
        for step in &check.finally {
            if let Err(failure) = self.step(step).await {
                tracing::debug!(error = %failure.0.join(" "), "a last step failed");
            }
        }
        while let Some(marker) = self.markers.pop() {
            let removed = match &marker {
                Marker::Mongodb(marker) => match self.session.mongo().await {
                    Ok(mongo) => mongo.remove(marker).await,
                    Err(failure) => Err(failure),
                },
                Marker::Sql(marker) => match self.session.sql().await {
                    Ok(sql) => sql.remove(marker).await,
                    Err(failure) => Err(failure),
                },
            };
            if let Err(failure) = removed {
                tracing::warn!(seat.id = %self.session.seat.seat, error = %failure.0.join(" "), "a marker could not be removed");
            }
        }
    }
}

/// What a read is about; `None` for steps whose number of rows says nothing.
fn subject(step: &Step) -> Option<String> {
    match step {
        Step::Mongodb(MongodbStep::Find(find)) => Some(find.collection.clone()),
        Step::Mongodb(
            MongodbStep::Aggregate { collection, .. }
            | MongodbStep::Count { collection, .. }
            | MongodbStep::Distinct { collection, .. },
        ) => Some(collection.clone()),
        Step::Sql(SqlStep::Query { .. }) => Some("the query".to_owned()),
        _ => None,
    }
}

fn rows(value: &Bson) -> Option<i64> {
    match value {
        Bson::Array(rows) => i64::try_from(rows.len()).ok(),
        Bson::Int64(number) => Some(*number),
        _ => None,
    }
}
