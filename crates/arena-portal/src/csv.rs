//! CSV that a spreadsheet opens without harm.

use std::fmt::Write;

/// Returns a line. A cell that a spreadsheet would take for a formula begins with an apostrophe,
/// except a plain number.
pub(crate) fn line<'a>(cells: impl IntoIterator<Item = &'a str>) -> String {
    let mut line = String::new();
    for (index, cell) in cells.into_iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let formula =
            cell.starts_with(['=', '+', '-', '@', '\t', '\r']) && cell.parse::<f64>().is_err();
        let apostrophe = if formula { "'" } else { "" };
        let cell = format!("{apostrophe}{cell}");
        let written = if cell.contains(['"', ',', '\n', '\r', ';']) || cell != cell.trim() {
            write!(line, "{comma}\"{}\"", cell.replace('"', "\"\""))
        } else {
            write!(line, "{comma}{cell}")
        };
        written.expect("a String takes everything");
    }
    line.push_str("\r\n");
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_that_starts_a_formula_is_text() {
        assert_eq!(
            line(["=HYPERLINK(\"x\",\"y\")"]),
            "\"'=HYPERLINK(\"\"x\"\",\"\"y\"\")\"\r\n"
        );
        assert_eq!(
            line(["+1", "-2.5", "+cmd|' /C calc'!A0", "@x"]),
            "+1,-2.5,'+cmd|' /C calc'!A0,'@x\r\n"
        );
        assert_eq!(
            line(["Ada, the first", "a\nb", ""]),
            "\"Ada, the first\",\"a\nb\",\r\n"
        );
    }
}
