//! Variables that are computed once. MongoDB computes a variable of `$let` where it is
//! bound; the engine computes its expression again wherever the variable is read, so
//! that expressions nested in each other take twice or three times as long with each
//! level. The engine computes the elements of an array once: what is large and read
//! more than once is bound to the only element of one.

use std::collections::BTreeMap;

use bson::{Bson, Document, bson};

use crate::error::CommandError;

/// How often something is taken to be read where it is read for each element of an array.
const PER_ELEMENT: usize = 8;
/// So much may be computed again: what an expression is made of, times how often more than once.
const AGAIN_MAX: usize = 16;
/// Operators that compute something for each element, and what of them that is.
const LOOPS: [(&str, &str); 3] = [("$map", "in"), ("$filter", "cond"), ("$reduce", "in")];

/// So deep may be what the engine gets: what reads and writes it takes some of the stack for each level.
const DEPTH_MAX: usize = 250;

/// Returns stages, or whatever holds expressions, with variables that are computed once, as far as that does not nest
/// them too deeply.
///
/// # Errors
/// Where they are nested too deeply already: written otherwise, a client's hundred levels may become a thousand.
pub(super) fn computed_once(value: Bson) -> Result<Bson, CommandError> {
    let shape = Shape::of(&value);
    if shape.depth > DEPTH_MAX {
        return Err(CommandError::not_supported(
            "expressions that are nested this deeply",
        ));
    }
    if !shape.has_let {
        return Ok(value);
    }
    let bound = Bindings::default().bind(value.clone()).value;
    let is_flat = Shape::of(&bound).depth <= DEPTH_MAX;
    Ok(if is_flat { bound } else { value })
}

#[derive(Default)]
struct Shape {
    depth: usize,
    has_let: bool,
}

impl Shape {
    fn of(value: &Bson) -> Self {
        let mut shape = Self::default();
        let mut add = |inner: Self| {
            shape.depth = shape.depth.max(inner.depth + 1);
            shape.has_let |= inner.has_let;
        };
        match value {
            Bson::Document(fields) => {
                fields.values().map(Self::of).for_each(&mut add);
                shape.has_let |= fields.contains_key("$let");
            }
            Bson::Array(values) => values.iter().map(Self::of).for_each(add),
            _ => {}
        }
        shape
    }
}

/// A value as it has to run.
struct Bound {
    value: Bson,
    /// How many values it is made of.
    size: usize,
    /// How often it computes each variable of around it.
    reads: BTreeMap<String, usize>,
}

#[derive(Default)]
struct Bindings {
    /// How many there are: each has a name of its own.
    count: usize,
}

impl Bindings {
    fn bind(&mut self, value: Bson) -> Bound {
        match value {
            Bson::Document(document) if document.contains_key("$literal") => {
                plain(Bson::Document(document))
            }
            Bson::Document(mut document) => match document.get_mut("$let") {
                Some(Bson::Document(parts)) if is_whole(parts) => {
                    let parts = std::mem::take(parts);
                    self.bind_let(parts)
                }
                _ => self.bind_fields(document),
            },
            Bson::Array(values) => {
                let mut array = plain(Bson::Null);
                let mut bound = Vec::new();
                for value in values {
                    let one = self.bind(value);
                    array.size += one.size;
                    array.add(one.reads, 1);
                    bound.push(one.value);
                }
                array.value = Bson::Array(bound);
                array
            }
            Bson::String(text) => {
                let variable = text.strip_prefix("$$").map(|path| path.split('.').next());
                let reads = variable.flatten().map(|variable| (variable.to_owned(), 1));
                Bound {
                    reads: reads.into_iter().collect(),
                    ..plain(Bson::String(text))
                }
            }
            other => plain(other),
        }
    }

    fn bind_fields(&mut self, document: Document) -> Bound {
        let mut all = plain(Bson::Null);
        let mut fields = Document::new();
        for (name, value) in document {
            let one = match (loop_of(&name), value) {
                (Some(part), Bson::Document(options)) => self.bind_loop(options, part),
                (_, value) => self.bind(value),
            };
            all.size += one.size;
            all.add(one.reads, 1);
            fields.insert(name, one.value);
        }
        all.value = Bson::Document(fields);
        all
    }

