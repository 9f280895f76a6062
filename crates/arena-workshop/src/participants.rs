//! `user_list.csv` and spare seats: who sits where.

use serde::{Deserialize, Serialize};

use crate::SeatId;

/// All seats of the event, listed ones first, in order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Participants {
    /// The seats.
    pub seats: Vec<Seat>,
}

/// A place at the event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Seat {
    /// Unique and never reserved.
    pub id: SeatId,
    /// The person it was made for; `None` for a spare seat.
    pub person: Option<Person>,
}

/// A person on the list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Person {
    /// Name and surname, else the seat's id.
    pub display_name: String,
    /// E-mail as written.
    pub email: String,
}
