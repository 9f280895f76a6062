//! The numbers that a `$bucketAuto` with a granularity prefers for the bounds of its
//! buckets, and expressions that round to them. A rounded number is never the number
//! itself; only zero stays what it is.

use bson::{Bson, Decimal128, bson, doc};

use super::raising::{raise_whole, refuse};

/// Numbers beyond ten to this power, or below its inverse, are refused.
const POWERS: i32 = 27;
const POWERS_OF_TWO: i32 = 100;

/// The variable that holds what scales a series: powers of ten.
const SCALES: &str = "$$arenaScales";

/// The numbers to which bounds are rounded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Granularity {
    PowersOfTwo,
    /// Preferred numbers of one decade, in order; all others are these with another power of ten.
    Series(&'static [u16]),
}

impl Granularity {
    pub(super) fn named(name: &str) -> Option<Self> {
        let series: &'static [u16] = match name {
            "POWERSOF2" => return Some(Self::PowersOfTwo),
            "R5" => &[10, 16, 25, 40, 63],
            "R10" => &[100, 125, 160, 200, 250, 315, 400, 500, 630, 800],
            "R20" => &R20,
            "R40" => &R40,
            "R80" => &R80,
            "1-2-5" => &[10, 20, 50],
            "E6" => &[10, 15, 22, 33, 47, 68],
            "E12" => &[10, 12, 15, 18, 22, 27, 33, 39, 47, 56, 68, 82],
            "E24" => &E24,
            "E48" => &E48,
            "E96" => &E96,
            "E192" => &E192,
            _ => return None,
        };
        Some(Self::Series(series))
    }

    /// The next number above.
    pub(super) fn up(self, value: &Bson) -> Bson {
        self.rounded(value, "$gt", "$first")
    }

    /// The next number below.
    pub(super) fn down(self, value: &Bson) -> Bson {
        self.rounded(value, "$lt", "$last")
    }

    fn rounded(self, value: &Bson, compares: &str, end: &str) -> Bson {
        let found = |input: Bson, compared: Bson| {
            let is_beyond = bson!({ compares: [compared, "$$arenaRounded"] });
            bson!({ end: { "$filter": { "input": input, "as": "arenaNumber", "cond": is_beyond } } })
        };
        let rounded = match self {
            Self::PowersOfTwo => found(powers_of_two(), "$$arenaNumber".into()),
            Self::Series(series) => {
                let edge = if compares == "$gt" {
                    series.last()
                } else {
                    series.first()
                };
                let scaled = |factor: Bson| bson!({ "$multiply": [factor, "$$arenaNumber"] });
                let of_kind = |decimal: Bson, double: Bson| bson!({ "$cond": [{ "$eq": [{ "$type": "$$arenaRounded" }, "decimal"] }, decimal, double] });
                let edge = edge.copied().unwrap_or_default();
                let edge = of_kind(decimal(edge), f64::from(edge).into());
                let scale = found(
                    of_kind(
                        format!("{SCALES}.decimals").into(),
                        format!("{SCALES}.doubles").into(),
                    ),
                    scaled(edge),
                );
                let decimals: Vec<Bson> = series.iter().copied().map(decimal).collect();
                let doubles: Vec<f64> = series.iter().copied().map(f64::from).collect();
                let series = of_kind(
                    bson!({ "$literal": decimals }),
                    bson!({ "$literal": doubles }),
                );
                let number = found(series, scaled("$$arenaScale".into()));
                bson!({ "$let": {
                    "vars": { "arenaScale": scale },
                    "in": { "$multiply": [number, "$$arenaScale"] },
                } })
            }
        };
        bson!({ "$let": {
            "vars": { "arenaRounded": value.clone() },
            "in": { "$cond": [{ "$eq": ["$$arenaRounded", 0] }, "$$arenaRounded", rounded] },
        } })
    }

    /// An expression in which numbers are rounded.
    pub(super) fn within(self, expression: Bson) -> Bson {
        let Self::Series(_) = self else {
            return expression;
        };
        // What a double holds after several steps is what MongoDB's has, too.
        let (mut above, mut below) = (1.0, 1.0);
        let (mut doubles, mut decimals) = (vec![1.0], vec![scale(0)]);
        for power in 1..=POWERS + 3 {
            above *= 10.0;
            below /= 10.0;
            doubles.insert(0, below);
            doubles.push(above);
            decimals.insert(0, scale(-power));
            decimals.push(scale(power));
        }
        let scales = doc! { "doubles": doubles, "decimals": decimals };
        bson!({ "$let": { "vars": { "arenaScales": { "$literal": scales } }, "in": expression } })
    }

    /// A value to group by, which fails where it cannot be rounded.
    pub(super) fn checked(self, key: &Bson) -> Bson {
        let key_is = |operator: &str, value: Bson| bson!({ operator: ["$$arenaKey", value] });
        let beyond = |power: i32| 10_f64.powi(power);
        let mut branches = vec![
            bson!({
                "case": { "$not": [{ "$isNumber": "$$arenaKey" }] },
                "then": raise_whole(40258, NO_NUMBER, "$$arenaKey"),
            }),
            bson!({
                "case": key_is("$eq", f64::NAN.into()),
                "then": raise_whole(40259, NOT_A_NUMBER, "$$arenaKey"),
            }),
            bson!({
                "case": key_is("$lt", 0.into()),
                "then": raise_whole(40260, NEGATIVE, "$$arenaKey"),
            }),
            bson!({
                "case": { "$or": [
                    key_is("$gt", beyond(POWERS).into()),
                    { "$and": [key_is("$gt", 0.into()), key_is("$lt", beyond(-POWERS).into())] },
                ] },
                "then": refuse("$bucketAuto with a granularity of so large or small numbers", "$$arenaKey"),
            }),
        ];
        if self == Self::PowersOfTwo {
            branches.push(bson!({
                "case": { "$eq": [{ "$type": "$$arenaKey" }, "decimal"] },
                "then": refuse("$bucketAuto with powers of two of decimals", "$$arenaKey"),
            }));
        }
        bson!({ "$let": {
            "vars": { "arenaKey": key.clone() },
            "in": { "$switch": { "branches": branches, "default": "$$arenaKey" } },
        } })
    }
}

