//! The engine's integration tests, in one binary so that they are linked once and share `support`.
//!
//! The binary's allocator counts per thread, so tests that measure allocations are not affected by tests that
//! run in parallel on other threads.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says what went wrong by failing there")]

mod golden;
mod malformed;
mod memory;
mod operators;
mod support;
