//! From the file's structs to checks: one step of each kind, placeholders that
//! can be read and whose names are bound where they stand.

mod expect;

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use super::placeholder::{Piece, Reference, pieces};
use super::source::{
    CheckSource, ExerciseSource, MongodbSource, RequestSource, SqlSource, StepSource,
};
use super::{
    Binding, Check, ExerciseFile, Find, MongodbStep, RequestContent, RequestStep, SqlStep, Step,
    Template,
};
use crate::source::{Problems, SourceFile};
use crate::workshop::{Capability, Hint};
use crate::yaml::{self, Node};
use crate::{ExerciseSlug, Severity, Span};

/// Names that a check cannot bind: they have a meaning already.
const RESERVED: [&str; 9] = [
    "random",
    "seat",
    "otherwise",
    "status",
    "headers",
    "body",
    "result",
    "exists",
    "text",
];
/// Names that are bound everywhere.
const EVERYWHERE: [&str; 2] = ["random", "seat"];
/// What `random` offers.
const RANDOM: [&str; 7] = [
    "name", "word", "sentence", "integer", "digits", "id", "price",
];

/// Reads an exercise's file. `None` when it has mistakes; all of them are in `problems`.
pub fn parse(
    file: &SourceFile,
    slug: &ExerciseSlug,
    problems: &mut Problems,
) -> Option<ExerciseFile> {
    let (source, root): (ExerciseSource, Node) = yaml::load(file, problems)?;
    let mut reader = Reader {
        file,
        problems,
        failed: false,
    };
    for (index, path) in source.files.iter().enumerate() {
        reader.relative_path(path, root.find(&["files", &index.to_string()]));
    }
    let mut after = Vec::new();
    for (index, text) in source.after.into_iter().enumerate() {
        match ExerciseSlug::new(text) {
            Ok(slug) => after.push(slug),
            Err(error) => reader.fail(
                root.find(&["after", &index.to_string()]),
                error.to_string(),
                "name another exercise, such as `crud-1`",
            ),
        }
    }
    let mut checks = Vec::new();
    let nodes = root.get("checks").map(Node::items).unwrap_or_default();
    for (source, node) in source.checks.into_iter().zip(nodes) {
        checks.push(reader.check(source, node));
    }
    if checks.is_empty() {
        let span = root.find(&["checks"]);
        let problem = file.problem(Severity::Warning, span, "this exercise verifies nothing");
        reader.problems.push(problem.hint(
            "add `checks`; without them participants mark it as done, worth nothing on the board",
        ));
    }
    if reader.failed {
        return None;
    }
    let needs = source
        .needs
        .into_iter()
        .chain(checks.iter().flat_map(needs_of))
        .collect();
    let hints = source.hints.into_iter().map(|hint| Hint {
        after_attempts: hint.after.attempts.unwrap_or(0),
        after_time: hint
            .after
            .minutes
            .map(|minutes| Duration::from_secs(u64::from(minutes) * 60)),
        text: hint.text,
    });
    let version = Sha256::digest(&file.bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let slug = slug.clone();
    Some(ExerciseFile {
        slug,
        title: source.title,
        files: source.files,
        needs,
        after,
        hints: hints.collect(),
        checks,
        version,
    })
}

/// Returns the names that a check mentions in its placeholders and expectations.
pub fn mentions(check: &Check) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = check
        .expect
        .iter()
        .map(|expectation| expectation.at.name.clone())
        .collect();
    let json = serde_json::to_value(check).unwrap_or_default();
    each_text(&json, &mut |text| {
        for piece in pieces(text).unwrap_or_default() {
            if let Piece::Value(reference) = piece {
                names.insert(reference.name);
            }
        }
    });
    names
}

fn each_text(json: &Json, take: &mut impl FnMut(&str)) {
    match json {
        Json::String(text) => take(text),
        Json::Array(items) => items.iter().for_each(|item| each_text(item, take)),
        Json::Object(fields) => fields.values().for_each(|value| each_text(value, take)),
        Json::Null | Json::Bool(_) | Json::Number(_) => {}
    }
}

