//! Archives as `mongodump --archive` writes them, for `mongorestore` and for ourselves.

use std::io::{self, Write};

use bson::{Bson, Document, RawDocument, doc};

use super::archive::{END, MAGIC};
use super::checksum::Crc64;

/// A collection or view of an archive.
#[derive(Debug, Clone, PartialEq)]
pub struct Collection {
    /// Its name.
    pub name: String,
    /// As `create` takes them; with `viewOn` it is a view.
    pub options: Document,
    /// As `createIndexes` takes them, without the one over `_id`.
    pub indexes: Vec<Document>,
}

impl Collection {
    /// Returns whether it is a view, which has no documents of its own.
    pub fn is_view(&self) -> bool {
        self.options.contains_key("viewOn")
    }

    /// Returns the text that `mongodump` writes about it.
    pub fn metadata(&self) -> String {
        let id = doc! { "v": 2, "key": { "_id": 1 }, "name": "_id_" };
        let is_view = self.is_view();
        let versioned = |index: &Document| {
            let mut all = doc! { "v": 2 };
            all.extend(index.clone());
            Bson::Document(all)
        };
        let own = (!is_view).then_some(Bson::Document(id));
        let indexes: Vec<Bson> = own
            .into_iter()
            .chain(self.indexes.iter().map(versioned))
            .collect();
        let all = doc! {
            "options": self.options.clone(),
            "indexes": indexes,
            "collectionName": &self.name,
            "type": self.kind(),
        };
        Bson::Document(all).into_canonical_extjson().to_string()
    }

    fn kind(&self) -> &'static str {
        if self.is_view() { "view" } else { "collection" }
    }
}

/// Writes an archive: first what there is, then the documents of one collection after the other.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use arena_data::{ArchiveWriter, Collection};
/// let towns = Collection { name: "towns".into(), options: bson::doc! {}, indexes: vec![] };
/// let mut archive = ArchiveWriter::begin(Vec::new(), "atlas", &[towns])?;
/// let mut documents = archive.collection("towns")?;
/// documents.write(&bson::serialize_to_raw_document_buf(&bson::doc! { "name": "Bergen" }).unwrap())?;
/// documents.end()?;
/// # Ok(()) }
/// ```
pub struct ArchiveWriter<W> {
    out: W,
    database: String,
}

impl<W: Write> ArchiveWriter<W> {
    /// Writes what stands in front.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn begin(mut out: W, database: &str, collections: &[Collection]) -> io::Result<Self> {
        out.write_all(&MAGIC)?;
        let header = doc! {
            "concurrent_collections": 1,
            "version": "0.1",
            "server_version": "8.0.0",
            "tool_version": concat!("arena ", env!("CARGO_PKG_VERSION")),
        };
        write_document(&mut out, &header)?;
        for collection in collections {
            let entry = doc! {
                "db": database,
                "collection": &collection.name,
                "metadata": collection.metadata(),
                "size": 0,
                "type": collection.kind(),
            };
            write_document(&mut out, &entry)?;
        }
        out.write_all(&END)?;
        Ok(Self {
            out,
            database: database.to_owned(),
        })
    }

    /// Begins the documents of a collection; every one of `begin` that is no view needs this once.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn collection(&mut self, name: &str) -> io::Result<CollectionWriter<'_, W>> {
        let database = self.database.clone();
        write_header(&mut self.out, &database, name, None)?;
        Ok(CollectionWriter {
            archive: self,
            name: name.to_owned(),
            checksum: Crc64::default(),
        })
    }

    /// Returns what it wrote to.
    pub fn into_inner(self) -> W {
        self.out
    }
}

/// Writes the documents of a collection into an archive.
pub struct CollectionWriter<'a, W> {
    archive: &'a mut ArchiveWriter<W>,
    name: String,
    checksum: Crc64,
}

impl<W: Write> CollectionWriter<'_, W> {
    /// Writes a document.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&mut self, document: &RawDocument) -> io::Result<()> {
        self.checksum.update(document.as_bytes());
        self.archive.out.write_all(document.as_bytes())
    }

    /// Writes the collection's end, with its checksum.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn end(self) -> io::Result<()> {
        let ArchiveWriter { out, database } = self.archive;
        out.write_all(&END)?;
        write_header(out, database, &self.name, Some(self.checksum.value()))?;
        out.write_all(&END)
    }
}

fn write_header(
    out: &mut impl Write,
    database: &str,
    collection: &str,
    checksum: Option<i64>,
) -> io::Result<()> {
    let header = doc! {
        "db": database,
        "collection": collection,
        "EOF": checksum.is_some(),
        "CRC": checksum.unwrap_or(0),
    };
    write_document(out, &header)
}

fn write_document(out: &mut impl Write, document: &Document) -> io::Result<()> {
    let bytes = bson::serialize_to_vec(document).map_err(io::Error::other)?;
    out.write_all(&bytes)
}
