//! PostgreSQL's plans as MongoDB's: which node is which stage, and what of its
//! figures is told. Nodes that mean nothing to a learner are passed through.

use bson::{Document, doc};
use serde::Deserialize;

use super::{bounds, fitting};
use crate::error::CommandError;

/// What the engine calls the index over `_id`.
const ID_INDEX: &str = "_id_";

/// A plan, and what its run took if it was run.
pub(super) struct Planned {
    pub(super) root: Stage,
    pub(super) statistics: Option<Statistics>,
}

/// What a run read and took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Statistics {
    pub(super) keys_examined: i64,
    pub(super) documents_examined: i64,
    pub(super) milliseconds: i64,
}

/// One stage with those it reads from.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Stage {
    kind: Kind,
    returned: i64,
    inputs: Vec<Stage>,
}

#[derive(Debug, Default, PartialEq)]
enum Kind {
    #[default]
    Eof,
    CollectionScan,
    IndexScan {
        index: String,
        is_backward: bool,
    },
    /// A document by its `_id`.
    ById,
    Sort(Document),
    Limit(Option<i64>),
    Skip(i64),
    Projection(Document),
    Plain(&'static str),
}

impl Planned {
    pub(super) fn of(text: &str) -> Result<Self, CommandError> {
        let mut plans: Vec<Explained> = serde_json::from_str(text).map_err(|error| {
            tracing::error!(error = %error, "the database engine explained in an unknown form");
            CommandError::internal()
        })?;
        let explained = plans.pop().ok_or_else(CommandError::internal)?;
        let statistics = explained.execution_time.map(|milliseconds| {
            let mut statistics = Statistics {
                milliseconds: whole(milliseconds),
                ..Statistics::default()
            };
            explained.plan.count(&mut statistics);
            statistics
        });
        Ok(Self {
            root: explained.plan.stage(),
            statistics,
        })
    }
}

impl Stage {
    fn new(kind: Kind, returned: i64, inputs: Vec<Self>) -> Self {
        Self {
            kind,
            returned,
            inputs,
        }
    }

    pub(super) fn returned(&self) -> i64 {
        self.returned
    }

    pub(super) fn below(self, name: &'static str) -> Self {
        let input = match self.kind {
            // The engine counts by what MongoDB calls a group.
            Kind::Plain("GROUP") if name == "COUNT" => self.inputs,
            _ => vec![self],
        };
        Self::new(Kind::Plain(name), 0, input)
    }

    pub(super) fn projection(fields: Document, input: Self) -> Self {
        let returned = input.returned;
        Self::new(Kind::Projection(fields), returned, vec![input])
    }

    /// The stage that reads documents, without what is done with them.
    pub(super) fn reading(mut self) -> Self {
        let is_reading = matches!(
            self.kind,
            Kind::CollectionScan
                | Kind::IndexScan { .. }
                | Kind::ById
                | Kind::Eof
                | Kind::Plain("FETCH")
        );
        if is_reading || self.inputs.is_empty() {
            return self;
        }
        self.inputs.swap_remove(0).reading()
    }

    /// Says how many documents a limit lets through, which the engine does not tell.
    pub(super) fn with_amounts(mut self, limit: Option<i64>, skip: Option<i64>) -> Self {
        let Kind::Limit(amount) = &mut self.kind else {
            return self;
        };
        *amount = limit;
        let Some(skip) = skip else {
            return self;
        };
        let input = std::mem::take(&mut self.inputs);
        let skipping = Self::new(Kind::Skip(skip), self.returned, input);
        if limit.is_none() {
            return skipping;
        }
        self.inputs = vec![skipping];
        self
    }

    /// The names of all indexes that are read.
    pub(super) fn indexes(&self) -> Vec<String> {
        let mut names: Vec<String> = self.inputs.iter().flat_map(Self::indexes).collect();
        if let Kind::IndexScan { index, .. } = &self.kind {
            names.push(index.clone());
        }
        names
    }

