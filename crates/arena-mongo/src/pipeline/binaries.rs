//! Numbers that are read from their bytes, the least one first: an int from one, two or
//! four, a long from eight as well, a double from four or eight. The engine has them only
//! as texts of bytes. And what of a text is no number to MongoDB.

use bson::spec::BinarySubtype;
use bson::{Binary, Bson, bson};

const VALUE: &str = "$$arenaBytes";
const TEXT: &str = "$$arenaText";
const DIGITS: &str = "0123456789abcdef";

/// What the engine passes over before a whole number, and not where a space stands before it.
const PASSED: [char; 4] = ['\t', '\u{b}', '\u{c}', '\r'];

/// `$toInt`, `$toLong` and `$toDouble`.
pub(super) fn converted(name: &str, operand: &Bson) -> Bson {
    let to = match name {
        "$toInt" => "int",
        "$toLong" => "long",
        _ => "double",
    };
    bson!({ name: read(to, operand) })
}

/// Returns the operand of a conversion with the number that its bytes are, if it may be bytes.
pub(super) fn read(to: &str, operand: &Bson) -> Bson {
    match operand {
        Bson::Array(one) if one.len() == 1 => Bson::Array(vec![read(to, &one[0])]),
        Bson::Binary(binary) => number(to, binary).unwrap_or_else(|| operand.clone()),
        Bson::String(text) if to != "double" && text.starts_with(PASSED) => {
            Bson::String(format!(" {text}"))
        }
        Bson::String(path) if path.starts_with('$') && !path.starts_with("$$arena") => {
            let read = bson!({ "$let": { "vars": { "arenaText": text() }, "in": computed(to) } });
            let is_type = |name: &str| bson!({ "$eq": [{ "$type": VALUE }, name] });
            let passed: String = PASSED.iter().collect();
            let begins =
                bson!({ "$regexMatch": { "input": VALUE, "regex": format!("^[{passed}]") } });
            let begins = bson!({ "$cond": [is_type("string"), begins, false] });
            let mut branches = vec![bson!({ "case": is_type("binData"), "then": read })];
            if to != "double" {
                branches.push(bson!({ "case": begins, "then": { "$concat": [" ", VALUE] } }));
            }
            bson!({ "$let": {
                "vars": { "arenaBytes": path },
                "in": { "$switch": { "branches": branches, "default": VALUE } },
            } })
        }
        other => other.clone(),
    }
}

fn number(to: &str, binary: &Binary) -> Option<Bson> {
    let mut bytes = binary.bytes.clone();
    if binary.subtype == BinarySubtype::BinaryOld {
        let length = u32::try_from(bytes.len()).ok()?;
        bytes.splice(0..0, length.to_le_bytes());
    }
    let whole = || match bytes.as_slice() {
        [one] => Some(i64::from(i8::from_le_bytes([*one]))),
        bytes if bytes.len() == 2 => Some(i64::from(i16::from_le_bytes(bytes.try_into().ok()?))),
        bytes if bytes.len() == 4 => Some(i64::from(i32::from_le_bytes(bytes.try_into().ok()?))),
        bytes if bytes.len() == 8 => Some(i64::from_le_bytes(bytes.try_into().ok()?)),
        _ => None,
    };
    match (to, bytes.len()) {
        ("double", 4) => {
            let number = f32::from_le_bytes(bytes.as_slice().try_into().ok()?);
            Some(Bson::Double(f64::from(number)))
        }
        ("double", 8) => {
            let number = f64::from_le_bytes(bytes.as_slice().try_into().ok()?);
            Some(Bson::Double(number))
        }
        ("int", 1 | 2 | 4) => Some(Bson::Int32(i32::try_from(whole()?).ok()?)),
        ("long", _) => whole().map(Bson::Int64),
        _ => None,
    }
}

fn text() -> Bson {
    bson!({ "$toLower": { "$convert": { "input": VALUE, "to": "string", "format": "hex" } } })
}

