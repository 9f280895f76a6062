//! Codes that bring another device of a participant to their seat: shown on the
//! seat page, typed or scanned once, within minutes. They live in memory like
//! hand-overs, one for each seat: a new one ends the one before.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use arena_workshop::SeatId;

use crate::links::{hash, random_code};
use crate::seats::SeatRecord;
use crate::store::Store;
use crate::types::Actor;
use crate::writer::WriteError;

/// How long a code can be redeemed.
const CODE_LIFE: Duration = Duration::from_secs(5 * 60);

impl Store {
    /// Makes a code of six capital letters that brings one other device to a seat, and returns it
    /// with how long it holds; `None` when nobody sits there. It ends the seat's code before it.
    ///
    /// # Errors
    /// When the machine gives no random numbers.
    pub fn create_device_code(
        &self,
        seat: &SeatId,
    ) -> Result<Option<(String, Duration)>, WriteError> {
        let Some(record) = self.seat(seat).filter(sits) else {
            return Ok(None);
        };
        let now = Instant::now();
        let mut devices = self.shared().devices();
        loop {
            let code = random_code()?;
            // A code that lets in somebody else as well would be two answers to one question.
            if code != self.event_code() && devices.add(&code, &record, now) {
                return Ok(Some((code, CODE_LIFE)));
            }
        }
    }

    /// Redeems such a code, once, and returns its seat. `None`: there is no such code, it is too
    /// old, or its seat was given back meanwhile.
    ///
    /// # Errors
    /// When the audit log could not be written; the code is spent all the same.
    pub async fn redeem_device_code(&self, code: &str) -> Result<Option<SeatId>, WriteError> {
        let taken = self.shared().devices().take(code, Instant::now());
        let Some(device) = taken else {
            return Ok(None);
        };
        let is_same = |record: &SeatRecord| sits(record) && record.sitting == device.sitting;
        if !self.seat(&device.seat).as_ref().is_some_and(is_same) {
            return Ok(None);
        }
        let by = Actor::Participant(device.seat.clone());
        self.audit(by, "other_device", device.seat.as_str()).await?;
        Ok(Some(device.seat))
    }
}

fn sits(record: &SeatRecord) -> bool {
    record.taken.is_some() && !record.decommissioned
}

/// Codes that were made and not redeemed, by their hash.
#[derive(Default)]
pub(crate) struct Devices {
    waiting: HashMap<[u8; 32], Device>,
}

struct Device {
    seat: SeatId,
    sitting: i64,
    until: Instant,
}

impl Devices {
    /// Adds a seat's code in place of its last one; false when another seat has the same.
    fn add(&mut self, code: &str, record: &SeatRecord, now: Instant) -> bool {
        self.waiting
            .retain(|_, device| device.seat != record.seat && device.until >= now);
        let code = hash(code.as_bytes());
        if self.waiting.contains_key(&code) {
            return false;
        }
        let device = Device {
            seat: record.seat.clone(),
            sitting: record.sitting,
            until: now + CODE_LIFE,
        };
        self.waiting.insert(code, device);
        true
    }

    fn take(&mut self, code: &str, now: Instant) -> Option<Device> {
        self.waiting
            .remove(&hash(code.as_bytes()))
            .filter(|device| device.until >= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seats::SeatStatus;

    fn record(seat: &str) -> SeatRecord {
        SeatRecord {
            seat: SeatId::new(seat).unwrap(),
            display_name: seat.to_owned(),
            listed: true,
            taken: None,
            excluded: false,
            decommissioned: false,
            status: SeatStatus::default(),
            sitting: 1,
        }
    }

    #[test]
    fn a_code_lets_in_once_and_not_for_long() {
        let (mut devices, now) = (Devices::default(), Instant::now());
        assert!(devices.add("BCDFGH", &record("ada"), now));
        assert!(
            !devices.add("BCDFGH", &record("bob"), now),
            "two seats, one code"
        );
        assert_eq!(devices.take("BCDFGH", now).unwrap().seat.as_str(), "ada");
        assert!(devices.take("BCDFGH", now).is_none(), "spent");
        devices.add("BCDFGH", &record("ada"), now);
        let late = now + CODE_LIFE + Duration::from_millis(1);
        assert!(devices.take("BCDFGH", late).is_none(), "too old");
    }

    #[test]
    fn a_seats_new_code_ends_its_old_one_and_nobody_elses() {
        let (mut devices, now) = (Devices::default(), Instant::now());
        devices.add("BBBBBB", &record("ada"), now);
        devices.add("CCCCCC", &record("bob"), now);
        devices.add("DDDDDD", &record("ada"), now);
        assert!(devices.take("BBBBBB", now).is_none());
        assert!(devices.take("CCCCCC", now).is_some());
        assert!(devices.take("DDDDDD", now).is_some());
    }
}
