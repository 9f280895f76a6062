//! The author's files → [`Workshop`]: each file by its own module, then the
//! questions that need more than one of them.

use std::collections::{BTreeMap, BTreeSet};

use super::content;
use super::{ContentKeys, Exercise, ParsedWorkshop, Sources, Workshop};
use crate::check::{self, ExerciseFile};
use crate::config::{self, Config, ParsedConfig};
use crate::navigation::{self, Navigation};
use crate::participants::{self, SPARE_PREFIX, Spare, label};
use crate::source::{Problem, Problems, Severity, SourceFile};
use crate::yaml::{self, Node, nearest};
use crate::{Capability, EventId, ExerciseSlug};

/// Where answers of exercises lie in workshops without an `arena` folder.
const ANSWERS: &str = "utils/answers/";
/// Where solutions lie in Arena's own folder.
const SOLUTIONS: &str = "arena/solutions/";

pub(super) fn parse(sources: &Sources) -> Result<ParsedWorkshop, Problems> {
    let mut problems = Problems::default();
    let workshop = Reader {
        sources,
        problems: &mut problems,
    }
    .read();
    problems.sort();
    match workshop {
        Some(workshop) if !problems.has_errors() => Ok(ParsedWorkshop {
            workshop,
            notes: problems,
        }),
        _ => Err(problems),
    }
}

/// Returns the exercises that have an answer or a solution among the files.
pub(crate) fn answered(files: &BTreeSet<String>) -> BTreeSet<ExerciseSlug> {
    let slugs = files.iter().filter_map(|file| {
        let answer = file
            .strip_prefix(ANSWERS)
            .and_then(|name| name.strip_suffix(".lab.js"));
        let solution = || {
            file.strip_prefix(SOLUTIONS)
                .and_then(|rest| rest.split_once('/'))
                .map(|(slug, _)| slug)
        };
        answer
            .or_else(solution)
            .and_then(|slug| ExerciseSlug::new(slug).ok())
    });
    slugs.collect()
}

/// Returns the files of an exercise's answer, `from → to` inside the workshop. A solution in
/// Arena's own folder is preferred.
pub(crate) fn answer_files(
    files: &BTreeSet<String>,
    slug: &ExerciseSlug,
    backend: &str,
) -> BTreeMap<String, String> {
    let folder = format!("{SOLUTIONS}{slug}/");
    let solution: BTreeMap<String, String> = files
        .iter()
        .filter_map(|file| {
            file.strip_prefix(&folder)
                .map(|to| (file.clone(), to.to_owned()))
        })
        .collect();
    if !solution.is_empty() {
        return solution;
    }
    let answer = format!("{ANSWERS}{slug}.lab.js");
    let to = lab_file(backend, slug);
    files
        .get(&answer)
        .map(|from| (from.clone(), to))
        .into_iter()
        .collect()
}

fn lab_file(backend: &str, slug: &ExerciseSlug) -> String {
    format!("{backend}/src/lab/{slug}.lab.js")
}

/// Returns whether an exercise is another one or comes after it, at any distance.
fn comes_after(exercises: &[Exercise], slug: &ExerciseSlug, other: &ExerciseSlug) -> bool {
    let mut seen = BTreeSet::new();
    let mut open = vec![slug];
    while let Some(slug) = open.pop() {
        if slug == other {
            return true;
        }
        if seen.insert(slug) {
            let exercise = exercises.iter().find(|exercise| exercise.slug == *slug);
            open.extend(exercise.iter().flat_map(|exercise| &exercise.after));
        }
    }
    false
}

struct Reader<'a> {
    sources: &'a Sources,
    problems: &'a mut Problems,
}

