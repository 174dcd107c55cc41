//! Tests of the metadata service, in one binary so that they link once.

#![expect(clippy::unwrap_used, reason = "in a test what fails must stop it")]
#![expect(unreachable_pub, reason = "helpers are shared by the modules of this binary")]

mod common;
mod concurrency;
mod conformance;
mod errors;
mod flaky;
mod golden;
mod model;
mod recovery;
