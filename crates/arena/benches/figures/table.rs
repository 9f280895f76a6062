//! Measured values and the table that shows them. Nothing here fails: a missed
//! figure is a word in the table, since wall clocks differ between machines.

use std::fmt::Write;

/// Which value of many is compared with what is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Statistic {
    Median,
    P95,
    P99,
}

/// The figures in the order in which they are shown.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

struct Row {
    name: &'static str,
    unit: &'static str,
    wanted: Option<(f64, Statistic)>,
    values: Vec<f64>,
}

impl Table {
    /// Announces a figure that shall not be above a limit.
    pub(crate) fn wanted(
        &mut self,
        name: &'static str,
        unit: &'static str,
        limit: f64,
        statistic: Statistic,
    ) {
        self.rows.push(Row {
            name,
            unit,
            wanted: Some((limit, statistic)),
            values: Vec::new(),
        });
    }

    /// Announces a value that is shown beside the figures.
    pub(crate) fn only(&mut self, name: &'static str, unit: &'static str) {
        self.rows.push(Row {
            name,
            unit,
            wanted: None,
            values: Vec::new(),
        });
    }

    /// Takes a value in; also says it, so that a long run shows where it is.
    pub(crate) fn add(&mut self, name: &'static str, value: f64) {
        let row = self.rows.iter_mut().find(|row| row.name == name);
        let row = row.expect("every figure is announced");
        row.values.push(value);
        if row.values.len() <= 3 {
            eprintln!("{}: {value:.3} {}", name.trim(), row.unit);
        }
    }

    /// Returns the table in Markdown; figures without values are left out.
    pub(crate) fn text(&self) -> String {
        let mut lines = vec![
            [
                "figure",
                "wanted",
                "measured: median (min–max)",
                "n",
                "verdict",
            ]
            .map(str::to_owned),
        ];
        lines.extend(
            self.rows
                .iter()
                .filter(|row| !row.values.is_empty())
                .map(Row::cells),
        );
        let width = |column: usize| {
            let widths = lines.iter().map(|cells| cells[column].chars().count());
            widths.max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..5).map(width).collect();
        let mut text = String::new();
        for (index, cells) in lines.iter().enumerate() {
            for (cell, width) in cells.iter().zip(&widths) {
                let _ = write!(text, "| {cell:<width$} ");
            }
            text.push_str("|\n");
            if index == 0 {
                for width in &widths {
                    let _ = write!(text, "|{}", "-".repeat(width + 2));
                }
                text.push_str("|\n");
            }
        }
        text
    }
}

impl Row {
    fn cells(&self) -> [String; 5] {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let (least, most) = (sorted[0], sorted[sorted.len() - 1]);
        let mut measured = format!(
            "{} ({}–{}) {}",
            rounded(quantile(&sorted, 50)),
            rounded(least),
            rounded(most),
            self.unit
        );
        let (mut wanted, mut verdict) = (String::new(), String::new());
        if let Some((limit, statistic)) = self.wanted {
            let (name, value) = match statistic {
                Statistic::Median => ("", quantile(&sorted, 50)),
                Statistic::P95 => ("p95 ", quantile(&sorted, 95)),
                Statistic::P99 => ("p99 ", quantile(&sorted, 99)),
            };
            wanted = format!("{name}≤ {limit} {}", self.unit);
            if statistic != Statistic::Median {
                measured = format!("{name}{}; {measured}", rounded(value));
            }
            verdict = if value <= limit { "met" } else { "missed" }.to_owned();
        }
        let name = self.name.replacen("  ", "… ", 1);
        [
            name,
            wanted,
            measured,
            self.values.len().to_string(),
            verdict,
        ]
    }
}

fn rounded(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// Returns the least value that is not below `percent` of all; values are sorted.
fn quantile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted[rank - 1]
}