    fn bind_loop(&mut self, options: Document, part: &str) -> Bound {
        let element = options.get_str("as").unwrap_or("this").to_owned();
        let mut all = plain(Bson::Null);
        let mut bound = Document::new();
        for (option, value) in options {
            let mut one = self.bind(value);
            let times = if option == part {
                one.reads.remove(&element);
                PER_ELEMENT
            } else {
                1
            };
            all.size += one.size;
            all.add(one.reads, times);
            bound.insert(option, one.value);
        }
        all.value = Bson::Document(bound);
        all
    }

    /// Binds variables, of which those to be computed once become fields of an element.
    fn bind_let(&mut self, parts: Document) -> Bound {
        let (mut variables, mut body) = (Document::new(), plain(Bson::Null));
        for (part, value) in parts {
            match (part.as_str(), value) {
                ("vars", Bson::Document(bound)) => variables = bound,
                (_, value) => body = self.bind(value),
            }
        }
        let mut around = plain(Bson::Null);
        let (mut lazy, mut element) = (Document::new(), Document::new());
        let mut once = Vec::new();
        for (name, value) in variables {
            let times = body.reads.remove(&name).unwrap_or(0);
            let one = self.bind(value);
            around.size += one.size;
            let again = times.saturating_sub(1).saturating_mul(one.size);
            if again > AGAIN_MAX && matches!(one.value, Bson::Document(_) | Bson::Array(_)) {
                around.add(one.reads, 1);
                element.insert(&name, one.value);
                once.push(name);
            } else {
                around.add(one.reads, times);
                lazy.insert(name, one.value);
            }
        }
        around.size += body.size;
        around.add(body.reads, 1);
        if once.is_empty() {
            around.value = bson!({ "$let": { "vars": lazy, "in": body.value } });
            return around;
        }
        self.count += 1;
        let holder = format!("arenaOnce{}", self.count);
        for name in once {
            let field = format!("$${holder}.{name}");
            lazy.insert(name, field);
        }
        let computed = bson!({ "$let": { "vars": lazy, "in": body.value } });
        // In objects, in which what is missing stays missing.
        let each =
            bson!({ "$map": { "input": [element], "as": &holder, "in": { "value": computed } } });
        let value = format!("$${holder}.value");
        around.value = bson!({ "$let": {
            "vars": { holder: { "$arrayElemAt": [each, 0] } }, "in": value,
        } });
        around
    }
}

impl Bound {
    fn add(&mut self, reads: BTreeMap<String, usize>, times: usize) {
        for (variable, count) in reads {
            let sum = self.reads.entry(variable).or_default();
            *sum = sum.saturating_add(count.saturating_mul(times));
        }
    }
}

fn plain(value: Bson) -> Bound {
    Bound {
        value,
        size: 1,
        reads: BTreeMap::new(),
    }
}

/// What is wrong with another one the engine says.
fn is_whole(parts: &Document) -> bool {
    parts.len() == 2 && parts.contains_key("in") && parts.get_document("vars").is_ok()
}

fn loop_of(operator: &str) -> Option<&'static str> {
    let found = LOOPS.iter().find(|(name, _)| *name == operator);
    found.map(|(_, part)| *part)
}

#[cfg(test)]
mod tests {
    use super::super::expressions::rewritten;
    use super::*;

    /// How much the engine computes, which computes a variable wherever it is read.
    fn cost(value: &Bson, scope: &BTreeMap<String, f64>) -> f64 {
        match value {
            Bson::String(text) => {
                let variable = text
                    .strip_prefix("$$")
                    .and_then(|path| path.split('.').next());
                variable
                    .and_then(|variable| scope.get(variable))
                    .copied()
                    .unwrap_or(1.0)
            }
            Bson::Array(values) => 1.0 + values.iter().map(|value| cost(value, scope)).sum::<f64>(),
            Bson::Document(document) => match (document.get("$let"), document.get("$map")) {
                (Some(Bson::Document(parts)), _) => {
                    let mut inner = scope.clone();
                    for (name, value) in parts.get_document("vars").expect("it has variables") {
                        inner.insert(name.clone(), cost(value, scope));
                    }
                    1.0 + cost(&parts["in"], &inner)
                }
                (_, Some(Bson::Document(parts))) => {
                    let mut inner = scope.clone();
                    inner.insert(parts.get_str("as").unwrap_or("this").to_owned(), 1.0);
                    1.0 + cost(&parts["input"], scope) + cost(&parts["in"], &inner)
                }
                _ => {
                    1.0 + document
                        .values()
                        .map(|value| cost(value, scope))
                        .sum::<f64>()
                }
            },
            _ => 1.0,
        }
    }

