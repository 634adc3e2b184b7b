//! Compiling a rule on a thread of its own, and looking at what came out.
//!
//! The compiler goes down by recursion, some 130 KiB of stack for every bracket in a build without optimisation: two
//! dozen brackets would overflow the stack of a worker thread, and that ends the process. So it gets a stack that the
//! longest rule cannot exhaust. Evaluation recurses too, but less, and on the consumer's thread: rules that are nested
//! too deeply for that are refused here.

use super::{ENV, RuleError};
use crate::limits::RULE_DEPTH_MAX;
use cel::{
    Program,
    common::ast::{EntryExpr, Expr, IdedExpr},
};
use std::thread;

/// Virtual memory; only what is used becomes real.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// Names that are no variables.
const TYPES: [&str; 11] = [
    "bool",
    "bytes",
    "double",
    "google",
    "int",
    "list",
    "map",
    "null_type",
    "string",
    "type",
    "uint",
];

/// Compiles `rule`. A panic in the compiler, which is foreign code fed with foreign text, is the rule's fault and not the
/// process's end.
pub(super) fn apart(rule: &str) -> Result<Program, RuleError> {
    let syntax = |message: String| RuleError::Syntax { rule: rule.to_owned(), message };
    thread::scope(|scope| {
        let work = || {
            let program = ENV.compile(rule).map_err(|errors| syntax(errors.to_string()))?;
            look(program.expression(), &mut Vec::new(), 1).map_err(|flaw| flaw.about(rule))?;
            Ok(program)
        };
        let thread =
            thread::Builder::new().name("rule compiler".to_owned()).stack_size(STACK_BYTES);
        match thread.spawn_scoped(scope, work) {
            Ok(thread) => thread
                .join()
                .unwrap_or_else(|_| Err(syntax("the compiler gave up on it".to_owned()))),
            Err(error) => Err(syntax(format!("the compiler could not be started: {error}"))),
        }
    })
}

/// What is wrong with a rule that can be parsed.
enum Flaw {
    Deep,
    Unknown(String),
}

impl Flaw {
    fn about(self, rule: &str) -> RuleError {
        let rule = rule.to_owned();
        match self {
            Self::Deep => RuleError::TooDeep { rule },
            Self::Unknown(name) => RuleError::UnknownVariable { rule, name },
        }
    }
}

/// Looks for nesting that is too deep, and for variables other than `event` and those that macros such as `exists`
/// introduce, which are in `scope`.
fn look<'a>(expression: &'a IdedExpr, scope: &mut Vec<&'a str>, depth: usize) -> Result<(), Flaw> {
    if depth > RULE_DEPTH_MAX {
        return Err(Flaw::Deep);
    }
    if let Expr::Ident(name) = &expression.expr {
        let known = name == "event" || TYPES.contains(&&**name) || scope.contains(&&**name);
        return if known { Ok(()) } else { Err(Flaw::Unknown(name.clone())) };
    }
    for part in parts(&expression.expr) {
        look(part, scope, depth + 1)?;
    }
    if let Expr::Comprehension(over) = &expression.expr {
        let outside = scope.len();
        scope.extend([&*over.iter_var, &*over.accu_var]);
        scope.extend(over.iter_var2.as_deref());
        for part in [&over.loop_cond, &over.loop_step, &over.result] {
            look(part, scope, depth + 1)?;
        }
        scope.truncate(outside);
    }
    Ok(())
}

/// The parts of an expression that see the same variables as it does.
fn parts(expression: &Expr) -> Vec<&IdedExpr> {
    match expression {
        Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).collect(),
        Expr::Comprehension(over) => vec![&over.iter_range, &over.accu_init],
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Select(select) => vec![&*select.operand],
        Expr::Map(map) => map.entries.iter().flat_map(|entry| entry_parts(&entry.expr)).collect(),
        Expr::Struct(record) => {
            record.entries.iter().flat_map(|entry| entry_parts(&entry.expr)).collect()
        }
        Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => Vec::new(),
    }
}

fn entry_parts(entry: &EntryExpr) -> Vec<&IdedExpr> {
    match entry {
        EntryExpr::StructField(field) => vec![&field.value],
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
    }
}
