//! `arena plan`: what `up` would run.

use anyhow::Context;
use arena_workshop::Plan;
use arena_workshop::plan::{Isolation, difference};

use super::repository::{self, Content};
use super::{inputs, print, print_json};
use crate::cli::{Format, PlanArguments};
use crate::failure::Failure;
use crate::host::Host;

/// Prints the plan, or its difference from what was applied last.
pub(crate) fn run(arguments: &PlanArguments) -> Result<(), Failure> {
    // What was fetched stays until the plan is printed.
    let (inputs, _fetched) = match repository::content(inputs::read(&arguments.workshop)?)? {
        Content::Whole(inputs, fetched) => (inputs, fetched),
        Content::Mistaken(problems) => return Err(Failure::problems(&problems)),
        Content::Missing(inputs, failure) => {
            failure.report();
            eprintln!("the plan shows what is known without the repository");
            (inputs, None)
        }
    };
    let plan = inputs.plan(inputs.port(arguments.port), Isolation::OwnUser);
    if arguments.diff {
        return print_difference(&plan, arguments.format);
    }
    match arguments.format {
        Format::Json => print_json(&plan),
        Format::Text => print(&plan.tree()),
    }
}

fn print_difference(plan: &Plan, format: Format) -> Result<(), Failure> {
    let path = Host::here()?.event(&plan.event).state.join("plan.json");
    let old = match std::fs::read(&path) {
        Ok(text) => Some(
            serde_json::from_slice::<Plan>(&text)
                .with_context(|| format!("cannot read {}", path.display()))?,
        ),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => {
            return Err(Failure::environment(
                anyhow::Error::new(error).context(format!("cannot read {}", path.display())),
            ));
        }
    };
    let Some(old) = old else {
        eprintln!(
            "nothing of {} runs or ran here: everything would be new",
            plan.event
        );
        return match format {
            Format::Json => print_json(plan),
            Format::Text => print(&plan.tree()),
        };
    };
    let difference = difference(&old, plan);
    match format {
        Format::Json => print_json(&difference),
        Format::Text if difference.is_empty() => {
            eprintln!("`up` would change nothing of {}", plan.event);
            Ok(())
        }
        Format::Text => print(&difference.to_string()),
    }
}
