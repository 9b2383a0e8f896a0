//! Skills: instructions and files for a kind of work, which a model loads when it needs them.
//!
//! An agent names its skills (`skills`), and the server pins what they hold with the agent, under [`PINNED_SKILLS`]: an
//! execution goes on with the skills that it began with. The model is told names and descriptions with the instructions; two
//! tools give it the rest, from the definition alone (see [`crate::tools::skill`]).
//!
//! # Deliberately absent
//! Running a skill's scripts: they are text that a model may read. Permissions: `allowedTools` says what a skill works with, the
//! agent's tools and its policy say what is allowed.

use std::fmt::Write as _;

use baton_types::{Violation, check_name};
use serde_json::Value;

use crate::fields::{Fields, Report, cut};

/// Where a pinned definition has the content of its skills: by name, each as the `spec` of a `Skill`.
pub const PINNED_SKILLS: &str = "pinnedSkills";
/// Skills of one agent: every model call carries their descriptions.
pub const SKILLS_MAX: usize = 32;
/// Longest description, in characters: what the format of skills allows.
const DESCRIPTION_LENGTH_MAX: usize = 1024;
/// Longest `compatibility`, in characters: what the format of skills allows.
const COMPATIBILITY_LENGTH_MAX: usize = 500;
/// Longest instructions and longest text of a file, in bytes: they are read whole, and a result that a model sees is limited.
const TEXT_BYTES_MAX: usize = 192 * 1024;
/// Files of one skill.
const FILES_MAX: usize = 128;
/// Longest path of a file, in bytes.
const PATH_BYTES_MAX: usize = 255;
/// Longest media type, license, or name of a tool, in bytes.
const WORD_BYTES_MAX: usize = 255;
/// Tools that one skill names, and entries of its `metadata`.
const ENTRIES_MAX: usize = 64;

/// A skill as an execution has it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Skill {
    pub(crate) name: String,
    /// `None` where only its name is known: a definition that was checked and not pinned.
    pub(crate) content: Option<SkillContent>,
}

/// What a skill holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct SkillContent {
    description: String,
    instructions: String,
    files: Vec<SkillFile>,
    allowed_tools: Vec<String>,
    compatibility: String,
}

#[derive(Debug, PartialEq, Eq)]
struct SkillFile {
    path: String,
    media_type: String,
    /// `None` for what is no text.
    text: Option<String>,
}

/// Checks the `spec` of a `Skill` in its JSON form.
///
/// # Errors
/// Every violation, with paths within the spec.
pub fn check_skill(spec: &Value) -> Result<(), Vec<Violation>> {
    let report = Report::default();
    if let Some(fields) = Fields::of(&report, "", spec) {
        SkillContent::read(fields);
    }
    let violations = report.into_violations();
    if violations.is_empty() { Ok(()) } else { Err(violations) }
}

/// Reads `skills` of an agent, with what is pinned of them.
pub(crate) fn read_skills(fields: &Fields<'_>) -> Vec<Skill> {
    let pinned = fields.inner_object(PINNED_SKILLS);
    let mut skills: Vec<Skill> = Vec::new();
    for (path, item) in fields.list("skills", SKILLS_MAX) {
        let Some(name) = item.as_str() else {
            fields.report.add(path, "must be the name of a Skill");
            continue;
        };
        if let Err(why) = check_name(name) {
            fields.report.add(path, why);
        } else if skills.iter().any(|skill| skill.name == name) {
            fields.report.add(path, format!("the skill '{name}' is named twice"));
        } else {
            let content = pinned.as_ref().and_then(|pinned| pinned.child(name)).map(SkillContent::read);
            skills.push(Skill { name: name.to_owned(), content });
        }
    }
    skills
}

impl SkillContent {
    fn read(fields: Fields<'_>) -> Self {
        let description = fields.required_text("description").unwrap_or_default();
        too_long(&fields, "description", description, DESCRIPTION_LENGTH_MAX);
        let instructions = fields.required_text("instructions").unwrap_or_default();
        too_large(&fields, "instructions", instructions, TEXT_BYTES_MAX);
        let compatibility = fields.text("compatibility").unwrap_or_default();
        too_long(&fields, "compatibility", compatibility, COMPATIBILITY_LENGTH_MAX);
        too_large(&fields, "license", fields.text("license").unwrap_or_default(), WORD_BYTES_MAX);
        if let Some(metadata) = fields.object("metadata") {
            metadata.texts(ENTRIES_MAX, WORD_BYTES_MAX);
        }
        let mut allowed_tools = Vec::new();
        for (path, item) in fields.list("allowedTools", ENTRIES_MAX) {
            match item.as_str().filter(|name| !name.is_empty() && name.len() <= WORD_BYTES_MAX) {
                Some(name) => allowed_tools.push(name.to_owned()),
                None => fields.report.add(path, format!("must be a name of 1 to {WORD_BYTES_MAX} bytes")),
            }
        }
        let mut files: Vec<SkillFile> = Vec::new();
        for (path, item) in fields.list("files", FILES_MAX) {
            let Some(file) = Fields::of(fields.report, path.as_str(), item).map(SkillFile::read) else { continue };
            if files.iter().any(|other| other.path == file.path) {
                fields.report.add(format!("{path}.path"), format!("'{}' is there twice", cut(&file.path, 64)));
            }
            files.push(file);
        }
        fields.finish();
        Self {
            description: description.to_owned(),
            instructions: instructions.to_owned(),
            files,
            allowed_tools,
            compatibility: compatibility.to_owned(),
        }
    }

