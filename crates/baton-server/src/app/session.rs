//! The kind `Session`: conversations over several executions.
//!
//! `spec` and `metadata` are written here; whose turn it is, by [`crate::sessions`].

use baton_agent::check_compaction;
use baton_proto::{
    Resource, Timestamp, to_json_value,
    v1::{ExportSessionRequest, ExportedTurn, Json, Session, SessionSpec},
};
use baton_store::{CommitError, Expect, ResourceKey, StoredResource};
use baton_types::{ApiError, Violation, check_name};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use prost::Message as _;

use super::{
    App, Change, DeletedObject, ServedResource, WriteOptions, Written, admission::check_duration, agent, error,
    metadata, strategy, template,
};
use crate::sessions::{self, books::Kept};

impl ServedResource for Session {
    const SELECTABLE_FIELDS: &'static [&'static str] = &["metadata.name", "metadata.namespace", "spec.agent"];

    fn field(&self, field: &str) -> Option<String> {
        match field {
            "spec.agent" => Some(self.spec.as_ref().map(|spec| spec.agent.clone()).unwrap_or_default()),
            _ => strategy::common_field(self, field),
        }
    }

    fn decode_stored(body: &Bytes, revision: u64) -> Result<Self, ApiError> {
        let mut object = Self::decode(body.clone())
            .map_err(|error| ApiError::internal(format!("a session at revision {revision}: {error}")))?;
        object.metadata_mut().resource_version = revision.to_string();
        Ok(object)
    }

    async fn admit_new(app: &App, mut object: Self, options: WriteOptions) -> Result<Written<Self>, ApiError> {
        let mut violations = Vec::new();
        metadata::complete(&mut object, &mut violations);
        let now = metadata::now_ms();
        let generated = metadata::prepare_new(object.metadata_mut(), metadata::new_uid(), now, &mut violations);
        metadata::check(object.metadata_mut(), &mut violations);
        object.take_status_of(&Self::default());
        check_spec(object.spec.get_or_insert_default(), &mut violations);
        if !violations.is_empty() {
            return Err(ApiError::violations(violations));
        }
        for attempt in 1.. {
            template::check_size(&object)?;
            let meta = object.metadata_mut().clone();
            let key = ResourceKey::new(Self::KIND, meta.namespace.clone(), meta.name.clone());
            let mut kept = Kept::new(app, key.clone(), object.clone());
            kept.write_status();
            object = kept.object.clone();
            let taken = if options.dry_run {
                app.read(move |store| store.get(&key)).await?.is_some()
            } else {
                match template::commit_put(app, kept.put()?).await {
                    Ok(revision) => {
                        object.metadata_mut().resource_version = revision.to_string();
                        false
                    }
                    Err(CommitError::Exists { .. }) => true,
                    Err(failed) => return Err(error::commit_failed(&failed)),
                }
            };
            if !taken {
                break;
            }
            if !generated || attempt >= template::NAME_ATTEMPTS_MAX {
                return Err(error::already_exists::<Self>(&meta.namespace, &meta.name));
            }
            object.metadata_mut().name = metadata::generated_name(&meta.generate_name);
        }
        Ok(Written { object, created: true, warnings: Vec::new() })
    }

    async fn replace(
        app: &App,
        stored: StoredResource,
        change: Change<Self>,
        options: WriteOptions,
    ) -> Result<Written<Self>, ApiError> {
        let mut kept = Kept::read(&stored)?;
        let old = kept.object.clone();
        let mut object = change(&old)?;
        let mut violations = Vec::new();
        let before = old.metadata().cloned().unwrap_or_default();
        metadata::keep_system_fields(object.metadata_mut(), &before);
        metadata::check_no_new_finalizers(object.metadata_mut(), &before, &mut violations);
        metadata::check(object.metadata_mut(), &mut violations);
        check_spec(object.spec.get_or_insert_default(), &mut violations);
        if !violations.is_empty() {
            return Err(ApiError::violations(violations));
        }
        object.take_status_of(&old);
        if !object.same_spec(&old) {
            object.metadata_mut().generation += 1;
        }
        template::check_size(&object)?;
        kept.object = object;
        kept.write_status();
        kept.object.metadata_mut().resource_version.clone_from(&before.resource_version);
        if options.dry_run || kept.object == old {
            return Ok(Written { object: kept.object, created: false, warnings: Vec::new() });
        }
        let free = kept.object.metadata_mut().finalizers.is_empty() && kept.books.is_idle();
        let written = if before.deletion_timestamp.is_some() && free {
            template::delete_row(app, &stored, &kept.object).await
        } else {
            template::commit_put(app, kept.put()?).await
        };
        let revision = written.map_err(|failed| template::write_failed::<Self>(&stored, &failed))?;
        kept.object.metadata_mut().resource_version = revision.to_string();
        Ok(Written { object: kept.object, created: false, warnings: Vec::new() })
    }

    /// One that executions wait in, or have their turn in, goes when the last of them has ended.
    async fn remove(
        app: &App,
        stored: StoredResource,
        _expected: Option<u64>,
    ) -> Result<DeletedObject<Self>, ApiError> {
        let mut kept = Kept::read(&stored)?;
        if kept.books.is_idle() {
            return template::remove_row(app, &stored, |object: &Self| kept.body(object)).await;
        }
        let meta = kept.object.metadata_mut();
        if meta.deletion_timestamp.is_none() {
            meta.deletion_timestamp = Some(Timestamp::from_millis(metadata::now_ms()).whole_seconds());
            meta.generation += 1;
            let put = baton_store::ResourcePut { expect: Expect::Revision(stored.revision), ..kept.put()? };
            let revision = template::commit_put(app, put).await;
            let revision = revision.map_err(|failed| template::write_failed::<Self>(&stored, &failed))?;
            kept.object.metadata_mut().resource_version = revision.to_string();
        }
        Ok(DeletedObject { gone: false, object: kept.object })
    }
}