/// One of the bytes.
fn byte(at: i64) -> Bson {
    let digit =
        |place: i64| bson!({ "$indexOfBytes": [DIGITS, { "$substrBytes": [TEXT, place, 1] }] });
    bson!({ "$add": [{ "$multiply": [digit(2 * at), 16] }, digit(2 * at + 1)] })
}

/// The first bytes as a number without a sign.
fn unsigned(bytes: i64) -> Bson {
    let parts = (0..bytes).map(|at| bson!({ "$multiply": [byte(at), 1_i64 << (8 * at)] }));
    let mut parts: Vec<Bson> = parts.collect();
    parts.push(Bson::Int64(0));
    bson!({ "$add": parts })
}

fn signed(bytes: i64) -> Bson {
    let last = bytes - 1;
    let top = bson!({ "$subtract": ["$$arenaTop", { "$cond": [{ "$gte": ["$$arenaTop", 128] }, 256, 0] }] });
    bson!({ "$let": { "vars": { "arenaTop": byte(last) }, "in": {
        "$add": [unsigned(last), { "$multiply": [top, 1_i64 << (8 * last)] }],
    } } })
}

/// The double whose mantissa has so many bits, and whose exponent is so much less.
fn double(bytes: i64, bits: i64, less: i64) -> Bson {
    let last = bytes - 1;
    // The exponent's bits beside the mantissa's in the last byte but one.
    let shift = 1_i64 << (bits - 8 * (last - 1));
    let most = if bits == 52 { 2047 } else { 255 };
    let exponent = bson!({ "$add": [
        { "$multiply": [{ "$mod": [byte(last), 128] }, 256 / shift] },
        { "$floor": { "$divide": [byte(last - 1), shift] } },
    ] });
    let high =
        bson!({ "$multiply": [{ "$mod": [byte(last - 1), shift] }, 1_i64 << (8 * (last - 1))] });
    let mantissa = bson!({ "$add": [unsigned(last - 1), high] });
    let half = bson!({ "$floor": { "$divide": ["$$arenaPower", 2] } });
    let rest = bson!({ "$subtract": ["$$arenaPower", half.clone()] });
    let scaled = |mantissa: Bson, power: Bson| {
        let product = bson!({ "$multiply": [
            { "$toDouble": mantissa }, { "$pow": [2.0, half.clone()] }, { "$pow": [2.0, rest.clone()] },
        ] });
        bson!({ "$let": { "vars": { "arenaPower": power }, "in": product } })
    };
    let endless = bson!({ "$cond": [{ "$eq": ["$$arenaMantissa", 0] }, f64::INFINITY, f64::NAN] });
    let whole = bson!({ "$add": ["$$arenaMantissa", 1_i64 << bits] });
    let size = bson!({ "$switch": {
        "branches": [
            { "case": { "$eq": ["$$arenaExponent", most] }, "then": endless },
            { "case": { "$eq": ["$$arenaExponent", 0] }, "then": scaled(bson!("$$arenaMantissa"), bson!(1 - less)) },
        ],
        "default": scaled(whole, bson!({ "$subtract": ["$$arenaExponent", less] })),
    } });
    let sign = bson!({ "$cond": [{ "$gte": [byte(last), 128] }, -1.0, 1.0] });
    bson!({ "$let": {
        "vars": { "arenaExponent": exponent, "arenaMantissa": mantissa },
        "in": { "$multiply": [size, sign] },
    } })
}

/// The number that the bytes are; the bytes themselves where there are not as many as one has.
fn computed(to: &str) -> Bson {
    let of = |bytes: i32, number: Bson| bson!({ "case": { "$eq": [{ "$strLenBytes": TEXT }, 2 * bytes] }, "then": number });
    let branches = match to {
        "double" => vec![of(4, double(4, 23, 150)), of(8, double(8, 52, 1075))],
        "int" => vec![of(1, signed(1)), of(2, signed(2)), of(4, signed(4))],
        _ => vec![
            of(1, signed(1)),
            of(2, signed(2)),
            of(4, signed(4)),
            of(8, signed(8)),
        ],
    };
    bson!({ "$switch": { "branches": branches, "default": VALUE } })
}
