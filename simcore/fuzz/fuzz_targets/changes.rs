//! Sequences of changes and searches: every answer equals brute force, to the bit.
#![no_main]

use libfuzzer_sys::fuzz_target;
use simcore_fuzz::changes;
use simcore_fuzz::scenario::Scenario;

fuzz_target!(|scenario: Scenario| changes::run(&scenario));
