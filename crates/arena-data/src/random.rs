//! The generator's random numbers: SplitMix64 over integers. Our own, because
//! the same seed must give the same bytes in every release and on every machine;
//! no floating point and no crate decides here.

/// A stream of numbers, decided by a seed and the number of the stream.
pub(crate) struct Random(u64);

/// Quantiles of a log-normal distribution (σ = 0.55), in thousandths of its median.
const LOG_NORMAL: [u64; 65] = [
    221, 334, 378, 413, 443, 470, 494, 517, 539, 560, 581, 601, 620, 639, 658, 676, 695, 713, 731,
    749, 768, 786, 804, 823, 842, 860, 879, 899, 918, 938, 958, 979, 1000, 1021, 1043, 1066, 1089,
    1113, 1137, 1162, 1188, 1215, 1243, 1272, 1303, 1334, 1368, 1403, 1440, 1479, 1520, 1565, 1613,
    1665, 1722, 1785, 1854, 1933, 2024, 2130, 2259, 2422, 2645, 2994, 4533,
];

/// Means of [`Random::poisson`], each with e^-mean as a fraction of 2^32.
const POISSON: [(u32, u64); 5] = [
    (1, 1_580_030_169),
    (2, 581_260_615),
    (4, 78_665_070),
    (7, 3_916_503),
    (12, 26_389),
];

impl Random {
    /// Returns a stream; two numbers of one seed give unrelated streams.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let mut random = Self(seed ^ stream.wrapping_mul(0xd134_2543_de82_ef95));
        random.next();
        random
    }

    /// Returns the next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `end`, which is not zero.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        let wide = u128::from(self.next()) * u128::from(end);
        u64::try_from(wide >> 64).expect("a product of 64 bits, its upper half")
    }

    /// Returns a number from `first` to `last`, both included.
    pub(crate) fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }

    /// Returns true in `percent` of a hundred cases.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Returns one of these, which are not none.
    pub(crate) fn pick<T: Copy>(&mut self, among: &[T]) -> T {
        among[self.index(among.len())]
    }

    /// Returns some of these in their order, each one at most once.
    pub(crate) fn some<'a, T>(&mut self, among: &'a [T], count: usize) -> Vec<&'a T> {
        let mut chosen: Vec<usize> = (0..among.len()).collect();
        while chosen.len() > count {
            chosen.remove(self.index(chosen.len()));
        }
        chosen.into_iter().map(|index| &among[index]).collect()
    }

    /// Returns a log-normal number around a median.
    pub(crate) fn log_normal(&mut self, median: u64) -> u64 {
        let place = self.below(64_000);
        let (step, part) = (usize::try_from(place / 1000).unwrap_or(0), place % 1000);
        let (low, high) = (LOG_NORMAL[step], LOG_NORMAL[step + 1]);
        median * (low * 1000 + (high - low) * part) / 1_000_000
    }

    /// Returns a Poisson number with a mean of 1, 2, 4, 7 or 12, chosen by `which` from 0 to 4.
    pub(crate) fn poisson(&mut self, which: usize) -> u32 {
        let (mean, limit) = POISSON[which];
        let (mut count, mut product) = (0, 1_u64 << 32);
        loop {
            product = (product * (self.next() >> 32)) >> 32;
            if product < limit || count > mean * 4 {
                return count;
            }
            count += 1;
        }
    }

    /// Returns an index into something of that length, which is not zero.
    pub(crate) fn index(&mut self, length: usize) -> usize {
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        usize::try_from(self.below(length)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_these_numbers_for_ever() {
        let mut random = Random::new(7, 1);
        let numbers: Vec<u64> = (0..4).map(|_| random.next()).collect();
        assert_eq!(numbers, NUMBERS);
    }

    /// What the first release gave.
    const NUMBERS: [u64; 4] = [
        5_034_285_472_447_030_919,
        4_863_513_099_156_352_951,
        7_371_594_642_400_596_801,
        11_527_257_517_438_430_756,
    ];

    #[test]
    fn distributions_have_their_means() {
        let mut random = Random::new(1, 0);
        for (which, (mean, _)) in POISSON.into_iter().enumerate() {
            let sum: u32 = (0..20_000).map(|_| random.poisson(which)).sum();
            let off = sum.abs_diff(mean * 20_000);
            assert!(off < mean * 20_000 / 20 + 200, "mean {mean}: {sum}");
        }
        let mut prices: Vec<u64> = (0..20_001).map(|_| random.log_normal(10_000)).collect();
        prices.sort_unstable();
        assert!(prices[10_000].abs_diff(10_000) < 300, "{}", prices[10_000]);
        assert!(prices[19_000] > 22_000 && prices[1000] < 4700);
    }
}