impl<'a> Reader<'a> {
    /// Reads everything, so that mistakes of one file do not hide those of another.
    fn read(mut self) -> Option<Workshop> {
        let parsed = self.config();
        let content = self.content();
        let seats = self.participants(parsed.as_ref().map(|parsed| &parsed.config));
        let navigation = self.navigation(parsed.as_ref().map(|parsed| &parsed.config));
        let files = self.exercise_files();
        if let Some(parsed) = &parsed {
            self.apps(&parsed.config);
            self.unserved(&parsed.config);
        }
        let ParsedConfig { config, defaults } = parsed?;
        // What could not be read has its errors; the questions between files are asked of the rest.
        let (content, participants) = (content.unwrap_or_default(), seats.unwrap_or_default());
        let (all, shown) = navigation?;
        let exercises = self.exercises(&config, &all, &shown, files);
        let listed: BTreeSet<&ExerciseSlug> =
            exercises.iter().map(|exercise| &exercise.slug).collect();
        let needed_answers = answered(&self.sources.files)
            .into_iter()
            .filter(|slug| !listed.contains(slug))
            .collect();
        self.order(&exercises, &needed_answers);
        let event = EventId::new(label(&config.customer.name)).ok()?;
        let title = config
            .arena
            .title
            .clone()
            .or_else(|| content.title.clone())
            .unwrap_or_else(|| config.customer.name.clone());
        Some(Workshop {
            event,
            title,
            config,
            participants,
            navigation: shown,
            exercises,
            needed_answers,
            content,
            files: self.sources.files.clone(),
            defaults,
        })
    }

    fn config(&mut self) -> Option<ParsedConfig> {
        let Some(file) = &self.sources.config else {
            let problem = Problem {
                severity: Severity::Error,
                file: String::new(),
                span: None,
                excerpt: None,
                message: "there is no config.yaml".to_owned(),
                hint: Some(
                    "write one with two lines: `customer:` and, indented by two spaces, `name: …`"
                        .to_owned(),
                ),
            };
            self.problems.push(problem);
            return None;
        };
        config::parse(file, self.problems)
    }

    fn content(&mut self) -> Option<ContentKeys> {
        let Some(file) = &self.sources.workshop else {
            return Some(ContentKeys::default());
        };
        let (keys, node) = yaml::load::<ContentKeys>(file, self.problems)?;
        let mut is_clean = content::check(file, &node, &keys, self.problems);
        let data = [
            ("mongodb", &keys.data.mongodb),
            ("postgres", &keys.data.postgres),
        ];
        for (name, files) in data {
            for (index, path) in files.iter().flatten().enumerate() {
                let index = index.to_string();
                is_clean &= self.exists(file, &node, &["data", name, &index], path);
            }
        }
        if let Some(path) = &keys.first_file {
            is_clean &= self.exists(file, &node, &["first_file"], path);
        }
        is_clean.then_some(keys)
    }

    /// Warns about what is configured and not served yet.
    fn unserved(&mut self, config: &Config) {
        let Some(file) = self
            .sources
            .config
            .as_ref()
            .filter(|_| config.scenario.llm.enabled)
        else {
            return;
        };
        let node = yaml::parse(file, &mut Problems::default());
        let span = node
            .map(|node| node.find(&["scenario", "llm", "enabled"]))
            .unwrap_or_default();
        let problem = file.problem(
            Severity::Warning,
            span,
            "no language model answers on this machine yet",
        );
        self.problems
            .push(problem.hint("write `enabled: false`, or go on without it"));
    }

    /// Reports a path that is no file of the workshop.
    fn exists(&mut self, file: &SourceFile, node: &Node, place: &[&str], path: &str) -> bool {
        if self.sources.files.is_empty() || self.sources.files.contains(path) {
            return true;
        }
        let problem = file.error(node.find(place), format!("there is no file `{path}`"));
        self.problems.push(
            match nearest(path, self.sources.files.iter().map(String::as_str)) {
                Some(meant) => problem.hint(format!("did you mean `{meant}`?")),
                None => {
                    problem.hint("write a path inside the workshop, such as `server/src/index.js`")
                }
            },
        );
        false
    }