    /// The stage as it was planned.
    pub(super) fn planned(&self, patterns: &[(String, Document)], filter: &Document) -> Document {
        self.shown(patterns, filter, false)
    }

    /// The stage as it ran.
    pub(super) fn executed(&self, patterns: &[(String, Document)], filter: &Document) -> Document {
        self.shown(patterns, filter, true)
    }

    fn shown(
        &self,
        patterns: &[(String, Document)],
        filter: &Document,
        is_executed: bool,
    ) -> Document {
        let mut shown = doc! { "stage": self.name() };
        if is_executed {
            shown.insert("nReturned", fitting(self.returned));
        }
        match &self.kind {
            Kind::CollectionScan => {
                if !filter.is_empty() {
                    shown.insert("filter", filter.clone());
                }
                shown.insert("direction", "forward");
            }
            Kind::IndexScan { index, is_backward } => {
                let pattern = patterns.iter().find(|(name, _)| name == index);
                let pattern = pattern.map(|(_, pattern)| pattern);
                if let Some(pattern) = pattern {
                    shown.insert("keyPattern", pattern.clone());
                }
                shown.insert("indexName", index);
                let direction = if *is_backward { "backward" } else { "forward" };
                shown.insert("direction", direction);
                let bounds =
                    pattern.and_then(|pattern| bounds::bounds(pattern, filter, *is_backward));
                shown.extend(bounds.map(|bounds| ("indexBounds".to_owned(), bounds.into())));
            }
            Kind::Sort(pattern) => drop(shown.insert("sortPattern", pattern.clone())),
            Kind::Limit(Some(amount)) => drop(shown.insert("limitAmount", fitting(*amount))),
            Kind::Skip(amount) => drop(shown.insert("skipAmount", fitting(*amount))),
            Kind::Projection(fields) => drop(shown.insert("transformBy", fields.clone())),
            Kind::Eof | Kind::ById | Kind::Limit(None) | Kind::Plain(_) => {}
        }
        let inputs = self.inputs.iter();
        let mut inputs: Vec<Document> = inputs
            .map(|input| input.shown(patterns, filter, is_executed))
            .collect();
        if inputs.len() > 1 {
            shown.insert("inputStages", inputs);
        } else if let Some(input) = inputs.pop() {
            shown.insert("inputStage", input);
        }
        shown
    }

    fn name(&self) -> &'static str {
        match &self.kind {
            Kind::Eof => "EOF",
            Kind::CollectionScan => "COLLSCAN",
            Kind::IndexScan { .. } => "IXSCAN",
            Kind::ById => "IDHACK",
            Kind::Sort(_) => "SORT",
            Kind::Limit(_) => "LIMIT",
            Kind::Skip(_) => "SKIP",
            Kind::Projection(fields) => {
                let is_simple = fields
                    .iter()
                    .all(|(name, value)| !name.contains('.') && super::whole(value).is_some());
                if is_simple {
                    "PROJECTION_SIMPLE"
                } else {
                    "PROJECTION_DEFAULT"
                }
            }
            Kind::Plain(name) => name,
        }
    }
}

#[derive(Deserialize)]
struct Explained {
    #[serde(rename = "Plan")]
    plan: Node,
    #[serde(rename = "Execution Time")]
    execution_time: Option<f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    #[serde(rename = "Node Type", default)]
    node_type: String,
    #[serde(rename = "Relation Name")]
    relation_name: Option<String>,
    #[serde(rename = "Index Name")]
    index_name: Option<String>,
    #[serde(rename = "Index Cond")]
    index_cond: Option<String>,
    #[serde(rename = "Scan Direction")]
    scan_direction: Option<String>,
    #[serde(rename = "Sort Key", default)]
    sort_key: Vec<String>,
    #[serde(rename = "Actual Rows", default)]
    actual_rows: f64,
    #[serde(rename = "Actual Loops")]
    actual_loops: Option<f64>,
    #[serde(rename = "Rows Removed by Filter", default)]
    removed_by_filter: f64,
    #[serde(rename = "Rows Removed by Index Recheck", default)]
    removed_by_recheck: f64,
    #[serde(default)]
    plans: Vec<Node>,
}

