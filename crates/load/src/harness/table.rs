//! Text tables. The first row is the head, and all rows have as many cells as it has.

/// Stands for a figure that was not measured, or has no meaning.
pub const NO_FIGURE: &str = "–";

/// A table in Markdown, with aligned columns.
pub fn markdown(mut rows: Vec<Vec<String>>) -> String {
    for cell in rows.iter_mut().flatten() {
        // Cells contain errors of servers, which may contain anything.
        *cell = cell.replace(['|', '\n'], "/");
    }
    let widths = widths(&rows);
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        for (cell, width) in row.iter().zip(&widths) {
            text.push_str(&format!("| {cell:<width$} "));
        }
        text.push_str("|\n");
        if number == 0 {
            for width in &widths {
                text.push_str(&format!("|{}", "-".repeat(width + 2)));
            }
            text.push_str("|\n");
        }
    }
    text
}

/// A table for a terminal.
pub fn plain(rows: &[Vec<String>]) -> String {
    let widths = widths(rows);
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
        if number == 0 {
            let width = widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1);
            text.push_str(&"─".repeat(width));
            text.push('\n');
        }
    }
    text
}

/// The width of each column in characters.
fn widths(rows: &[Vec<String>]) -> Vec<usize> {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    (0..columns).map(|column| width(column).unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<String>> {
        [["", "router"], ["**calls**", ""], ["p50", "1 | 2\n3 µs"]]
            .map(|row| row.map(str::to_owned).to_vec())
            .to_vec()
    }

    #[test]
    fn markdown_columns_are_aligned_and_cells_stay_in_their_row() {
        assert_eq!(
            markdown(rows()),
            "|           | router     |\n|-----------|------------|\n| **calls** |            |\n| p50       | 1 / 2/3 µs |\n"
        );
    }

    #[test]
    fn plain_columns_are_aligned() {
        let rows = &rows()[..2];
        assert_eq!(plain(rows), "           router\n─────────────────\n**calls**\n");
    }
}
