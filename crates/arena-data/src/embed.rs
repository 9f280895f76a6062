//! Small vectors for texts: a lexicon of topics, counted, plus a little of every
//! other word, scaled to length one with four decimals. Made with integers, so a
//! text has the same vector on every machine, and nothing has to be downloaded.

use crate::listings::words::TOPICS;

/// Numbers of a vector.
pub const DIMENSIONS: usize = 16;

/// What a word of a topic weighs, against at most 63 of any other word.
const TOPIC_WEIGHT: i64 = 1000;

/// Returns the vector of a text, in ten-thousandths.
pub(crate) fn embed_scaled(text: &str) -> [i64; DIMENSIONS] {
    let mut counts = [0_i64; DIMENSIONS];
    let lower = text.to_lowercase();
    for word in lower
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| word.len() > 2)
    {
        let topic = TOPICS
            .iter()
            .position(|(_, words)| words.contains(&word) || words.contains(&singular(word)));
        match topic {
            Some(topic) => counts[topic] += TOPIC_WEIGHT,
            None => {
                let hash = word.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
                    (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
                });
                let place = usize::try_from(hash % 16).unwrap_or(0);
                counts[place] += i64::from((hash >> 8) % 64);
            }
        }
    }
    let squares: i64 = counts.iter().map(|count| count * count).sum();
    if squares == 0 {
        return [2500; DIMENSIONS];
    }
    // Sixteen binary digits more, so that rounding does not show in the fourth decimal.
    let length = (squares << 16).isqrt();
    counts.map(|count| (count * 10_000 * 256 + length / 2) / length)
}

/// Returns the vector of a text: [`DIMENSIONS`] numbers with four decimals, of length one.
///
/// ```
/// let near = |a: &str, b: &str| -> f64 {
///     arena_data::embed(a).iter().zip(arena_data::embed(b)).map(|(a, b)| a * b).sum()
/// };
/// let query = "cozy apartment near beach";
/// assert!(near(query, "Steps from the sand and the sea.") > near(query, "Next to the ski lift."));
/// ```
pub fn embed(text: &str) -> Vec<f64> {
    embed_scaled(text)
        .iter()
        .map(|part| decimal(*part))
        .collect()
}

/// Ten-thousandths as the nearest floating point number: the same as parsing its decimals.
pub(crate) fn decimal(part: i64) -> f64 {
    f64::from(i32::try_from(part).unwrap_or(i32::MAX)) / 10_000.0
}

fn singular(word: &str) -> &str {
    word.strip_suffix('s').unwrap_or(word)
}
