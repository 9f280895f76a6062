//! The database engine of this machine: PostgreSQL 18 with DocumentDB and
//! pgvector, as one relocatable folder tree in the tool cache. It owns where the
//! tree comes from, how its programs start, and the data directory of the
//! built-in MongoDB-compatible database. It knows no MongoDB and no seats: the
//! front in `arena-mongo` speaks to the socket that this engine opens, and a
//! plain PostgreSQL cluster uses the same [`EngineTree`].
//!
//! Begin reading at [`ensure`], then [`EngineTree::command`], then [`Engine`].

mod apt;
mod archive;
mod data;
mod install;
mod make;
pub(crate) mod server;
mod tree;

pub use crate::leftover::end_server_for_good;
pub use archive::EngineArchive;
pub use data::{Engine, FRONT_ROLE};
pub use install::{InstallError, InstallProgress, InstallSettings, ensure};
pub use make::{MadeArchive, make_archive};
pub use server::{OsUser, PrepareError};
pub use tree::{EngineTree, Invocation, TreeError};