    fn participants(&mut self, config: Option<&Config>) -> Option<participants::Participants> {
        let mongodb = config
            .map(|config| config.mongodb.clone())
            .unwrap_or_default();
        let spare = Spare {
            prefix: mongodb
                .cluster_name
                .unwrap_or_else(|| SPARE_PREFIX.to_owned()),
            start: mongodb.user_start_index,
            count: mongodb.additional_users_count,
        };
        let list = self.sources.participants.as_ref();
        let participants = participants::parse(list, &spare, self.problems)?;
        if participants.seats.is_empty() && config.is_some() {
            let mut problem = match list.or(self.sources.config.as_ref()) {
                Some(file) => file.problem(
                    Severity::Error,
                    crate::Span {
                        line: 1,
                        column: 1,
                        ..crate::Span::default()
                    },
                    "the event has no seats",
                ),
                None => return None,
            };
            problem = problem.hint("add a row to user_list.csv, or spare seats: `mongodb: {additional_users_count: 5}`");
            self.problems.push(problem);
            return None;
        }
        Some(participants)
    }

    /// Returns the whole navigation and what the scenario shows of it.
    fn navigation(&mut self, config: Option<&Config>) -> Option<(Navigation, Navigation)> {
        let mut parsed = BTreeMap::new();
        for (path, file) in &self.sources.navigations {
            let is_wanted = config.is_none_or(|config| {
                path.rsplit('/').next() == Some(config.scenario.instructions.base.as_str())
            });
            if is_wanted {
                parsed.insert(path.as_str(), navigation::parse(file, self.problems));
            }
        }
        let config = config?;
        let file = self.sources.config.as_ref()?;
        let node = yaml::parse(file, &mut Problems::default())?;
        let base = &config.scenario.instructions.base;
        let path = format!("docs/_data/{base}");
        match parsed.remove(path.as_str()) {
            None if self.sources.awaits_content => {
                Some((Navigation::default(), Navigation::default()))
            }
            Some(navigation) => {
                let navigation = navigation?;
                let wanted = &config.scenario.instructions.sections;
                navigation::check_wanted(file, &node, wanted, &navigation, self.problems);
                let shown = navigation.filter(wanted);
                Some((navigation, shown))
            }
            None => {
                let is_written = node
                    .get("scenario")
                    .and_then(|scenario| scenario.get("instructions"))
                    .and_then(|keys| keys.get("base"))
                    .is_some();
                let severity = if is_written {
                    Severity::Error
                } else {
                    Severity::Warning
                };
                let span = node.find(&["scenario", "instructions", "base"]);
                let problem = file.problem(severity, span, format!("the workshop has no `{path}`"));
                let names: Vec<&str> = self
                    .sources
                    .navigations
                    .keys()
                    .filter_map(|path| path.rsplit('/').next())
                    .collect();
                self.problems.push(match (nearest(base, names.iter().copied()), names.as_slice()) {
                    (Some(meant), _) => problem.hint(format!("did you mean `{meant}`?")),
                    (None, []) => problem.hint("write the pages of the instructions in `docs/` and list them in `docs/_data/navigation.yml`"),
                    (None, names) => problem.hint(format!("navigations there: {}", names.join(", "))),
                });
                (!is_written).then(|| (Navigation::default(), Navigation::default()))
            }
        }
    }

    /// Reads every check file; those with a mistake are left out.
    fn exercise_files(&mut self) -> BTreeMap<ExerciseSlug, (&'a SourceFile, ExerciseFile)> {
        let mut files = BTreeMap::new();
        for (path, file) in &self.sources.exercises {
            let name = path.rsplit('/').next().unwrap_or(path);
            let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
            let start = crate::Span {
                line: 1,
                column: 1,
                ..crate::Span::default()
            };
            let Ok(slug) = ExerciseSlug::new(stem) else {
                let problem = file.error(start, format!("the file's name `{stem}` is no exercise"));
                self.problems
                    .push(problem.hint("name it after its page: `/crud/1/` is `crud-1.yaml`"));
                continue;
            };
            let Some(parsed) = check::parse(file, &slug, self.problems) else {
                continue;
            };
            if files.insert(slug.clone(), (file, parsed)).is_some() {
                let problem = file.error(start, format!("the exercise `{slug}` has two files"));
                self.problems
                    .push(problem.hint("keep one of `.yaml` and `.yml`"));
            }
        }
        files
    }