/// Powers of two, of the type that MongoDB computes them in.
fn powers_of_two() -> Bson {
    let powers = (-POWERS_OF_TWO..=POWERS_OF_TWO).map(|power| match power {
        0..=30 => Bson::Int32(1 << power),
        31..=62 => Bson::Int64(1 << power),
        _ => Bson::Double(2_f64.powi(power)),
    });
    bson!({ "$literal": powers.collect::<Vec<_>>() })
}

/// A number of a series as a decimal, with the digits that MongoDB takes of a double.
fn decimal(number: u16) -> Bson {
    let places = if number < 100 { 13 } else { 12 };
    text_decimal(&format!("{number}.{}", "0".repeat(places)))
}

fn scale(power: i32) -> Bson {
    let zeros = "0".repeat(usize::try_from(power.unsigned_abs()).unwrap_or_default());
    let text = if power < 0 {
        format!("0.{}1", &zeros[1..])
    } else {
        format!("1{zeros}")
    };
    text_decimal(&text)
}

fn text_decimal(text: &str) -> Bson {
    let number: Decimal128 = text.parse().expect("digits with a point are a decimal");
    Bson::Decimal128(number)
}

const NO_NUMBER: &str = "$bucketAuto can specify a 'granularity' with numeric boundaries only, but found a value of another type";
const NOT_A_NUMBER: &str =
    "$bucketAuto can specify a 'granularity' with numeric boundaries only, but found a NaN";
const NEGATIVE: &str = "$bucketAuto can specify a 'granularity' with non-negative numbers only, but found a negative number";

