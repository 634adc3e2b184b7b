//! One file per question.

pub(crate) mod bodies;
pub(crate) mod chain;
pub(crate) mod clear;
pub(crate) mod commits;
pub(crate) mod delivery;
pub(crate) mod drain;
pub(crate) mod herd;
pub(crate) mod http;
pub(crate) mod idle;
pub(crate) mod invoke;
pub(crate) mod large;
pub(crate) mod metastable;
pub(crate) mod neighbour;
pub(crate) mod overload;
pub(crate) mod queue;
pub(crate) mod reads;
pub(crate) mod replicas;
pub(crate) mod share;
pub(crate) mod size;
pub(crate) mod start;
pub(crate) mod tail;
pub(crate) mod writes;
