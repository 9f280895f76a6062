//! Workshop data, pure: no server is known here, nothing waits.
//!
//! Two halves. [`DataSet`] makes data out of nothing: the same seed gives the
//! same bytes on every machine and in every release, with a [`Truth`] that says
//! what right answers are. [`read`] turns an author's files (extended JSON, CSV,
//! SQL, `mongodump` folders and archives) into [`Piece`]s, one after the other,
//! without holding a file in memory.

mod embed;
mod files;
mod listings;
mod random;
mod set;

pub use embed::{DIMENSIONS, embed};
pub use files::{
    ArchiveWriter, Collection, CollectionWriter, Content, DOCUMENT_BYTES_MAX, DataError, DataFile,
    Piece, hash, is_data_file, read,
};
pub use listings::truth::Truth;
pub use set::{DataSet, SetName};