fn check_spec(spec: &mut SessionSpec, violations: &mut Vec<Violation>) {
    if !spec.agent.is_empty()
        && let Err(message) = check_name(&spec.agent)
    {
        violations.push(Violation::new("spec.agent", message));
    }
    check_duration("spec.retention", &spec.retention, violations);
    check_duration("spec.ttl", &spec.ttl, violations);
    if let Some(compaction) = spec.compaction.as_mut() {
        if let Some(model) = compaction.model.as_mut() {
            agent::canonicalize_model(model, "spec.compaction.model", violations);
        }
        if let Err(found) = check_compaction(&to_json_value(compaction)) {
            violations.extend(found.into_iter().map(|violation| violation.under("spec.compaction")));
        }
    }
}

impl App {
    /// The agent of executions in a session that name none; empty if the session says none, or does not exist.
    pub(crate) async fn agent_of_session(&self, namespace: &str, name: &str) -> Result<String, ApiError> {
        let key = ResourceKey::new(Session::KIND, namespace, name);
        let found = self.read(move |store| store.get(&key)).await?;
        let session = found.map(|stored| Session::decode_stored(&stored.body, stored.revision)).transpose()?;
        Ok(session.and_then(|session| session.spec).map(|spec| spec.agent).unwrap_or_default())
    }

    /// The turns of a session that have ended, oldest first. Turns that end later are not among them.
    ///
    /// # Errors
    /// NotFound; InvalidArgument; a turn cannot be read, also in the middle.
    pub async fn export_session(
        &self,
        request: &ExportSessionRequest,
    ) -> Result<impl Stream<Item = Result<ExportedTurn, ApiError>> + Send + use<>, ApiError> {
        let after = u32::try_from(request.after).map_err(|_| {
            ApiError::violations(vec![Violation::new("after", format!("is {}, allowed are 0 and more", request.after))])
        })?;
        let stored = self.stored::<Session>(&request.namespace, &request.name).await?;
        let turns = Kept::read(&stored)?.turns_after(self, after).await?;
        let app = self.clone();
        Ok(stream::iter(turns).then(move |digest| {
            let app = app.clone();
            async move { sessions::turn(&app, digest).await.map(exported) }
        }))
    }
}

fn exported(turn: baton_agent::TurnRecord) -> ExportedTurn {
    ExportedTurn {
        turn: i32::try_from(turn.turn).unwrap_or(i32::MAX),
        execution: turn.execution,
        uid: turn.uid.to_string(),
        phase: turn.phase.to_string(),
        started: Some(Timestamp::from_millis(turn.started_ms)),
        ended: Some(Timestamp::from_millis(turn.ended_ms)),
        messages: turn
            .messages
            .iter()
            .map(|message| Json { text: serde_json::to_string(message).unwrap_or_default() })
            .collect(),
        summary: turn.summary.map(|summary| summary.text).unwrap_or_default(),
    }
}
