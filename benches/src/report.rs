//! How a figure is told: what was asked, what came out, what it is measured against, what was aimed for.

/// One answer.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) question: String,
    pub(crate) ours: String,
    pub(crate) beside: String,
    pub(crate) goal: String,
    /// `None` where there is no goal.
    pub(crate) reached: Option<bool>,
}

impl Figure {
    pub(crate) fn new(question: &str, ours: impl Into<String>) -> Self {
        Self {
            question: question.to_owned(),
            ours: ours.into(),
            beside: String::new(),
            goal: String::new(),
            reached: None,
        }
    }

    pub(crate) fn beside(mut self, rival: impl Into<String>) -> Self {
        self.beside = rival.into();
        self
    }

    pub(crate) fn goal(mut self, goal: &str, reached: bool) -> Self {
        goal.clone_into(&mut self.goal);
        self.reached = Some(reached);
        self
    }
}

pub(crate) fn heading() {
    println!("| question | Outrigger | beside it | goal | reached |\n|---|---|---|---|---|");
}

pub(crate) fn line(figure: &Figure) {
    let Figure { question, ours, beside, goal, reached } = figure;
    let verdict = match reached {
        Some(true) => "yes",
        Some(false) => "**no**",
        None => "",
    };
    println!("| {question} | {ours} | {beside} | {goal} | {verdict} |");
}

/// The middle one.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Nanoseconds in the unit that reads best.
pub(crate) fn time(nanoseconds: f64) -> String {
    match nanoseconds {
        n if n < 1e6 => format!("{:.0} us", n / 1e3),
        n if n < 1e9 => format!("{:.2} ms", n / 1e6),
        n => format!("{:.2} s", n / 1e9),
    }
}

/// A rate with thousands separated.
pub(crate) fn rate(per_second: f64) -> String {
    let digits = format!("{per_second:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    format!("{text}/s")
}
