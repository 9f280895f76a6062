//! The template: made from data files, batch by batch, once.

use arena_data::DataFile;
use bson::{Bson, Document, RawDocumentBuf, doc};

use super::{Mongo, failed};
use crate::data::{self, Step};
use crate::{Loading, ProvisionError, Samples};

/// State of the template in [`super::STATE`].
const TEMPLATE: &str = "template";

impl Mongo {
    /// Loads the data, unless the template holds exactly these files already.
    pub(crate) async fn load(
        &self,
        files: &[DataFile],
        hash: &str,
        progress: &mut (dyn FnMut(Loading) + Send),
    ) -> Result<(), ProvisionError> {
        let state = self.state(TEMPLATE).await?;
        if state.is_some_and(|state| state.get_str("hash").is_ok_and(|found| found == hash)) {
            return Ok(());
        }
        // A crash from here on leaves a template that is made anew.
        self.forget(TEMPLATE).await?;
        for found in self.contents(&self.template).await? {
            let name = &found.name;
            self.template
                .collection::<Document>(name)
                .drop()
                .await
                .map_err(failed(format!("empty the template ({name})")))?;
        }
        let mut reading = data::begin(files);
        let mut so_far = Loading::default();
        let mut outcome = Ok(());
        while let Some(step) = reading.steps.recv().await {
            outcome = self.carry_out(step, &mut so_far).await;
            if outcome.is_err() {
                break;
            }
            progress(so_far.clone());
        }
        reading.end().await.map_err(ProvisionError::Data)?;
        outcome?;
        self.remember(TEMPLATE, hash).await
    }

    async fn carry_out(&self, step: Step, so_far: &mut Loading) -> Result<(), ProvisionError> {
        match step {
            Step::Create { name, options } => {
                let mut command = doc! { "create": &*name };
                command.extend(options);
                self.command(command, format!("make the collection {name}"))
                    .await?;
                so_far.collection = name.to_string();
            }
            Step::Insert {
                collection,
                documents,
            } => {
                // What does not satisfy a validator may be there on purpose.
                let inserted = self
                    .template
                    .collection::<RawDocumentBuf>(&collection)
                    .insert_many(&documents)
                    .bypass_document_validation(true)
                    .await;
                inserted.map_err(failed(format!(
                    "load documents {} to {} into {collection}",
                    so_far.documents + 1,
                    so_far.documents + documents.len()
                )))?;
                so_far.documents += documents.len();
            }
            Step::Index {
                collection,
                indexes,
            } => {
                let indexes: Vec<Document> = indexes.into_iter().map(named).collect();
                let command = doc! { "createIndexes": &*collection, "indexes": indexes };
                self.command(command, format!("make the indexes of {collection}"))
                    .await?;
            }
            Step::View { name, options } => {
                let mut command = doc! { "create": &*name };
                command.extend(options);
                self.command(command, format!("make the view {name}"))
                    .await?;
            }
        }
        Ok(())
    }

    async fn command(&self, command: Document, what: String) -> Result<(), ProvisionError> {
        let done = self.template.run_command(command).await;
        done.map(|_| ()).map_err(failed(what))
    }

    /// Returns one document of each collection of the template.
    pub(crate) async fn samples(&self) -> Result<Samples, ProvisionError> {
        let mut samples = Vec::new();
        for found in self
            .contents(&self.template)
            .await?
            .into_iter()
            .filter(|found| !found.is_view)
        {
            let collection = self.template.collection::<Document>(&found.name);
            let document = collection.find_one(doc! {}).sort(doc! { "_id": 1 }).await;
            let document =
                document.map_err(failed(format!("read a document of {}", found.name)))?;
            samples.extend(document.map(|document| (found.name, document)));
        }
        Ok(Samples::new(samples))
    }
}

/// Gives an index the name that MongoDB's clients would give it.
fn named(mut index: Document) -> Document {
    if !index.contains_key("name")
        && let Ok(key) = index.get_document("key")
    {
        let parts: Vec<String> = key
            .iter()
            .map(|(field, kind)| format!("{field}_{}", plain(kind)))
            .collect();
        index.insert("name", parts.join("_"));
    }
    index
}

fn plain(kind: &Bson) -> String {
    match kind {
        Bson::String(text) => text.clone(),
        other => other.to_string(),
    }
}