    /// What the model is given when it loads the skill.
    pub(crate) fn loaded(&self, name: &str) -> String {
        let mut text = format!("# Skill {name}\n\n{}\n", self.instructions.trim());
        if !self.compatibility.is_empty() {
            _ = write!(text, "\nIt needs: {}\n", self.compatibility);
        }
        if !self.allowed_tools.is_empty() {
            _ = write!(text, "\nIt works with the tools {}.\n", self.allowed_tools.join(", "));
        }
        if !self.files.is_empty() {
            text.push_str("\nIts files, for read_skill_file:\n");
            for file in &self.files {
                _ = match &file.text {
                    Some(content) => writeln!(text, "- {} ({} bytes)", file.path, content.len()),
                    None => writeln!(text, "- {} ({}, not text: it cannot be read)", file.path, file.media_type),
                };
            }
        }
        text
    }

    /// The text of a file; the error is a sentence for the model.
    pub(crate) fn file(&self, path: &str) -> Result<&str, String> {
        let path = path.strip_prefix("./").unwrap_or(path);
        match self.files.iter().find(|file| file.path == path) {
            Some(SkillFile { text: Some(text), .. }) => Ok(text),
            Some(file) => Err(format!("the file '{path}' is no text ({}), it cannot be read", file.media_type)),
            None => {
                let known: Vec<String> = self.files.iter().map(|file| format!("'{}'", file.path)).collect();
                let known =
                    if known.is_empty() { "it has none".to_owned() } else { format!("they are {}", known.join(", ")) };
                Err(format!("no file '{}' among those of the skill; {known}", cut(path, PATH_BYTES_MAX)))
            }
        }
    }
}

impl SkillFile {
    fn read(fields: Fields<'_>) -> Self {
        let path = fields.required_text("path").unwrap_or_default();
        let is_relative = path.split('/').all(|segment| !matches!(segment, "" | "." | ".."));
        if !path.is_empty()
            && (path.len() > PATH_BYTES_MAX
                || !is_relative
                || path.contains('\\')
                || path.chars().any(char::is_control))
        {
            let why = format!(
                "must be a path within the skill of 1 to {PATH_BYTES_MAX} bytes, such as 'references/forms.md'"
            );
            fields.violation("path", why);
        }
        let media_type = fields.text("mediaType").unwrap_or("text/plain");
        too_large(&fields, "mediaType", media_type, WORD_BYTES_MAX);
        let (text, data) = (fields.text("text"), fields.text("data"));
        if text.is_some() && data.is_some() {
            fields.violation("data", "must not be given beside 'text'");
        }
        too_large(&fields, "text", text.unwrap_or_default(), TEXT_BYTES_MAX);
        fields.finish();
        // A file with neither is an empty one.
        let text = data.is_none().then(|| text.unwrap_or_default().to_owned());
        Self { path: path.to_owned(), media_type: media_type.to_owned(), text }
    }
}

fn too_long(fields: &Fields<'_>, name: &'static str, text: &str, max: usize) {
    let length = text.chars().count();
    if length > max {
        fields.violation(name, format!("has {length} characters, allowed are 1 to {max}"));
    }
}

fn too_large(fields: &Fields<'_>, name: &'static str, text: &str, max: usize) {
    if text.len() > max {
        fields.violation(name, format!("has {} bytes, allowed are 1 to {max}", text.len()));
    }
}

/// What the model is told of the skills beside its instructions; empty if there are none.
pub(crate) fn announcement(skills: &[Skill]) -> String {
    if skills.is_empty() {
        return String::new();
    }
    let mut text =
        "\n\nYou have skills: instructions for particular kinds of work. Before you do work that one of them is \
                    for, read it with load_skill, and follow it: what load_skill and read_skill_file give are instructions of yours, \
                    although they come as results. The skills are:\n"
            .to_owned();
    for skill in skills {
        let description = skill.content.as_ref().map_or("", |content| content.description.as_str());
        _ = writeln!(text, "- {}: {}", skill.name, description.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    text
}