impl Node {
    fn loops(&self) -> f64 {
        self.actual_loops.unwrap_or(1.0)
    }

    fn returned(&self) -> i64 {
        whole(self.actual_rows * self.loops())
    }

    /// Every collection's rows are found over its shard key, which is no index of the learner's.
    fn is_whole_collection(&self) -> bool {
        let condition = self.index_cond.as_deref().unwrap_or_default();
        self.index_name.as_deref() == Some(ID_INDEX) && !condition.contains("object_id")
    }

    fn stage(&self) -> Stage {
        let returned = self.returned();
        match self.node_type.as_str() {
            "Seq Scan" => Stage::new(Kind::CollectionScan, returned, Vec::new()),
            "Index Scan" | "Index Only Scan" => self.index_stage(),
            "Bitmap Heap Scan" => {
                let inputs: Vec<Stage> = self.plans.iter().map(Self::stage).collect();
                if inputs
                    .iter()
                    .all(|input| input.kind == Kind::CollectionScan)
                {
                    return Stage::new(Kind::CollectionScan, returned, Vec::new());
                }
                Stage::new(Kind::Plain("FETCH"), returned, inputs)
            }
            "Bitmap Index Scan" if self.is_whole_collection() => {
                Stage::new(Kind::CollectionScan, returned, Vec::new())
            }
            "Bitmap Index Scan" => Stage::new(self.index_kind(), returned, Vec::new()),
            "BitmapOr" => self.plain("OR"),
            "BitmapAnd" => {
                let mut inputs: Vec<Stage> = self.plans.iter().map(Self::stage).collect();
                inputs.retain(|input| input.kind != Kind::CollectionScan);
                match inputs.len() {
                    1 => inputs.swap_remove(0),
                    _ => Stage::new(Kind::Plain("AND_HASH"), returned, inputs),
                }
            }
            "Sort" | "Incremental Sort" => match self.sort_pattern() {
                Some(pattern) => self.above(Kind::Sort(pattern)),
                None => self.through(),
            },
            "Limit" => self.above(Kind::Limit(None)),
            "Aggregate" => self.plain("GROUP"),
            _ if self.relation_name.is_none() && self.plans.is_empty() => {
                Stage::new(Kind::Eof, returned, Vec::new())
            }
            _ => self.through(),
        }
    }

    fn index_stage(&self) -> Stage {
        let returned = self.returned();
        let condition = self.index_cond.as_deref().unwrap_or_default();
        if self.is_whole_collection() {
            return Stage::new(Kind::CollectionScan, returned, Vec::new());
        }
        if self.index_name.as_deref() == Some(ID_INDEX)
            && condition.contains("object_id OPERATOR(documentdb_core.=)")
        {
            return Stage::new(Kind::ById, returned, Vec::new());
        }
        let scan = Stage::new(self.index_kind(), self.keys(), Vec::new());
        Stage::new(Kind::Plain("FETCH"), returned, vec![scan])
    }

    fn index_kind(&self) -> Kind {
        Kind::IndexScan {
            index: self.index_name.clone().unwrap_or_default(),
            is_backward: self.scan_direction.as_deref() == Some("Backward"),
        }
    }

    fn plain(&self, name: &'static str) -> Stage {
        let inputs = self.plans.iter().map(Self::stage).collect();
        Stage::new(Kind::Plain(name), self.returned(), inputs)
    }

    fn above(&self, kind: Kind) -> Stage {
        Stage::new(kind, self.returned(), vec![self.through()])
    }

    /// What a node that is not shown reads from: of a join that is its outer side.
    fn through(&self) -> Stage {
        self.plans.first().map(Self::stage).unwrap_or_default()
    }

