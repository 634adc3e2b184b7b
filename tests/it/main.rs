//! The end-to-end tests, one binary for fast linking. What each file is about is its head.

mod backup;
mod bad_input;
mod calls;
mod clients;
mod commands;
mod compat;
mod crash;
mod curl;
mod delivery;
mod documents;
mod hosts;
mod limits;
mod locks;
mod policies;
mod process;
mod reload;
mod rolling;
mod several;
mod sharing;
mod sockets;
mod storage;
mod torture;
mod wire_fuzz;
