//! The tool by which a model saves what it made: a text, kept with the execution under its name.

use serde_json::{Value, json};

use super::{Action, Behaviour, Tool};
use crate::model::is_media_type;

const NAME: &str = "save_artifact";

/// The tool of an agent with `artifacts`; none for one without.
pub(crate) fn tools(wanted: bool) -> Option<Tool> {
    let parameters = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$", "description": "Name of the file, such as report.md; one of the same name is replaced"},
            "mediaType": {"type": "string", "description": "Such as text/markdown; default text/plain"},
            "content": {"type": "string", "description": "The whole text"},
        },
        "required": ["name", "content"],
    });
    let description = "Saves a text as a file that people can download: a report, a table, a program";
    wanted.then(|| Tool::built_in(NAME, description, &parameters, "artifact", Box::new(Save)))
}

#[derive(Debug)]
struct Save;

impl Behaviour for Save {
    fn action(&self, arguments: &Value) -> Result<Action, String> {
        let text = |name: &str| arguments.get(name).and_then(Value::as_str);
        let media_type = text("mediaType").unwrap_or("text/plain").to_ascii_lowercase();
        if !is_media_type(&media_type) {
            return Err("'mediaType' must be a media type without parameters, such as 'text/markdown'".to_owned());
        }
        let (name, content) =
            (text("name").unwrap_or_default().to_owned(), text("content").unwrap_or_default().to_owned());
        Ok(Action::Keep { name, media_type, content })
    }
}