    /// A client's sort; what the engine sorts for itself is none.
    fn sort_pattern(&self) -> Option<Document> {
        let mut pattern = Document::new();
        for key in &self.sort_key {
            let (_, order) = key.split_once("bson_orderby(")?;
            let (_, digits) = order.split_once("BSONHEX")?;
            let digits = digits.split('\'').next()?;
            let bytes: Option<Vec<u8>> = (0..digits.len() / 2)
                .map(|at| u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok())
                .collect();
            pattern.extend(Document::from_reader(bytes?.as_slice()).ok()?);
        }
        (!pattern.is_empty()).then_some(pattern)
    }

    fn keys(&self) -> i64 {
        whole((self.actual_rows + self.removed_by_filter + self.removed_by_recheck) * self.loops())
    }

    fn count(&self, statistics: &mut Statistics) {
        let is_bitmap = self.node_type == "Bitmap Index Scan";
        if self.index_name.is_some() && !self.is_whole_collection() {
            statistics.keys_examined += self.keys();
        }
        if !is_bitmap && self.relation_name.is_some() {
            statistics.documents_examined += self.keys();
        }
        self.plans.iter().for_each(|input| input.count(statistics));
    }
}

fn whole(number: f64) -> i64 {
    format!("{number:.0}").parse().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SORTED: &str = r#"[{"Plan": {"Node Type": "Limit", "Actual Rows": 3.0, "Actual Loops": 1, "Plans": [
        {"Node Type": "Sort", "Actual Rows": 3.0, "Actual Loops": 1,
         "Sort Key": ["(documentdb_api_catalog.bson_orderby(document, 'BSONHEX0c0000001062000100000000'::documentdb_core.bson)) NULLS FIRST"], "Plans": [
        {"Node Type": "Bitmap Heap Scan", "Relation Name": "documents_9", "Actual Rows": 5.0, "Actual Loops": 1, "Rows Removed by Filter": 2, "Plans": [
        {"Node Type": "Bitmap Index Scan", "Index Name": "b_1", "Actual Rows": 7.0, "Actual Loops": 1, "Index Cond": "(document)"}]}]}]}, "Execution Time": 1.6}]"#;

    #[test]
    fn a_plan_reads_as_mongodbs() {
        let Ok(plan) = Planned::of(SORTED) else {
            panic!("it is well-formed")
        };
        let root = plan.root.with_amounts(Some(3), None);
        let patterns = [("b_1".to_owned(), doc! { "b": 1 })];
        let scan = doc! { "stage": "IXSCAN", "keyPattern": { "b": 1 }, "indexName": "b_1", "direction": "forward", "indexBounds": { "b": ["[MinKey, MaxKey]"] } };
        let fetch = doc! { "stage": "FETCH", "inputStage": scan };
        let sort = doc! { "stage": "SORT", "sortPattern": { "b": 1 }, "inputStage": fetch };
        assert_eq!(
            root.planned(&patterns, &doc! {}),
            doc! { "stage": "LIMIT", "limitAmount": 3, "inputStage": sort }
        );
        let expected = Statistics {
            keys_examined: 7,
            documents_examined: 7,
            milliseconds: 2,
        };
        assert_eq!(plan.statistics, Some(expected));
    }

    #[test]
    fn the_whole_collection_is_no_index() {
        let scan = r#"[{"Plan": {"Node Type": "Bitmap Heap Scan", "Relation Name": "documents_9", "Actual Rows": 3, "Plans": [
            {"Node Type": "Bitmap Index Scan", "Index Name": "_id_", "Actual Rows": 3, "Index Cond": "(shard_key_value = '9'::bigint)"}]}}]"#;
        let Ok(plan) = Planned::of(scan) else {
            panic!("it is well-formed")
        };
        assert_eq!(
            plan.root.planned(&[], &doc! { "a": 1 }),
            doc! { "stage": "COLLSCAN", "filter": { "a": 1 }, "direction": "forward" }
        );
    }
}
