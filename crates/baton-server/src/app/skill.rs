//! The kind `Skill`, and how executions of agents get theirs.
//!
//! # Invariants
//! - An execution is pinned to the content of its agent's skills: whatever becomes of a skill, the execution goes on with what it
//!   began with. The digest in `status.template` is that of agent and skills together.

use baton_agent::{PINNED_SKILLS, SKILLS_MAX, check_skill};
use baton_execution::ProgramKind;
use baton_proto::{Resource, v1::Skill};
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

/// All skills of one agent, in bytes: they are read whole when an execution comes back into memory.
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
        let content = baton_proto::to_json_value(spec);
        if let Err(found) = check_skill(&content) {
            violations.extend(found.into_iter().map(|violation| violation.under("spec")));
        }
    }

    fn write_status(&mut self) {
        let content = self.spec.as_ref().map(baton_proto::to_json_value).unwrap_or_default();
        self.status.get_or_insert_default().digest = Digest::of(content.to_string().as_bytes()).to_string();
    }

    fn written(app: &App, namespace: &str) {
        app.templates().forget_all(ProgramKind::Agent, namespace);
    }
}

impl App {
    /// Puts the skills that an agent names into its content; gives the places of those that there are not, and a sentence for
    /// each.
    ///
    /// # Errors
    /// What the store says.
    pub(super) async fn join_skills(
        &self,
        namespace: &str,
        content: &mut Value,
    ) -> Result<Vec<(String, String)>, ApiError> {
        let mut missing = Vec::new();
        let named: Vec<String> = content
            .get("skills")
            .and_then(Value::as_array)
            .map(|names| names.iter().take(SKILLS_MAX).filter_map(Value::as_str).map(str::to_owned).collect())
            .unwrap_or_default();
        let (mut skills, mut bytes) = (Map::new(), 0);
        for (index, name) in named.into_iter().enumerate() {
            let key = ResourceKey::new(Skill::KIND, namespace, name.clone());
            let place = format!("skills[{index}]");
            let Some(stored) = self.read(move |store| store.get(&key)).await? else {
                missing.push((place, format!("no skill '{name}' in namespace '{namespace}'")));
                continue;
            };
            bytes += stored.body.len();
            if bytes > PINNED_BYTES_MAX {
                let why = format!("the skills up to '{name}' have {bytes} bytes, allowed are up to {PINNED_BYTES_MAX}");
                missing.push((place, why));
                break;
            }
            let spec = Skill::decode_stored(&stored.body, stored.revision)?.spec.unwrap_or_default();
            skills.insert(name, baton_proto::to_json_value(&spec));
        }
        if let Some(fields) = content.as_object_mut().filter(|_| !skills.is_empty()) {
            fields.insert(PINNED_SKILLS.to_owned(), Value::Object(skills));
        }
        Ok(missing)
    }
}
