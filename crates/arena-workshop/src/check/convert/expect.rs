//! Expectations, and the names and placeholders that may stand in a check.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::{RANDOM, Reader};
use crate::Span;
use crate::check::placeholder::{Piece, Reference, Segment, pieces};
use crate::check::source::MatcherSource;
use crate::check::{Expectation, Matcher, Template};
use crate::yaml::{self, Node};

impl Reader<'_> {
    pub(super) fn expectation(
        &mut self,
        node: &Node,
        bound: &BTreeSet<String>,
        expect: &mut Vec<Expectation>,
    ) {
        let otherwise = node
            .get("otherwise")
            .and_then(Node::text)
            .map(str::to_owned);
        if let Some(node) = node.get("otherwise") {
            self.names(node, bound);
        }
        let paths: Vec<_> = node
            .entries()
            .iter()
            .filter(|entry| entry.key != "otherwise")
            .collect();
        if paths.is_empty() {
            self.fail(
                node.span,
                "this expectation looks at nothing",
                "write what is looked at and what it must be, such as `status: 200`",
            );
        }
        for entry in paths {
            match Reference::parse(&entry.key) {
                Ok(at) => {
                    self.name(&at, entry.key_span, bound);
                    self.names(&entry.value, bound);
                    let matchers = self.matchers(&entry.value);
                    expect.push(Expectation {
                        at,
                        matchers,
                        otherwise: otherwise.clone(),
                    });
                }
                Err(_) => {
                    let hint = "write a bound name and a path such as `status`, `body[0].name`";
                    self.fail(
                        entry.key_span,
                        format!("`{}` is not something to look at", entry.key),
                        hint,
                    );
                }
            }
        }
    }

    /// A mapping holds matchers; any other value is what it must equal.
    fn matchers(&mut self, node: &Node) -> Vec<Matcher> {
        if !matches!(node.value, yaml::Value::Mapping(_)) {
            return vec![Matcher::Equals(Template(node.to_json()))];
        }
        let Some(source) = yaml::read::<MatcherSource>(self.file, node, self.problems) else {
            self.failed = true;
            return Vec::new();
        };
        let length = source
            .length
            .and_then(|_| node.get("length"))
            .map(|node| self.matchers(node));
        let template = |json: Option<Json>| json.map(Template);
        let matchers = [
            template(source.equals).map(Matcher::Equals),
            template(source.unordered).map(Matcher::Unordered),
            template(source.subset).map(Matcher::Subset),
            template(source.contains).map(Matcher::Contains),
            source.matches.clone().map(Matcher::Matches),
            length.map(Matcher::Length),
            source.near.map(|near| Matcher::Near {
                value: Template(near.value),
                within: near.within,
            }),
            template(source.at_least).map(Matcher::AtLeast),
            template(source.at_most).map(Matcher::AtMost),
            template(source.one_of).map(Matcher::OneOf),
            source.absent.map(Matcher::Absent),
        ];
        if let Some(Err(error)) = source
            .matches
            .map(|pattern| regex_lite::Regex::new(&pattern))
        {
            self.fail(
                node.find(&["matches"]),
                format!("this is not a regular expression: {error}"),
                "look-around and back-references are not known",
            );
        }
        let matchers: Vec<Matcher> = matchers.into_iter().flatten().collect();
        if matchers.is_empty() {
            self.fail(
                node.span,
                "no matcher stands here",
                "write one such as `equals`, `contains` or `length`",
            );
        }
        matchers
    }

    /// Checks every placeholder below a node: its syntax, and that its name is bound.
    pub(super) fn names(&mut self, node: &Node, bound: &BTreeSet<String>) {
        if let Some(text) = node.text() {
            match pieces(text) {
                Ok(pieces) => {
                    for piece in pieces {
                        if let Piece::Value(reference) = piece {
                            self.name(&reference, node.span, bound);
                        }
                    }
                }
                Err(error) => self.fail(
                    node.span,
                    error.to_string(),
                    "a placeholder is `{{ name.path }}`",
                ),
            }
        }
        node.items().iter().for_each(|item| self.names(item, bound));
        node.entries()
            .iter()
            .for_each(|entry| self.names(&entry.value, bound));
    }

    fn name(&mut self, reference: &Reference, span: Span, bound: &BTreeSet<String>) {
        if reference.name == "random" {
            let kind = match reference.path.as_slice() {
                [Segment::Key(key)] => key.trim_end_matches(|c: char| c.is_ascii_digit()),
                _ => "",
            };
            if !RANDOM.contains(&kind) {
                self.fail(
                    span,
                    format!("`{reference}` is nothing random that we know"),
                    format!("known: random.{}", RANDOM.join(", random.")),
                );
            }
            return;
        }
        if bound.contains(&reference.name) {
            return;
        }
        let hint = match yaml::nearest(&reference.name, bound.iter().map(String::as_str)) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!(
                "bound here: {}",
                bound
                    .iter()
                    .map(String::as_str)
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        };
        self.fail(
            span,
            format!("the name `{}` is not bound here", reference.name),
            hint,
        );
    }
}