    /// Reports apps whose folder does not exist, and folders that look like an app nobody named.
    fn apps(&mut self, config: &Config) {
        let Some(file) = &self.sources.config else {
            return;
        };
        let folders: BTreeSet<&str> = self
            .sources
            .files
            .iter()
            .filter_map(|file| file.split_once('/'))
            .map(|(folder, _)| folder)
            .collect();
        if folders.is_empty() || self.sources.awaits_content {
            return;
        }
        for (key, folder) in [
            ("backend", &config.scenario.backend),
            ("frontend", &config.scenario.frontend),
        ] {
            let Some(folder) = folder else {
                self.unnamed_app(file, key, &folders);
                continue;
            };
            let inside = format!("{}/", folder.trim_end_matches('/'));
            if self
                .sources
                .files
                .iter()
                .any(|file| file.starts_with(&inside))
            {
                continue;
            }
            let node = yaml::parse(file, &mut Problems::default());
            let span = node
                .map(|node| node.find(&["scenario", key]))
                .unwrap_or_default();
            let problem = file.error(span, format!("the workshop has no folder `{folder}`"));
            self.problems
                .push(match nearest(folder, folders.iter().copied()) {
                    Some(meant) => problem.hint(format!("did you mean `{meant}`?")),
                    None => problem.hint(format!(
                        "folders there: {}",
                        folders.iter().copied().collect::<Vec<_>>().join(", ")
                    )),
                });
        }
    }

    /// Warns when a folder is there by whose name an app usually goes, and no key names it.
    fn unnamed_app(&mut self, file: &SourceFile, key: &str, folders: &BTreeSet<&str>) {
        let usual: &[&str] = if key == "backend" {
            &["server", "backend"]
        } else {
            &["app", "frontend"]
        };
        let is_app = |folder: &&&str| {
            folders.contains(**folder)
                && self
                    .sources
                    .files
                    .contains(&format!("{folder}/package.json"))
        };
        if let Some(folder) = usual.iter().find(is_app) {
            let node = yaml::parse(file, &mut Problems::default());
            let span = node
                .map(|node| node.find(&["scenario", key]))
                .unwrap_or_default();
            let problem = file.problem(
                Severity::Warning,
                span,
                format!("no `scenario.{key}` is given, and there is a folder `{folder}`"),
            );
            self.problems.push(problem.hint(format!(
                "write `{key}: {folder}` below `scenario` if seats shall have it"
            )));
        }
    }

