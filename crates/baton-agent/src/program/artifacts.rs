//! What a run makes: texts that are kept with the execution, under the digest of their content.
//!
//! # Invariants
//! - The history and the status hold name, media type, digest and size; the content is stored once.

use baton_execution::{ArtifactSummary, Command, Fault, Note, OperationId, fault_type};
use baton_types::Digest;
use serde_json::{Value, json};

use super::{AgentProgram, Step, state::CallState};

/// Artifacts of one execution: `status` lists them.
const ARTIFACTS_MAX: usize = 32;
/// Largest artifact, in bytes: what an activity may return.
const ARTIFACT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How much of a result that is too long a model is shown, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;

impl AgentProgram {
    /// Keeps what the model saves, and tells it so.
    pub(super) fn save(
        &mut self,
        id: &OperationId,
        tool: &str,
        (name, media_type, content): (String, String, String),
        step: &mut Step,
    ) -> CallState {
        match self.keep(name, media_type, content, step) {
            Ok(kept) => {
                let told = json!({"name": kept.name, "digest": kept.digest, "sizeBytes": kept.size_bytes});
                self.call_completed(id, tool, told, step)
            }
            Err(why) => self.call_failed(id, tool, &Fault::new(fault_type::TOO_LARGE, 413, why), step),
        }
    }

    /// Keeps a result that is too long to be shown; what the model is told in its place. `None` if it cannot be kept.
    pub(super) fn keep_result(
        &mut self,
        id: &OperationId,
        result: &Value,
        content: &str,
        step: &mut Step,
    ) -> Option<Value> {
        if !self.definition.artifacts {
            return None;
        }
        let (media_type, ending) =
            if result.is_string() { ("text/plain", "txt") } else { ("application/json", "json") };
        let place = id.position.trim_start_matches("/turns/").replace("/tools/", "-");
        let place: String =
            place.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect();
        let name = format!("result-{place}.{ending}");
        let kept = self.keep(name, media_type.to_owned(), content.to_owned(), step).ok()?;
        let head = &content[..content.floor_char_boundary(HEAD_BYTES_MAX)];
        let note =
            format!("the result has {} bytes: this is its beginning, all of it is kept as an artifact", content.len());
        let artifact = json!({"name": kept.name, "digest": kept.digest, "sizeBytes": kept.size_bytes});
        Some(json!({"note": note, "artifact": artifact, "beginning": head}))
    }

    fn keep(
        &mut self,
        name: String,
        media_type: String,
        content: String,
        step: &mut Step,
    ) -> Result<ArtifactSummary, String> {
        if content.len() > ARTIFACT_BYTES_MAX {
            let length = content.len();
            return Err(format!(
                "the artifact has {length} bytes and was not kept; allowed are up to {ARTIFACT_BYTES_MAX}"
            ));
        }
        let artifacts = &mut self.state.artifacts;
        let others = artifacts.iter().filter(|other| other.name != name).count();
        if others >= ARTIFACTS_MAX {
            return Err(format!("an execution keeps at most {ARTIFACTS_MAX} artifacts; this one was not kept"));
        }
        let digest = Digest::of(content.as_bytes()).to_string();
        let kept = ArtifactSummary {
            name: name.clone(),
            media_type: media_type.clone(),
            digest,
            size_bytes: content.len() as u64,
        };
        artifacts.retain(|other| other.name != name);
        artifacts.push(kept.clone());
        step.push(Command::Note(Note::Artifact { name, media_type, content }));
        Ok(kept)
    }
}