/// The keys that mean something in a MongoDB step; the one that tells its kind comes first.
fn keys_beside(step: &MongodbStep) -> &'static [&'static str] {
    match step {
        MongodbStep::Find(_) => &["find", "filter", "sort", "skip", "limit", "projection"],
        MongodbStep::Aggregate { .. } => &["aggregate", "pipeline"],
        MongodbStep::Count { .. } => &["count", "filter"],
        MongodbStep::Distinct { .. } => &["distinct", "field", "filter"],
        MongodbStep::ListIndexes { .. } => &["listIndexes"],
        MongodbStep::Kind { .. } => &["kind"],
        MongodbStep::Insert { .. } => &["insert", "like", "with"],
        MongodbStep::Delete { .. } => &["delete", "filter"],
    }
}

/// What the steps of a check need, whether the author says so or not.
fn needs_of(check: &Check) -> BTreeSet<Capability> {
    let steps = check
        .given
        .iter()
        .chain(&check.then)
        .map(|binding| &binding.step);
    let steps = steps.chain(&check.act).chain(&check.finally);
    steps
        .filter_map(|step| match step {
            Step::Mongodb(_) => Some(Capability::Mongodb),
            Step::Sql(_) => Some(Capability::Postgres),
            Step::Request(_) | Step::File { .. } => None,
        })
        .collect()
}

struct Reader<'a> {
    file: &'a SourceFile,
    problems: &'a mut Problems,
    failed: bool,
}

