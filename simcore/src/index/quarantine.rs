//! Containment of internal faults: a panic becomes one error, and the index answers nothing afterwards.
//!
//! A panic in the middle of a change leaves the writer's bookkeeping in an unknown state, and one in a search
//! says that some invariant is wrong. Neither can be repaired from inside, but the owner can rebuild the index
//! from the store, so the fault is reported once and every later call says so.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use super::Error;

/// The health of one index.
#[derive(Debug, Default)]
pub struct Quarantine {
    closed: AtomicBool,
    armed: AtomicBool,
}

impl Quarantine {
    /// Runs `work` unless the index is quarantined; a panic or [`Error::Broken`] in it quarantines the index.
    pub fn run<R>(&self, operation: &'static str, work: impl FnOnce() -> Result<R, Error>) -> Result<R, Error> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::Quarantined);
        }
        // Nothing half-changed is seen again: every later call stops at the flag above.
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Err(Error::Broken)) | Err(_) => {
                let known = self.closed.swap(true, Ordering::AcqRel);
                Err(if known { Error::Quarantined } else { Error::Poisoned(operation) })
            }
            Ok(result) => result,
        }
    }

    /// Makes the next call of [`Quarantine::trip`] panic.
    pub fn arm(&self) {
        self.armed.store(true, Ordering::Release);
    }

    /// The place of a possible fault; panics if a test asked for it.
    #[expect(clippy::panic, reason = "this is the injected fault")]
    pub fn trip(&self) {
        if self.armed.load(Ordering::Relaxed) && self.armed.swap(false, Ordering::AcqRel) {
            panic!("injected fault");
        }
    }
}
