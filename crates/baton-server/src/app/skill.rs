//! The kind `Skill`, and how executions of agents get theirs.
//!
//! # Invariants
//! - An execution is pinned to the content of its agent's skills: whatever becomes of a skill, the execution goes on with what it
//!   began with. The digest in `status.template` is that of agent and skills together.

use baton_agent::{PINNED_SKILLS, check_skill};
use baton_execution::ProgramKind;
use baton_proto::{
    Resource,
    v1::{Skill, SkillSpec},
};
use baton_store::{ResourceKey, StoredResource};
use baton_types::{ApiError, Digest, Violation};
use bytes::Bytes;
use prost::Message as _;
use serde_json::{Map, Value};

use super::{
    App, Change, DeletedObject, ServedResource, WriteOptions, Written,
    plain::{self, PlainKind},
    strategy,
};
use crate::programs::Compiled;

/// Largest agent with its skills, in bytes of its JSON: it is read whole when an execution comes back into memory.
const PINNED_BYTES_MAX: usize = 4 << 20;

impl ServedResource for Skill {
    const SELECTABLE_FIELDS: &'static [&'static str] = &["metadata.name", "metadata.namespace"];

    fn field(&self, field: &str) -> Option<String> {
        strategy::common_field(self, field)
    }

    fn decode_stored(body: &Bytes, revision: u64) -> Result<Self, ApiError> {
        let mut object = Self::decode(body.clone())
            .map_err(|error| ApiError::internal(format!("a skill at revision {revision}: {error}")))?;
        object.metadata_mut().resource_version = revision.to_string();
        Ok(object)
    }

    async fn admit_new(app: &App, object: Self, options: WriteOptions) -> Result<Written<Self>, ApiError> {
        plain::create(app, object, options).await
    }

    async fn replace(
        app: &App,
        stored: StoredResource,
        change: Change<Self>,
        options: WriteOptions,
    ) -> Result<Written<Self>, ApiError> {
        plain::replace(app, &stored, change, options).await
    }

    async fn remove(
        app: &App,
        stored: StoredResource,
        _expected: Option<u64>,
    ) -> Result<DeletedObject<Self>, ApiError> {
        plain::remove(app, &stored).await
    }
}

impl PlainKind for Skill {
    fn check(&mut self, violations: &mut Vec<Violation>) {
        let Some(spec) = self.spec.as_mut() else {
            violations.push(Violation::new("spec", "must be set: description, instructions"));
            return;
        };
        spec.files.sort_by(|one, other| one.path.cmp(&other.path));
        if let Err(found) = check_skill(&content(spec)) {
            violations.extend(found.into_iter().map(|violation| violation.under("spec")));
        }
    }

    fn write_status(&mut self) {
        let digest = self.spec.as_ref().map(|spec| Digest::of(content(spec).to_string().as_bytes()).to_string());
        self.status.get_or_insert_default().digest = digest.unwrap_or_default();
    }
}

fn content(spec: &SkillSpec) -> Value {
    baton_proto::to_json_value(spec)
}

/// What an execution of an agent is pinned to: its definition, with the skills that it names.
pub(super) struct Pinned {
    pub(super) definition: Bytes,
    pub(super) digest: Digest,
}

/// Puts the skills of an agent into its definition; `None` if it has none, or if a violation was noted. `field` is where the
/// execution names the agent.
pub(super) async fn pin(
    app: &App,
    namespace: &str,
    field: &str,
    definition: &Bytes,
    digest: &Digest,
    violations: &mut Vec<Violation>,
) -> Result<Option<Pinned>, ApiError> {
    let internal = |fault: &dyn std::fmt::Display| ApiError::internal(format!("the agent {digest}: {fault}"));
    let Compiled::Agent(agent) =
        app.programs().get(ProgramKind::Agent, digest, definition).map_err(|fault| internal(&fault))?
    else {
        return Ok(None);
    };
    let names: Vec<String> = agent.skills().map(str::to_owned).collect();
    if names.is_empty() {
        return Ok(None);
    }
    let noted = violations.len();
    let mut skills = Map::new();
    for name in names {
        let key = ResourceKey::new(Skill::KIND, namespace, name.clone());
        match app.read(move |store| store.get(&key)).await? {
            Some(stored) => {
                let spec = Skill::decode_stored(&stored.body, stored.revision)?.spec.unwrap_or_default();
                skills.insert(name, content(&spec));
            }
            None => violations.push(Violation::new(
                field,
                format!("its skill '{name}' is not there: no skill of that name in namespace '{namespace}'"),
            )),
        }
    }
    if violations.len() > noted {
        return Ok(None);
    }
    let mut whole: Value = serde_json::from_slice(definition).map_err(|error| internal(&error))?;
    whole[PINNED_SKILLS] = Value::Object(skills);
    let definition = Bytes::from(whole.to_string());
    if definition.len() > PINNED_BYTES_MAX {
        let message = format!("has {} bytes with its skills, allowed are up to {PINNED_BYTES_MAX}", definition.len());
        violations.push(Violation::new(field, message));
        return Ok(None);
    }
    let digest = Digest::of(&definition);
    app.programs().get(ProgramKind::Agent, &digest, &definition).map_err(|fault| internal(&fault))?;
    Ok(Some(Pinned { definition, digest }))
}