    /// Joins pages and check files: what the scenario lists, in order.
    fn exercises(
        &mut self,
        config: &Config,
        all: &Navigation,
        shown: &Navigation,
        mut files: BTreeMap<ExerciseSlug, (&'a SourceFile, ExerciseFile)>,
    ) -> Vec<Exercise> {
        let mut exercises = Vec::new();
        for (slug, page) in shown.exercises() {
            let parsed = files.remove(&slug);
            if let Some((file, parsed)) = &parsed {
                self.edited_files(file, parsed);
            }
            let parsed = parsed.map(|(_, parsed)| parsed);
            exercises.push(self.exercise(config, slug, Some((&page.title, &page.url)), parsed));
        }
        let known: BTreeSet<ExerciseSlug> =
            all.exercises().into_iter().map(|(slug, _)| slug).collect();
        for (slug, (file, parsed)) in files {
            if all.sections.is_empty() {
                exercises.push(self.exercise(config, slug, None, Some(parsed)));
            } else if !known.contains(&slug) {
                let start = crate::Span {
                    line: 1,
                    column: 1,
                    ..crate::Span::default()
                };
                let problem = file.problem(
                    Severity::Warning,
                    start,
                    format!("no page tells the exercise `{slug}`: it is not shown"),
                );
                self.problems.push(match nearest(slug.as_str(), known.iter().map(ExerciseSlug::as_str)) {
                    Some(meant) => problem.hint(format!("did you mean `{meant}`? A page `/crud/1/` of the navigation is the exercise `crud-1`")),
                    None => problem.hint("add its page to the navigation: `/crud/1/` is the exercise `crud-1`"),
                });
            }
        }
        exercises
    }

    fn exercise(
        &self,
        config: &Config,
        slug: ExerciseSlug,
        page: Option<(&str, &str)>,
        file: Option<ExerciseFile>,
    ) -> Exercise {
        let title = |given: Option<String>| {
            given
                .or_else(|| page.map(|(title, _)| title.to_owned()))
                .unwrap_or_else(|| slug.as_str().to_owned())
        };
        let url = page.map(|(_, url)| url.to_owned());
        match file {
            Some(file) => Exercise {
                title: title(file.title),
                page: url,
                files: file.files,
                needs: file.needs,
                after: file.after,
                hints: file.hints,
                checks: file.checks,
                version: file.version,
                slug,
            },
            None => {
                let backend = config.scenario.backend.as_deref().unwrap_or("server");
                let lab = lab_file(backend, &slug);
                let files = self
                    .sources
                    .files
                    .contains(&lab)
                    .then_some(lab)
                    .into_iter()
                    .collect();
                let needs = if config.scenario.database.mongodb {
                    BTreeSet::from([Capability::Mongodb])
                } else {
                    BTreeSet::new()
                };
                let title = title(None);
                Exercise {
                    slug,
                    title,
                    page: url,
                    files,
                    needs,
                    after: Vec::new(),
                    hints: Vec::new(),
                    checks: Vec::new(),
                    version: String::new(),
                }
            }
        }
    }

    /// Reports files of an exercise that the workshop does not have.
    fn edited_files(&mut self, file: &SourceFile, parsed: &ExerciseFile) {
        let missing = parsed.files.iter().enumerate().filter(|(_, path)| {
            !self.sources.files.is_empty() && !self.sources.files.contains(*path)
        });
        let missing: Vec<(usize, &String)> = missing.collect();
        if let (false, Some(node)) = (
            missing.is_empty(),
            yaml::parse(file, &mut Problems::default()),
        ) {
            for (index, path) in missing {
                self.exists(file, &node, &["files", &index.to_string()], path);
            }
        }
    }

    /// Reports exercises that come after one that nobody can have solved.
    fn order(&mut self, exercises: &[Exercise], answers: &BTreeSet<ExerciseSlug>) {
        let listed: BTreeSet<&ExerciseSlug> =
            exercises.iter().map(|exercise| &exercise.slug).collect();
        for exercise in exercises {
            for (index, before) in exercise.after.iter().enumerate() {
                let is_circle = comes_after(exercises, before, &exercise.slug);
                if !is_circle && (listed.contains(before) || answers.contains(before)) {
                    continue;
                }
                let suffixes = [
                    format!("/{}.yaml", exercise.slug),
                    format!("/{}.yml", exercise.slug),
                ];
                let source = self
                    .sources
                    .exercises
                    .iter()
                    .find(|(path, _)| suffixes.iter().any(|suffix| path.ends_with(suffix)));
                let Some((_, file)) = source else { continue };
                let node = yaml::parse(file, &mut Problems::default());
                let span = node
                    .map(|node| node.find(&["after", &index.to_string()]))
                    .unwrap_or_default();
                let reason = if is_circle {
                    "that one comes after it"
                } else {
                    "it is not shown and has no solution"
                };
                let message = format!("`{}` cannot come after `{before}`: {reason}", exercise.slug);
                let problem = file.error(span, message);
                self.problems.push(
                    match nearest(before.as_str(), listed.iter().map(|slug| slug.as_str())) {
                        _ if is_circle => problem.hint("remove one of the two from `after`"),
                        Some(meant) if meant != exercise.slug.as_str() => {
                            problem.hint(format!("did you mean `{meant}`?"))
                        }
                        _ => problem.hint("name an exercise that the scenario shows"),
                    },
                );
            }
        }
    }
}
