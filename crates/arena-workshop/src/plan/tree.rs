//! The plan as people read it.

use super::{AppPlan, Content, Isolation, Plan};

/// Seats shown one by one; of more, the others are counted.
const SEATS_SHOWN_MAX: usize = 12;

impl Plan {
    /// Returns the plan as a tree, without colour. Long lists are cut.
    pub fn tree(&self) -> String {
        let chosen = self
            .defaults
            .iter()
            .map(|(key, value)| leaf(format!("{key}: {value}")))
            .collect();
        let branches = [
            branch(
                "address",
                vec![leaf(self.address.origin(&self.address.domain))],
            ),
            branch("seats kept apart by", vec![leaf(isolation(self.isolation))]),
            branch("seats may reach", vec![leaf(self.outbound.describe())]),
            branch("services, in order of start", self.services()),
            branch("databases", self.databases()),
            branch(
                format!("template /home/workspace/{}", self.template.repository),
                self.template(),
            ),
            branch(self.seats_title(), self.seats()),
            branch("chosen for you", chosen),
        ];
        let branches: Vec<Branch> = branches
            .into_iter()
            .filter(|branch| !branch.below.is_empty())
            .collect();
        let mut text = format!("{} ({})\n", self.title, self.event);
        draw(&mut text, "", &branches);
        text
    }

    fn services(&self) -> Vec<Branch> {
        let lines = self
            .services
            .iter()
            .map(|service| match service.after.as_slice() {
                [] => leaf(service.name.to_string()),
                after => leaf(format!(
                    "{} after {}",
                    service.name,
                    after
                        .iter()
                        .map(ToString::to_string)
                        .collect::<Vec<_>>()
                        .join(", ")
                )),
            });
        lines.collect()
    }

    fn databases(&self) -> Vec<Branch> {
        let mut lines = Vec::new();
        let files = |data: &[String]| {
            if data.is_empty() {
                vec![leaf("empty")]
            } else {
                data.iter().map(|file| leaf(file.as_str())).collect()
            }
        };
        if let Some(mongodb) = &self.databases.mongodb {
            let source = mongodb.source.title();
            let indexes = if mongodb.create_indexes {
                ", with the workshop's indexes"
            } else {
                ""
            };
            lines.push(branch(
                format!("MongoDB: {source}, one database for each seat{indexes}"),
                files(&mongodb.data),
            ));
        }
        if let Some(postgres) = &self.databases.postgres {
            let source = postgres.source.title();
            lines.push(branch(
                format!("PostgreSQL: {source}, one database for each seat"),
                files(&postgres.data),
            ));
        }
        lines
    }

    fn template(&self) -> Vec<Branch> {
        let mut lines = vec![leaf(match &self.template.content {
            Content::Folder(path) => format!("from {path}"),
            Content::Repository {
                url,
                branch,
                version,
            } => {
                let branch = branch.as_ref().map(|branch| format!(", branch {branch}"));
                let version = match version {
                    Some(version) => format!(", version {}", version.get(..8).unwrap_or(version)),
                    None => ", not fetched yet".to_owned(),
                };
                format!("from {url}{}{version}", branch.unwrap_or_default())
            }
        })];
        lines.push(leaf(format!(
            "without {}",
            self.template.removed.join(", ")
        )));
        if !self.template.overlays.is_empty() {
            let answers = self
                .template
                .overlays
                .iter()
                .map(|(from, to)| leaf(format!("{from} → {to}")));
            lines.push(branch(
                "answers of exercises that are not shown",
                answers.collect(),
            ));
        }
        lines.extend(self.template.apps.iter().map(app));
        lines
    }

    fn seats_title(&self) -> String {
        let listed = self.seats.iter().filter(|seat| seat.listed).count();
        format!(
            "seats: {listed} for people on the list, {} spare",
            self.seats.len() - listed
        )
    }

    fn seats(&self) -> Vec<Branch> {
        let shown = self.seats.iter().take(SEATS_SHOWN_MAX);
        let mut lines: Vec<Branch> = shown
            .map(|seat| {
                let name = if seat.listed {
                    format!(" for {}", seat.display_name)
                } else {
                    String::new()
                };
                leaf(format!("{}{name}", self.address.origin(&seat.host)))
            })
            .collect();
        if self.seats.len() > SEATS_SHOWN_MAX {
            lines.push(leaf(format!(
                "… and {} more",
                self.seats.len() - SEATS_SHOWN_MAX
            )));
        }
        lines
    }
}

fn app(app: &AppPlan) -> Branch {
    let mut lines: Vec<Branch> = app
        .prepare
        .iter()
        .map(|command| leaf(format!("prepare: {}", command.join(" "))))
        .collect();
    match (&app.start, app.port) {
        (Some(start), Some(port)) => {
            lines.push(leaf(format!("start: {}, port {port}", start.join(" "))))
        }
        (Some(start), None) => lines.push(leaf(format!("start: {}", start.join(" ")))),
        (None, Some(port)) => lines.push(leaf(format!("started by the participant, port {port}"))),
        (None, None) => lines.push(leaf(format!("files: {}", app.static_folders.join(", ")))),
    }
    branch(format!("{} in {}", app.kind.as_str(), app.folder), lines)
}

fn isolation(isolation: Isolation) -> &'static str {
    match isolation {
        Isolation::OwnUser => "namespaces and a user each",
        Isolation::SharedUser => "namespaces; kernel limits are shared",
        Isolation::None => "none: one seat, as the user that Arena runs as",
    }
}

/// A line and those below it.
struct Branch {
    text: String,
    below: Vec<Branch>,
}

fn branch(text: impl Into<String>, below: Vec<Branch>) -> Branch {
    Branch {
        text: text.into(),
        below,
    }
}

fn leaf(text: impl Into<String>) -> Branch {
    branch(text, Vec::new())
}

fn draw(text: &mut String, indent: &str, branches: &[Branch]) {
    for (index, branch) in branches.iter().enumerate() {
        let (corner, bar) = if index + 1 == branches.len() {
            ("└─", "   ")
        } else {
            ("├─", "│  ")
        };
        text.push_str(&format!("{indent}{corner} {}\n", branch.text));
        draw(text, &format!("{indent}{bar}"), &branch.below);
    }
}
