//! What must survive an event: people in seats, attempts, results, orders,
//! events, sessions and the audit log, in one SQLite file with one writer.
//!
//! Everything awaited is committed with `synchronous=FULL` before it is
//! answered; requests that arrive together share one commit. Reads come from
//! a model in memory that changes only after the commit. The store knows
//! nothing of HTTP, ranking or processes. Begin reading at [`Store`].

mod attempts;
mod connections;
mod devices;
mod events;
mod links;
mod model;
mod orders;
mod schema;
mod seats;
mod sessions;
mod settings;
mod store;
mod types;
mod visits;
mod waiting;
mod writer;

pub use attempts::{Attempt, AttemptId, AttemptRecord, CheckOutcome, ExerciseState, ResultRow};
pub use connections::{ConnectionReport, ConnectionTest};
pub use events::{Event, EventKind};
pub use orders::{Order, OrderId, OrderKind, OrderState, Trigger};
pub use seats::{
    AppState, AppStatus, DatabaseStatus, DatabaseUse, EditorStatus, PostgresRoom, PostgresUse,
    SeatPhase, SeatRecord, SeatSpec, SeatStatus, TakeError, Taken,
};
pub use sessions::{Session, SessionSecret};
pub use settings::AuditEntry;
pub use store::{OpenError, Store};
pub use types::{Actor, Principal, UnknownPrincipal};
pub use visits::Visit;
pub use waiting::{Seated, Standing, Waiting, WaitingId};
pub use writer::WriteError;
