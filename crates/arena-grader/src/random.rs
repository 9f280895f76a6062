//! Random values of a run, such as a marker's name. The same seed and key
//! always give the same value, so that `{{ random.name }}` in the request and
//! in the expectation is one name.

use bson::Bson;
use sha2::{Digest, Sha256};

const FIRST: [&str; 16] = [
    "Ada", "Bo", "Cleo", "Dara", "Elif", "Finn", "Grace", "Hugo", "Ines", "Jun", "Kofi", "Lena",
    "Mira", "Nils", "Ona", "Pia",
];
const SECOND: [&str; 16] = [
    "Alder", "Birch", "Cedar", "Dune", "Ember", "Fjord", "Gale", "Heron", "Iris", "Kestrel",
    "Lark", "Moss", "North", "Osprey", "Pike", "Reed",
];
const WORDS: [&str; 16] = [
    "amber", "breeze", "coral", "drift", "echo", "flint", "glow", "harbour", "island", "jetty",
    "kelp", "lantern", "meadow", "north", "orchard", "pebble",
];

/// Random values of one check's run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Random {
    seed: u64,
}

impl Random {
    /// Returns the values of a seed; runs of different checks differ.
    pub(crate) fn new(seed: u64, check: usize) -> Self {
        let digest = Sha256::new()
            .chain_update(seed.to_le_bytes())
            .chain_update(check.to_le_bytes())
            .finalize();
        Self {
            seed: first_eight(&digest),
        }
    }

    /// Returns the value of a key such as `name` or `name2`.
    pub(crate) fn value(self, key: &str) -> Bson {
        let digest = Sha256::new()
            .chain_update(self.seed.to_le_bytes())
            .chain_update(key)
            .finalize();
        let number = first_eight(&digest);
        let pick = |list: &[&'static str; 16], byte: usize| list[usize::from(digest[byte] % 16)];
        match key.trim_end_matches(|c: char| c.is_ascii_digit()) {
            "name" => Bson::String(format!(
                "{} {} {}",
                pick(&FIRST, 8),
                pick(&SECOND, 9),
                1000 + number % 9000
            )),
            "word" => Bson::String(format!("{}{}", pick(&WORDS, 8), 1000 + number % 9000)),
            "sentence" => {
                let words: Vec<&str> = (8..13).map(|byte| pick(&WORDS, byte)).collect();
                Bson::String(format!("{} {}", words.join(" "), number % 100_000))
            }
            "integer" => Bson::Int64(i64::try_from(1 + number % 1_000_000).unwrap_or(1)),
            "price" => Bson::Double(
                f64::from(u32::try_from(1000 + number % 99_000).unwrap_or(1000)) / 100.0,
            ),
            "digits" => Bson::String(format!("{:012}", number % 1_000_000_000_000)),
            _ => Bson::String(
                digest[..12]
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect(),
            ),
        }
    }
}

fn first_eight(digest: &[u8]) -> u64 {
    digest
        .iter()
        .take(8)
        .fold(0, |number, byte| (number << 8) | u64::from(*byte))
}