const R20: [u16; 20] = [
    100, 112, 125, 140, 160, 180, 200, 224, 250, 280, 315, 355, 400, 450, 500, 560, 630, 710, 800,
    900,
];
const R40: [u16; 39] = [
    100, 106, 112, 118, 125, 132, 140, 150, 160, 170, 180, 190, 200, 212, 224, 236, 250, 265, 280,
    300, 315, 355, 375, 400, 425, 450, 475, 500, 530, 560, 600, 630, 670, 710, 750, 800, 850, 900,
    950,
];
const R80: [u16; 40] = [
    103, 109, 115, 122, 128, 136, 145, 155, 165, 175, 185, 195, 206, 218, 230, 243, 258, 272, 290,
    307, 325, 345, 365, 387, 412, 437, 462, 487, 515, 545, 575, 615, 650, 690, 730, 775, 825, 875,
    925, 975,
];
const E24: [u16; 24] = [
    10, 11, 12, 13, 15, 16, 18, 20, 22, 24, 27, 30, 33, 36, 39, 43, 47, 51, 56, 62, 68, 75, 82, 91,
];
const E48: [u16; 48] = [
    100, 105, 110, 115, 121, 127, 133, 140, 147, 154, 162, 169, 178, 187, 196, 205, 215, 226, 237,
    249, 261, 274, 287, 301, 316, 332, 348, 365, 383, 402, 422, 442, 464, 487, 511, 536, 562, 590,
    619, 649, 681, 715, 750, 787, 825, 866, 909, 953,
];
const E96: [u16; 96] = [
    100, 102, 105, 107, 110, 113, 115, 118, 121, 124, 127, 130, 133, 137, 140, 143, 147, 150, 154,
    158, 162, 165, 169, 174, 178, 182, 187, 191, 196, 200, 205, 210, 215, 221, 226, 232, 237, 243,
    249, 255, 261, 267, 274, 280, 287, 294, 301, 309, 316, 324, 332, 340, 348, 357, 365, 374, 383,
    392, 402, 412, 422, 432, 442, 453, 464, 475, 487, 499, 511, 523, 536, 549, 562, 576, 590, 604,
    619, 634, 649, 665, 681, 698, 715, 732, 750, 768, 787, 806, 825, 845, 866, 887, 909, 931, 953,
    976,
];
const E192: [u16; 192] = [
    100, 101, 102, 104, 105, 106, 107, 109, 110, 111, 113, 114, 115, 117, 118, 120, 121, 123, 124,
    126, 127, 129, 130, 132, 133, 135, 137, 138, 140, 142, 143, 145, 147, 149, 150, 152, 154, 156,
    158, 160, 162, 164, 165, 167, 169, 172, 174, 176, 178, 180, 182, 184, 187, 189, 191, 193, 196,
    198, 200, 203, 205, 208, 210, 213, 215, 218, 221, 223, 226, 229, 232, 234, 237, 240, 243, 246,
    249, 252, 255, 258, 261, 264, 267, 271, 274, 277, 280, 284, 287, 291, 294, 298, 301, 305, 309,
    312, 316, 320, 324, 328, 332, 336, 340, 344, 348, 352, 357, 361, 365, 370, 374, 379, 383, 388,
    392, 397, 402, 407, 412, 417, 422, 427, 432, 437, 442, 448, 453, 459, 464, 470, 475, 481, 487,
    493, 499, 505, 511, 517, 523, 530, 536, 542, 549, 556, 562, 569, 576, 583, 590, 597, 604, 612,
    619, 626, 634, 642, 649, 657, 665, 673, 681, 690, 698, 706, 715, 723, 732, 741, 750, 759, 768,
    777, 787, 796, 806, 816, 825, 835, 845, 856, 866, 876, 887, 898, 909, 920, 931, 942, 953, 965,
    976, 988,
];