    type Operator = fn(Bson) -> Bson;

    fn nested(operator: Operator, levels: usize) -> Bson {
        (0..levels).fold(Bson::String("$a".to_owned()), |inner, _| operator(inner))
    }

    #[test]
    fn what_is_nested_costs_as_much_as_it_is_long() {
        let operators: [(&str, Operator); 16] = [
            (
                "$let",
                |e| bson!({ "$let": { "vars": { "x": e }, "in": { "$max": ["$$x", "$$x", 1] } } }),
            ),
            ("$setUnion", |e| bson!({ "$setUnion": [e, "$a"] })),
            ("$setIsSubset", |e| bson!({ "$setIsSubset": [[e], "$a"] })),
            ("$sum", |e| bson!({ "$sum": [e, "$n", 1] })),
            ("$avg", |e| bson!({ "$avg": [e, "$n"] })),
            ("$add", |e| bson!({ "$add": [e, "$n"] })),
            ("$mod", |e| bson!({ "$mod": [e, "$n"] })),
            ("$round", |e| bson!({ "$round": [e, 1] })),
            ("$pow", |e| bson!({ "$pow": [e, 1] })),
            ("$stdDevPop", |e| bson!({ "$stdDevPop": [e, "$n"] })),
            ("$toDate", |e| bson!({ "$toDate": e })),
            (
                "$dateAdd",
                |e| bson!({ "$dateAdd": { "startDate": e, "unit": "day", "amount": 1 } }),
            ),
            (
                "$dateTrunc",
                |e| bson!({ "$dateTrunc": { "date": e, "unit": "day" } }),
            ),
            (
                "$dateFromString",
                |e| bson!({ "$dateFromString": { "dateString": { "$dateToString": { "date": e } } } }),
            ),
            (
                "$dateDiff",
                |e| bson!({ "$toDate": { "$dateDiff": { "startDate": e, "endDate": "$d", "unit": "day" } } }),
            ),
            (
                "$convert",
                |e| bson!({ "$convert": { "input": e, "to": "string" } }),
            ),
        ];
        let mut exploded = 0;
        for (name, operator) in operators {
            let [few, many] = [4, 12].map(|levels| {
                let run = rewritten(&nested(operator, levels)).expect("it is right");
                let once = Bindings::default().bind(run.clone()).value;
                (cost(&run, &BTreeMap::new()), cost(&once, &BTreeMap::new()))
            });
            assert!(
                many.1 < few.1 * 4.0,
                "{name}: {} at 4 levels, {} at 12",
                few.1,
                many.1
            );
            exploded += usize::from(many.0 > few.0 * 100.0);
        }
        // What they would cost otherwise.
        assert!(exploded > 5, "only {exploded} explode without");
    }

    #[test]
    fn nothing_is_nested_too_deeply_for_the_stack() {
        let dates = |levels| rewritten(&nested(|e| bson!({ "$toDate": e }), levels));
        for levels in [1, 5, 20] {
            let run = computed_once(dates(levels).expect("it is right"));
            assert!(run.is_ok_and(|run| Shape::of(&run).depth <= DEPTH_MAX));
        }
        let refused = computed_once(dates(60).expect("it is right"));
        assert_eq!(refused.map_err(|error| error.code), Err(115));
    }

    #[test]
    fn what_is_small_or_read_once_stays() {
        for stays in [
            bson!({ "$let": { "vars": { "x": { "$abs": "$a" } }, "in": { "$max": ["$$x", "$$x"] } } }),
            bson!({ "$let": { "vars": { "x": nested(|e| bson!({ "$abs": [e] }), 20) }, "in": { "$abs": "$$x" } } }),
            bson!({ "$literal": { "$let": { "vars": { "x": nested(|e| bson!({ "$abs": [e] }), 20) }, "in": ["$$x", "$$x"] } } }),
            bson!({ "$let": { "vars": 5, "in": 1 } }),
        ] {
            assert_eq!(computed_once(stays.clone()), Ok(stays));
        }
    }
}
