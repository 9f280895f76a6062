//! From data files to what a server is told, in an order that it can follow:
//! how collections are made, then documents in batches, then indexes and views.
//! Reading waits for the server; at no time is a whole file in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use arena_data::{DataError, DataFile, Piece};
use bson::{Document, RawDocumentBuf};
use tokio::sync::mpsc;

/// Documents sent at once, and their bytes: well below what any server takes.
const BATCH_DOCUMENTS: usize = 1000;
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Batches that wait for the server.
const WAITING: usize = 2;

/// Something to do in the template.
#[derive(Debug)]
pub(crate) enum Step {
    /// Make a collection.
    Create { name: Arc<str>, options: Document },
    /// Put documents into it.
    Insert {
        collection: Arc<str>,
        documents: Vec<RawDocumentBuf>,
    },
    /// Make indexes.
    Index {
        collection: Arc<str>,
        indexes: Vec<Document>,
    },
    /// Make a view.
    View { name: Arc<str>, options: Document },
}

/// Steps as they come, and the task that reads the files.
pub(crate) struct Reading {
    pub(crate) steps: mpsc::Receiver<Step>,
    task: tokio::task::JoinHandle<Result<(), DataError>>,
}

impl Reading {
    /// Returns how reading ended; after the last step, or when the rest is not wanted.
    pub(crate) async fn end(self) -> Result<(), DataError> {
        drop(self.steps);
        match self.task.await {
            Ok(outcome) => outcome,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

/// Begins to read what files hold for MongoDB.
pub(crate) fn begin(files: &[DataFile]) -> Reading {
    let (sender, steps) = mpsc::channel(WAITING);
    let (declarations, others): (Vec<DataFile>, Vec<DataFile>) = files
        .iter()
        .filter(|file| file.is_for_mongodb())
        .cloned()
        .partition(DataFile::is_declaration);
    let task = tokio::task::spawn_blocking(move || {
        let mut queue = Queue {
            sender,
            options: BTreeMap::new(),
            made: BTreeSet::new(),
            batch: Vec::new(),
            batch_bytes: 0,
            collection: "".into(),
            last: Vec::new(),
        };
        for file in declarations.iter().chain(&others) {
            arena_data::read(file, &mut |piece| queue.take(piece))?;
        }
        queue.finish();
        Ok(())
    });
    Reading { steps, task }
}

/// Returns the SQL of files, each with its name.
pub(crate) fn sql(files: &[DataFile]) -> Result<Vec<(String, String)>, DataError> {
    let mut all = Vec::new();
    for file in files.iter().filter(|file| file.is_for_postgres()) {
        let mut text = String::new();
        arena_data::read(file, &mut |piece| {
            if let Piece::Sql(statements) = piece {
                text.push_str(&statements);
            }
            ControlFlow::Continue(())
        })?;
        all.push((file.name.clone(), text));
    }
    Ok(all)
}

/// Turns pieces into steps.
struct Queue {
    sender: mpsc::Sender<Step>,
    options: BTreeMap<Arc<str>, Document>,
    made: BTreeSet<Arc<str>>,
    batch: Vec<RawDocumentBuf>,
    batch_bytes: usize,
    /// Of the batch.
    collection: Arc<str>,
    /// Indexes, then views: after all documents.
    last: Vec<Step>,
}

impl Queue {
    fn take(&mut self, piece: Piece) -> ControlFlow<()> {
        match piece {
            Piece::Collection { name, options } => {
                self.options.entry(name).or_default().extend(options);
                ControlFlow::Continue(())
            }
            Piece::Document {
                collection,
                document,
            } => self.document(collection, &document),
            Piece::Indexes {
                collection,
                indexes,
            } => {
                self.options.entry(Arc::clone(&collection)).or_default();
                self.last.push(Step::Index {
                    collection,
                    indexes,
                });
                ControlFlow::Continue(())
            }
            Piece::View { name, options } => {
                self.last.push(Step::View { name, options });
                ControlFlow::Continue(())
            }
            Piece::Sql(_) => ControlFlow::Continue(()),
        }
    }

    fn document(&mut self, collection: Arc<str>, document: &Document) -> ControlFlow<()> {
        if collection != self.collection {
            self.flush()?;
            self.make(&collection)?;
            self.collection = collection;
        }
        let raw = RawDocumentBuf::try_from(document)
            .expect("what was read from BSON or extended JSON is BSON again");
        self.batch_bytes += raw.as_bytes().len();
        self.batch.push(raw);
        if self.batch.len() >= BATCH_DOCUMENTS || self.batch_bytes >= BATCH_BYTES {
            self.flush()?;
        }
        ControlFlow::Continue(())
    }

    fn make(&mut self, name: &Arc<str>) -> ControlFlow<()> {
        if !self.made.insert(Arc::clone(name)) {
            return ControlFlow::Continue(());
        }
        let options = self.options.get(name).cloned().unwrap_or_default();
        self.send(Step::Create {
            name: Arc::clone(name),
            options,
        })
    }

    fn flush(&mut self) -> ControlFlow<()> {
        self.batch_bytes = 0;
        let documents = std::mem::take(&mut self.batch);
        if documents.is_empty() {
            return ControlFlow::Continue(());
        }
        self.send(Step::Insert {
            collection: Arc::clone(&self.collection),
            documents,
        })
    }

    /// Sends what is left; collections without documents are made now.
    fn finish(mut self) {
        let names: Vec<Arc<str>> = self.options.keys().cloned().collect();
        let mut last = std::mem::take(&mut self.last);
        // Views may look at anything, so they come behind indexes of all files.
        last.sort_by_key(|step| matches!(step, Step::View { .. }));
        let _ = self.flush();
        for name in &names {
            let _ = self.make(name);
        }
        for step in last {
            if self.send(step).is_break() {
                return;
            }
        }
    }

    /// Breaks when nobody wants more.
    fn send(&self, step: Step) -> ControlFlow<()> {
        match self.sender.blocking_send(step) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }
}
