//! Reasons in words for the features that speak against sharing an answer.

use super::features::{Feature, Features};

/// From this value on a feature is a reason; the names are part of the contract.
const REASONS: [(Feature, f32, &str); 40] = [
    (Feature::NumSub, 1.0, "number"),
    (Feature::NumOne, 1.0, "number_one_sided"),
    (Feature::EntSub, 1.0, "name"),
    (Feature::EntOne, 1.0, "name_one_sided"),
    (Feature::Neg, 1.0, "negation"),
    (Feature::Ant, 1.0, "opposite"),
    (Feature::ClsSub, 1.0, "class_member"),
    (Feature::TimeOne, 1.0, "time_one_sided"),
    (Feature::SwapCls, 1.0, "swapped_roles"),
    (Feature::Turned, 1.0, "swapped_roles"),
    (Feature::Reversed, 1.0, "swapped_roles"),
    (Feature::Rebound, 1.0, "scope"),
    (Feature::RoleSwap, 1.0, "swapped_prepositions"),
    (Feature::Stranded, 1.0, "swapped_roles"),
    (Feature::RoleDir, 1.0, "direction"),
    (Feature::DirOne, 2.0, "direction_one_sided"),
    (Feature::Passive, 1.0, "passive"),
    (Feature::Voice, 1.0, "passive"),
    (Feature::Modal, 1.0, "modality"),
    (Feature::Tense, 1.0, "tense"),
    (Feature::Pronoun, 1.0, "pronoun"),
    (Feature::Person, 1.0, "person"),
    (Feature::PronounSub, 1.0, "person"),
    (Feature::AdjFlip, 1.0, "word_order"),
    (Feature::Moved, 0.34, "word_order"),
    (Feature::WhHard, 1.0, "question_type"),
    (Feature::ModOne, 1.0, "modifier_one_sided"),
    (Feature::Degree, 1.0, "modifier_one_sided"),
    (Feature::CodeSub, 1.0, "code"),
    (Feature::CodeOne, 1.0, "code"),
    (Feature::CodeOrder, 1.0, "code"),
    (Feature::LiteralSub, 1.0, "code"),
    (Feature::LiteralOne, 1.0, "code"),
    (Feature::Quantity, 1.0, "quantifier"),
    (Feature::PrepSub, 2.0, "preposition"),
    (Feature::InFrame, 1.0, "word_exchanged"),
    (Feature::Quoted, 1.0, "quotation"),
    (Feature::HeadNoun, 1.0, "subject"),
    (Feature::ForeignOut, 1.0, "foreign_words"),
    (Feature::Foreign, 2.0, "unknown_language"),
];

/// The reasons of a pair, each once, in the order of the table.
pub fn reasons(features: &Features) -> Vec<&'static str> {
    let mut found = Vec::new();
    for (feature, from, name) in REASONS {
        if features.get(feature) >= from && !found.contains(&name) {
            found.push(name);
        }
    }
    found
}