impl Reader<'_> {
    fn fail(&mut self, span: Span, message: impl Into<String>, hint: impl Into<String>) {
        self.failed = true;
        self.problems
            .push(self.file.error(span, message).hint(hint));
    }

    fn check(&mut self, mut source: CheckSource, node: &Node) -> Check {
        let mut bound: BTreeSet<String> =
            EVERYWHERE.iter().map(|name| (*name).to_owned()).collect();
        let given = self.bindings(&mut source.given, node.get("given"), &mut bound, 1);
        for (key, given) in [
            ("command", source.command.is_some()),
            ("script", source.script.is_some()),
        ] {
            if given {
                let hint = "use `request`, `mongodb`, `sql` or `file`: a seat's own word is worth nothing on the board";
                self.fail(
                    node.find_key(&[key]),
                    format!("`{key}` is not run yet"),
                    hint,
                );
            }
        }
        let act = self.act(&mut source, node);
        for key in ["request", "mongodb", "sql", "file"] {
            if let Some(node) = node.get(key) {
                self.names(node, &bound);
            }
        }
        bound.extend(
            act.iter()
                .flat_map(Step::binds)
                .map(|name| (*name).to_owned()),
        );
        let then = self.bindings(&mut source.then, node.get("then"), &mut bound, 0);
        let mut expect = Vec::new();
        for item in node.get("expect").map(Node::items).unwrap_or_default() {
            self.expectation(item, &bound, &mut expect);
        }
        if source.expect.is_empty() {
            self.fail(
                node.find_key(&["expect"]),
                "this check expects nothing",
                "add a line such as `- { status: 200, otherwise: \"…\" }`",
            );
        }
        let mut finally = Vec::new();
        for (step, node) in source
            .finally
            .into_iter()
            .zip(node.get("finally").map(Node::items).unwrap_or_default())
        {
            self.names(node, &bound);
            finally.extend(self.step(step, node));
        }
        Check {
            name: source.name,
            given,
            act,
            then,
            expect,
            finally,
        }
    }

    fn act(&mut self, source: &mut CheckSource, node: &Node) -> Option<Step> {
        let kinds = ["request", "mongodb", "sql", "file"]
            .into_iter()
            .filter(|kind| node.get(kind).is_some());
        if let Some(second) = kinds.collect::<Vec<_>>().get(1) {
            self.fail(
                node.find_key(&[second]),
                "a check tries one thing",
                "move one of them below `given` (before) or `then` (after), with a name",
            );
        }
        let step = StepSource {
            mongodb: source.mongodb.take(),
            sql: source.sql.take(),
            request: source.request.take(),
            file: source.file.take(),
            at_least: None,
        };
        self.step(step, node)
    }

    /// Reads `given` or `then` in the order of the file; each name is bound for what follows.
    fn bindings(
        &mut self,
        sources: &mut std::collections::BTreeMap<String, StepSource>,
        node: Option<&Node>,
        bound: &mut BTreeSet<String>,
        at_least: u32,
    ) -> Vec<Binding> {
        let mut bindings = Vec::new();
        for entry in node.map(Node::entries).unwrap_or_default() {
            let Some(source) = sources.remove(&entry.key) else {
                continue;
            };
            self.names(&entry.value, bound);
            let is_name =
                Reference::parse(&entry.key).is_ok_and(|reference| reference.path.is_empty());
            if !is_name {
                self.fail(
                    entry.key_span,
                    format!("`{}` cannot be a name", entry.key),
                    "use letters, digits and _",
                );
            } else if RESERVED.contains(&entry.key.as_str()) {
                self.fail(
                    entry.key_span,
                    format!("the name `{}` has a meaning of its own", entry.key),
                    "choose another name",
                );
            } else if !bound.insert(entry.key.clone()) {
                self.fail(
                    entry.key_span,
                    format!("the name `{}` is bound already", entry.key),
                    "choose another name",
                );
            }
            let at_least = source.at_least.unwrap_or(at_least);
            let step = self.step(source, &entry.value);
            bindings.extend(step.map(|step| Binding {
                name: entry.key.clone(),
                step,
                at_least,
            }));
        }
        bindings
    }

    fn step(&mut self, source: StepSource, node: &Node) -> Option<Step> {
        if let Some(mongodb) = source.mongodb {
            return self
                .mongodb(mongodb, node.get("mongodb")?)
                .map(Step::Mongodb);
        }
        if let Some(sql) = source.sql {
            return self.sql(sql, node.get("sql")?).map(Step::Sql);
        }
        if let Some(request) = source.request {
            return self
                .request(request, node.get("request")?)
                .map(|request| Step::Request(Box::new(request)));
        }
        let path = source.file?;
        self.relative_path(&path, node.find(&["file"]));
        self.without_placeholders(node, &["file"]);
        Some(Step::File { path })
    }

    fn relative_path(&mut self, path: &str, span: Span) {
        let is_inside =
            !path.is_empty() && path.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if !is_inside {
            self.fail(
                span,
                format!("`{path}` is not a path inside the workshop"),
                "write it from the workshop's folder, such as `server/src/lab/crud-1.lab.js`",
            );
        }
    }

    fn mongodb(&mut self, source: MongodbSource, node: &Node) -> Option<MongodbStep> {
        let step = self.mongodb_step(source, node)?;
        let allowed = keys_beside(&step);
        self.only(node, allowed);
        self.without_placeholders(node, &[allowed[0], "field"]);
        Some(step)
    }

    fn mongodb_step(&mut self, source: MongodbSource, node: &Node) -> Option<MongodbStep> {
        let template = |json: Option<Json>| json.map(Template);
        let mapping = |json: Option<Json>| {
            Template(json.unwrap_or_else(|| Json::Object(serde_json::Map::new())))
        };
        let filter = mapping(source.filter);
        if let Some(collection) = source.find {
            let (sort, projection) = (template(source.sort), template(source.projection));
            let (skip, limit) = (template(source.skip), template(source.limit));
            return Some(MongodbStep::Find(Box::new(Find {
                collection,
                filter,
                sort,
                skip,
                limit,
                projection,
            })));
        }
        if let Some(collection) = source.aggregate {
            if let Some(pipeline @ Json::Array(_)) = source.pipeline {
                return Some(MongodbStep::Aggregate {
                    collection,
                    pipeline: Template(pipeline),
                });
            }
            self.fail(
                node.find(&["pipeline"]),
                "`aggregate` needs a list of stages",
                "add `pipeline: [{ $match: … }]`",
            );
            return None;
        }
        if let Some(collection) = source.distinct {
            if let Some(field) = source.field {
                return Some(MongodbStep::Distinct {
                    collection,
                    field,
                    filter,
                });
            }
            self.fail(
                node.find_key(&["distinct"]),
                "`distinct` needs a field",
                "add `field: …`",
            );
            return None;
        }
        if let Some(collection) = source.insert {
            let is_like_template = source.like.is_some();
            return Some(MongodbStep::Insert {
                collection,
                is_like_template,
                with: mapping(source.with),
            });
        }
        let count = source.count.map(|collection| MongodbStep::Count {
            collection,
            filter: filter.clone(),
        });
        let indexes = source
            .list_indexes
            .map(|collection| MongodbStep::ListIndexes { collection });
        let kind = source
            .kind
            .map(|collection| MongodbStep::Kind { collection });
        let delete = source
            .delete
            .map(|collection| MongodbStep::Delete { collection, filter });
        count.or(indexes).or(kind).or(delete)
    }

    fn sql(&mut self, source: SqlSource, node: &Node) -> Option<SqlStep> {
        let (allowed, step): (&[&str], _) = if let Some(text) = source.query {
            let parameters = source
                .parameters
                .unwrap_or_default()
                .into_iter()
                .map(Template)
                .collect();
            (
                &["query", "parameters"],
                SqlStep::Query { text, parameters },
            )
        } else if let Some(text) = source.plan {
            (&["plan"], SqlStep::Plan { text })
        } else if let Some(name) = source.table {
            (&["table"], SqlStep::Table { name })
        } else {
            let with = source
                .with
                .unwrap_or_default()
                .into_iter()
                .map(|(column, value)| (column, Template(value)));
            (
                &["insert", "with"],
                SqlStep::Insert {
                    table: source.insert?,
                    with: with.collect(),
                },
            )
        };
        self.only(node, allowed);
        self.without_placeholders(node, &[allowed[0]]);
        Some(step)
    }

    /// Reports placeholders where none are replaced.
    fn without_placeholders(&mut self, node: &Node, keys: &[&str]) {
        for key in keys {
            if node
                .get(key)
                .and_then(Node::text)
                .is_some_and(|text| text.contains("{{"))
            {
                self.fail(
                    node.find(&[key]),
                    format!("`{key}` takes no placeholders"),
                    "in SQL, write $1 and give `parameters`",
                );
            }
        }
    }

    /// Reports keys that mean nothing beside the kind of a step.
    fn only(&mut self, node: &Node, allowed: &[&str]) {
        for entry in node
            .entries()
            .iter()
            .filter(|entry| !allowed.contains(&entry.key.as_str()))
        {
            let message = format!("`{}` means nothing beside `{}`", entry.key, allowed[0]);
            self.fail(
                entry.key_span,
                message,
                format!("known here: {}", allowed.join(", ")),
            );
        }
    }

    fn request(&mut self, source: RequestSource, node: &Node) -> Option<RequestStep> {
        let methods = [
            ("get", source.get),
            ("post", source.post),
            ("put", source.put),
            ("patch", source.patch),
            ("delete", source.delete),
        ];
        let (method, path) = methods
            .into_iter()
            .find_map(|(method, path)| path.map(|path| (method, path)))?;
        if !path.starts_with('/') {
            self.fail(
                node.find(&[method]),
                format!("the path `{path}` does not begin with `/`"),
                "write a path such as `/api/listings`",
            );
        }
        let content = match (source.json, source.form) {
            (Some(_), Some(_)) => {
                self.fail(
                    node.find_key(&["form"]),
                    "`json` and `form` cannot be given together",
                    "keep one of them",
                );
                return None;
            }
            (Some(json), None) => RequestContent::Json(Template(json)),
            (None, Some(form)) => RequestContent::Form(
                form.into_iter()
                    .map(|(key, value)| (key, Template(value)))
                    .collect(),
            ),
            (None, None) => RequestContent::Empty,
        };
        for name in source
            .headers
            .keys()
            .filter(|name| name.to_ascii_lowercase().starts_with("x-arena-"))
        {
            self.fail(
                node.find_key(&["headers", name]),
                format!("the header `{name}` is Arena's own"),
                "choose another name",
            );
        }
        let query = source
            .query
            .into_iter()
            .map(|(key, value)| (key, Template(value)))
            .collect();
        let to = source.to.map_or(crate::plan::AppKind::Backend, Into::into);
        Some(RequestStep {
            to,
            method: method.to_ascii_uppercase(),
            path,
            query,
            content,
            headers: source.headers,
        })
    }
}
