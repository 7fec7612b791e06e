//! Interleaved rounds: each runs every contestant once, in rotated order.
//!
//! Figures are only ever compared inside a round, since the machine is another one minutes later.
//! A round in which others had a share of the machine is taken again.

use crate::machine;

/// Of the time of a measurement, what may go to others before its round counts as loud.
const LOUD: f64 = 0.03;

/// A round in which the way between the cores became this many times longer or shorter is loud too:
/// the host has moved them.
const MOVED: f64 = 1.4;

/// Loud rounds are taken again until there are this many times more than were asked for.
const PATIENCE: usize = 3;

/// One contestant's figures of one round.
pub struct Taken {
    pub figures: Vec<f64>,
    /// The share of its time that went to others.
    pub foreign: f64,
}

pub struct Round {
    /// By contestant, then by figure.
    pub figures: Vec<Vec<f64>>,
    pub foreign: f64,
    /// ns from core to core before and after it, where more than one takes part.
    pub line: Option<(f64, f64)>,
}

pub struct Rounds {
    pub names: Vec<&'static str>,
    pub kept: Vec<Round>,
    /// Of the kept, how many were loud all the same.
    pub loud: usize,
    pub taken: usize,
}

/// Takes `count` quiet rounds, or after that many times `PATIENCE` the quietest there were.
pub fn take(
    count: usize,
    threads: usize,
    names: Vec<&'static str>,
    mut measure: impl FnMut(usize) -> Taken,
) -> Rounds {
    let cores = machine::cores();
    let mut rounds: Vec<Round> = Vec::new();
    let mut quiet = 0;
    while quiet < count && rounds.len() < count * PATIENCE {
        let line =
            || (threads > 1 && cores.len() > 1).then(|| machine::line_latency(cores[0], cores[1]));
        let before = line();
        let mut figures = vec![Vec::new(); names.len()];
        let mut foreign: f64 = 0.0;
        for turn in 0..names.len() {
            let contestant = (turn + rounds.len()) % names.len();
            let taken = measure(contestant);
            foreign = foreign.max(taken.foreign);
            figures[contestant] = taken.figures;
        }
        let line = before.zip(line());
        if line.is_some_and(|(before, after)| before.max(after) > MOVED * before.min(after)) {
            foreign = 1.0;
        }
        quiet += usize::from(foreign <= LOUD);
        rounds.push(Round { figures, foreign, line });
    }
    let taken = rounds.len();
    rounds.sort_by(|a, b| a.foreign.total_cmp(&b.foreign));
    rounds.truncate(count);
    let loud = rounds.iter().filter(|round| round.foreign > LOUD).count();
    Rounds { names, kept: rounds, loud, taken }
}

impl Rounds {
    pub fn place(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|other| *other == name)
    }

    /// The median of a figure over the rounds.
    pub fn figure(&self, contestant: usize, figure: usize) -> f64 {
        median(self.kept.iter().map(|round| round.figures[contestant][figure]).collect())
    }

    /// The median over the rounds of one contestant's figure divided by another's of the same round.
    pub fn ratio(&self, contestant: usize, to: usize, figure: usize) -> f64 {
        median(
            self.kept
                .iter()
                .map(|round| round.figures[contestant][figure] / round.figures[to][figure])
                .collect(),
        )
    }

    /// The shortest and the longest way between the cores.
    pub fn line(&self) -> Option<(f64, f64)> {
        let lines = || {
            let both = self.kept.iter().filter_map(|round| round.line);
            both.flat_map(|(before, after)| [before, after])
        };
        Some((lines().min_by(f64::total_cmp)?, lines().max_by(f64::total_cmp)?))
    }
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}
