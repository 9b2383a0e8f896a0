//! The tools by which a model reads its skills. The definition has the answers: nothing is called, and nobody is asked.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Action, Behaviour, Tool};
use crate::skills::Skill;

/// Gives the instructions of a skill.
const LOAD: &str = "load_skill";
/// Gives a file of a skill.
const READ: &str = "read_skill_file";

/// The tools of an agent with these skills; none for no skills.
pub(crate) fn tools(skills: &Arc<[Skill]>) -> Vec<Tool> {
    if skills.is_empty() {
        return Vec::new();
    }
    let names: Vec<&str> = skills.iter().map(|skill| skill.name.as_str()).collect();
    let name = json!({"type": "string", "enum": names, "description": "Name of the skill"});
    let path = json!({"type": "string", "description": "Path of the file, as load_skill lists it"});
    let load = json!({"type": "object", "properties": {"name": name}, "required": ["name"]});
    let read = json!({"type": "object", "properties": {"name": name, "path": path}, "required": ["name", "path"]});
    let made = |tool: &str, description: &str, parameters: &Value, reads: Reads| {
        let behaviour = Box::new(Reader { skills: Arc::clone(skills), reads });
        Tool::built_in(tool, description, parameters, "skill", behaviour)
    };
    vec![
        made(LOAD, "Gives the instructions of a skill and the list of its files", &load, Reads::Instructions),
        made(READ, "Gives the text of a file of a skill", &read, Reads::File),
    ]
}

#[derive(Debug)]
struct Reader {
    skills: Arc<[Skill]>,
    reads: Reads,
}

#[derive(Clone, Copy, Debug)]
enum Reads {
    Instructions,
    File,
}

impl Behaviour for Reader {
    fn action(&self, arguments: &Value) -> Result<Action, String> {
        let text = |name: &str| arguments.get(name).and_then(Value::as_str).unwrap_or_default();
        let name = text("name");
        let skill = self.skills.iter().find(|skill| skill.name == name);
        let content = skill
            .and_then(|skill| skill.content.as_ref())
            .ok_or_else(|| format!("the content of the skill '{name}' is not there"))?;
        match self.reads {
            Reads::Instructions => Ok(Action::Answer(content.loaded(name))),
            Reads::File => content.file(text("path")).map(|text| Action::Answer(text.to_owned())),
        }
    }
}
