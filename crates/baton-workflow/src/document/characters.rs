//! Characters that no document may hold: those of which placeholders are made.

use baton_execution::{RESERVED_CHARACTERS, reserved_places};
use serde_json::Value;

use super::builder::Builder;

/// Refuses texts and names of fields with such a character. The depth of the document has been checked.
pub(super) fn refuse_reserved(document: &Value, builder: &mut Builder) {
    for place in reserved_places(document) {
        builder.violate(&place, RESERVED_CHARACTERS);
    }
}
