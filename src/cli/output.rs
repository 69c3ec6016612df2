//! How answers are printed: for people, for programs, for pipes.

use super::Failure;
use serde_json::Value;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// The API's own answer.
    Json,
    /// The same, one item a line.
    Jsonl,
    /// The table's cells, tabs between them, without a head.
    Plain,
}

#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Output {
    /// How to print the answer.
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
}

/// A column: its head, and its cell of an item.
pub type Column = (&'static str, fn(&Value) -> String);

impl Output {
    /// Prints the items that stand under `items` in an answer.
    pub fn list(self, answer: &Value, items: &str, columns: &[Column]) -> Result<(), Failure> {
        let all = answer[items].as_array().map(Vec::as_slice).unwrap_or_default();
        let rows = || all.iter().map(|item| columns.iter().map(|(_, cell)| cell(item)).collect::<Vec<String>>());
        let text = match self.output {
            Format::Table => table(&columns.iter().map(|(head, _)| *head).collect::<Vec<_>>(), &rows().collect::<Vec<_>>()),
            Format::Json => pretty(answer),
            Format::Jsonl => all.iter().map(|item| format!("{item}\n")).collect(),
            Format::Plain => rows().map(|row| row.join("\t") + "\n").collect(),
        };
        super::print(&text)
    }

    /// Prints one thing: names and values below each other.
    pub fn thing(self, answer: &Value) -> Result<(), Failure> {
        let pairs = || answer.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), cell(value)));
        let text = match self.output {
            Format::Table => {
                let width = pairs().map(|(name, _)| name.len()).max().unwrap_or(0);
                pairs().map(|(name, value)| format!("{name:width$}  {value}\n")).collect()
            }
            Format::Json => pretty(answer),
            Format::Jsonl => format!("{answer}\n"),
            Format::Plain => pairs().map(|(name, value)| format!("{name}\t{value}\n")).collect(),
        };
        super::print(&text)
    }

    pub fn is_for_people(self) -> bool {
        self.output == Format::Table
    }

    /// One event or other line of a stream.
    pub fn line(self, item: &Value, text: impl FnOnce() -> String) -> Result<(), Failure> {
        match self.output {
            Format::Table | Format::Plain => super::print(&format!("{}\n", text())),
            Format::Json | Format::Jsonl => super::print(&format!("{item}\n")),
        }
    }
}

fn pretty(answer: &Value) -> String {
    format!("{answer:#}\n")
}

/// Left-aligned columns, two blanks apart.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let wide = |text: &str| text.chars().count();
    let mut widths: Vec<usize> = head.iter().map(|name| wide(name)).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(wide(cell));
        }
    }
    let line = |cells: &[&str]| {
        let padded: Vec<String> = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let mut out = line(head);
    for row in rows {
        out.push_str(&line(&row.iter().map(String::as_str).collect::<Vec<_>>()));
    }
    out
}

/// A value as people read it: strings bare, nothing as a dash, lists with commas.
pub fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) if text.is_empty() => "-".into(),
        // What a service says of itself must not steer the terminal.
        Value::String(text) => text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect(),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        Value::Number(number) => number.to_string(),
        Value::Array(all) if all.is_empty() => "-".into(),
        Value::Array(all) => all.iter().map(cell).collect::<Vec<_>>().join(","),
        Value::Object(all) if all.is_empty() => "-".into(),
        Value::Object(all) => all.iter().map(|(name, value)| format!("{name}={}", cell(value))).collect::<Vec<_>>().join(","),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = vec![vec!["a".into(), "10.0.0.1".into()], vec!["longer".into(), "x".into()]];
        assert_eq!(table(&["ID", "ADDRESS"], &rows), "ID      ADDRESS\na       10.0.0.1\nlonger  x\n");
    }

    #[test]
    fn what_a_service_says_of_itself_cannot_steer_the_terminal() {
        assert_eq!(cell(&json!("a\u{1b}[31mb")), "a\u{fffd}[31mb");
        assert_eq!(cell(&json!({"b": 1, "a": [true, null]})), "b=1,a=yes,-");
    }
}
