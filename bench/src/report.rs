//! The figures: a table to read, and JSON lines to plot.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;

use crate::rounds::Rounds;

pub struct Report {
    json: Option<File>,
}

/// One table: which figure of the rounds, what it is called, and whom it is compared with.
pub struct Table<'a> {
    /// The name of the row in JSON.
    pub work: &'a str,
    pub title: &'a str,
    pub unit: &'a str,
    pub threads: usize,
    /// Followers, keys held, bytes: whatever the work varies.
    pub n: u64,
    /// Which figure of each round.
    pub figure: usize,
    /// The first one is JSON's `ratio`.
    pub against: &'a [&'a str],
}

impl Report {
    /// Lines are added to the file, so that several runs make one.
    pub fn new(path: Option<&str>) -> std::io::Result<Self> {
        let open = |path| File::options().create(true).append(true).open(path);
        Ok(Self { json: path.map(open).transpose()? })
    }

    /// What the page says of where it was measured.
    pub fn fact(&mut self, name: &str, value: &str) {
        if let Some(file) = &mut self.json {
            let value = value.replace(['"', '\\'], "");
            writeln!(file, r#"{{"{name}":"{value}"}}"#).expect("the JSON file can't be written");
        }
    }

    pub fn table(&mut self, rounds: &Rounds, table: &Table<'_>) {
        let against: Vec<(usize, &str)> = table
            .against
            .iter()
            .filter_map(|name| rounds.place(name).map(|place| (place, *name)))
            .collect();
        let mut head = format!("\n{}, {}", table.title, table.unit);
        let count = rounds.kept.len();
        let _ = write!(head, " ({count} round{}", if count == 1 { "" } else { "s" });
        if rounds.taken > count {
            let _ = write!(head, ", the quietest of {}", rounds.taken);
        }
        if rounds.loud > 0 {
            let _ = write!(head, ", {} of them loud", rounds.loud);
        }
        if let Some((near, far)) = rounds.line() {
            let _ = write!(head, "; core to core {near:.0} to {far:.0} ns");
        }
        println!("{head})");
        print!("  {:18}{:>12}", "", "median");
        for (_, name) in &against {
            print!("{:>14}", format!("/ {name}"));
        }
        println!();
        for (place, name) in rounds.names.iter().enumerate() {
            let value = rounds.figure(place, table.figure);
            print!("  {name:18}{:>12}", digits(value));
            let ratios: Vec<(&str, f64)> = against
                .iter()
                .map(|(to, name)| (*name, rounds.ratio(place, *to, table.figure)))
                .collect();
            for (_, ratio) in &ratios {
                print!("{ratio:>14.3}");
            }
            println!();
            self.line(name, value, &ratios, rounds, table);
        }
    }

    fn line(
        &mut self,
        contestant: &str,
        value: f64,
        ratios: &[(&str, f64)],
        rounds: &Rounds,
        table: &Table<'_>,
    ) {
        let Some(file) = &mut self.json else { return };
        let Table { work, unit, threads, n, .. } = table;
        let mut line = format!(
            r#"{{"work":"{work}","contestant":"{contestant}","threads":{threads},"n":{n},"unit":"{unit}","value":{}"#,
            number(value)
        );
        if let Some((_, ratio)) = ratios.first() {
            let _ = write!(line, r#","ratio":{}"#, number(*ratio));
        }
        let all: Vec<String> =
            ratios.iter().map(|(name, ratio)| format!(r#""{name}":{}"#, number(*ratio))).collect();
        let _ = write!(line, r#","ratios":{{{}}}"#, all.join(","));
        if let Some((near, far)) = rounds.line() {
            let _ = write!(line, r#","line_ns":[{},{}]"#, number(near), number(far));
        }
        let _ = write!(line, r#","rounds":{},"loud":{}}}"#, rounds.kept.len(), rounds.loud);
        writeln!(file, "{line}").expect("the JSON file can't be written");
    }
}

/// As many digits as tell something.
fn digits(value: f64) -> String {
    match value.abs() {
        1000.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// JSON has no NaN.
fn number(value: f64) -> String {
    if value.is_finite() { format!("{value:.6}") } else { "null".to_owned() }
}
