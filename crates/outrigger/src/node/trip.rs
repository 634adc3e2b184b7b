//! The condition under which a circuit breaker opens: CEL over what was counted.

use cel::{Context, Program, Value};
use outrigger_resilience::{Counts, Trip};
use std::{sync::Arc, thread};

/// Longest condition. The names are long, the conditions are not.
const BYTES_MAX: usize = 512;
/// Compiling and evaluating recurse; a condition this long cannot exhaust this much (virtual) memory.
const STACK_BYTES: usize = 64 * 1024 * 1024;
/// Evaluation runs on the stack of whoever records a failure, so nesting is bounded further.
const BRACKETS_MAX: usize = 8;

/// Compiles `condition` on a thread of its own; tried once on nothing counted, so that a misspelt name is an error at
/// start.
pub(super) fn compile(condition: &str) -> Result<Trip, String> {
    if condition.len() > BYTES_MAX {
        return Err(format!("it is longer than {BYTES_MAX} bytes"));
    }
    if condition.bytes().filter(|byte| b"([{!?-".contains(byte)).count() > BRACKETS_MAX {
        return Err(format!("it has more than {BRACKETS_MAX} brackets and negations"));
    }
    let work = || {
        let program = Program::compile(condition).map_err(|error| error.to_string())?;
        match evaluate(&program, &Counts::default()) {
            // 0 / 0 before anything was counted is the condition's normal state, not a mistake in it.
            Err(error) if !error.contains("zero") => Err(error),
            _ => Ok(program),
        }
    };
    let program = thread::scope(|scope| {
        let thread =
            thread::Builder::new().name("trip compiler".to_owned()).stack_size(STACK_BYTES);
        let started = thread.spawn_scoped(scope, work).map_err(|error| error.to_string())?;
        // A panic in foreign code fed with foreign text is the text's fault and not the process's end.
        started.join().unwrap_or_else(|_| Err("the compiler gave up on it".to_owned()))
    })?;
    let says = Arc::new(move |counts: &Counts| evaluate(&program, counts).unwrap_or_default());
    Ok(Trip::Custom { condition: condition.into(), says })
}

fn evaluate(program: &Program, counts: &Counts) -> Result<bool, String> {
    let mut context = Context::default();
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    context.add_variable_from_value("requests", number(counts.requests));
    context.add_variable_from_value("totalSuccesses", number(counts.total_successes));
    context.add_variable_from_value("totalFailures", number(counts.total_failures));
    context.add_variable_from_value("consecutiveSuccesses", number(counts.consecutive_successes));
    context.add_variable_from_value("consecutiveFailures", number(counts.consecutive_failures));
    match program.execute(&context) {
        Ok(Value::Bool(answer)) => Ok(answer),
        Ok(_) => Err("it does not give true or false".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::compile;
    use outrigger_resilience::{Counts, Trip};

    fn opens(condition: &str, counts: Counts) -> bool {
        match compile(condition).unwrap() {
            Trip::Custom { says, .. } => says(&counts),
            Trip::ConsecutiveFailures(_) | Trip::Rates(_) => panic!("a condition was given"),
        }
    }

    #[test]
    fn conditions_over_counts() {
        let counts = Counts {
            requests: 10,
            total_failures: 6,
            consecutive_failures: 3,
            ..Counts::default()
        };
        assert!(opens("consecutiveFailures >= 3", counts));
        assert!(!opens("consecutiveFailures > 3", counts));
        assert!(opens("requests >= 10 && totalFailures * 100 / requests >= 60", counts));
    }

    #[test]
    fn mistakes_are_found_at_start() {
        for bad in ["consecutiveFailure > 3", "consecutiveFailures >", "requests + 1", "'text'", ""]
        {
            assert!(compile(bad).is_err(), "{bad}");
        }
        assert!(compile(&"1 == 1 && ".repeat(1000)).is_err());
        assert!(compile(&"(".repeat(100)).is_err());
        assert!(
            compile("totalFailures / requests > 0").is_ok(),
            "0 / 0 only before anything was counted"
        );
    }
}
