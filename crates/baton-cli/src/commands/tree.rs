//! `baton tree`: the whole tree that an execution belongs to, who started whom, and who waits for whom.

use std::collections::{HashMap, HashSet};

use baton_proto::{ExecutionResource, to_json_value};
use serde_json::{Value, json};

use super::Context;
use crate::{
    args::TreeArgs,
    client::{Client, Selection},
    failure::Failure,
    kind::Kind,
    output,
    printer::one_line,
};

/// Deepest tree that is drawn; the server allows less.
const DEPTH_MAX: usize = 64;

pub(crate) async fn tree(context: &Context, args: TreeArgs) -> Result<(), Failure> {
    let (kind, name) = args.kind.execution(args.name)?;
    let client = context.client().await?;
    let asked = client.execution(kind, context.namespace(), &name).await?;
    let family = Family::read(&client, context.namespace()).await?;
    let root = family.root_of(&asked);
    let json = family.node(&root, 0, &mut HashSet::new());
    let text = output::value(context.settings.output.value, &json, || {
        let mut lines = Vec::new();
        draw(&json, "", "", &asked.metadata().uid, &mut lines);
        lines.join("\n")
    });
    context.printer.data(&text)
}

/// The executions of a namespace by uid, and who is whose child by `ownerReferences`.
struct Family {
    members: HashMap<String, ExecutionResource>,
    children: HashMap<String, Vec<String>>,
}

impl Family {
    async fn read(client: &Client, namespace: &str) -> Result<Self, Failure> {
        let mut family = Self { members: HashMap::new(), children: HashMap::new() };
        let selection = Selection { namespace: namespace.to_owned(), ..Selection::default() };
        let mut all = Vec::new();
        for kind in [Kind::WorkflowExecution, Kind::AgentExecution] {
            let (_, objects) = client.list(kind, &selection, None).await?;
            all.extend(objects.iter().filter_map(crate::kind::Object::execution));
        }
        // A uid tells when it was made, so children stand in the order of their making.
        all.sort_by(|one, other| one.metadata().uid.cmp(&other.metadata().uid));
        for execution in all {
            let uid = execution.metadata().uid.clone();
            for owner in &execution.metadata().owner_references {
                family.children.entry(owner.uid.clone()).or_default().push(uid.clone());
            }
            family.members.insert(uid, execution);
        }
        Ok(family)
    }

    /// The execution at the top: as far up as the owners still exist.
    fn root_of(&self, execution: &ExecutionResource) -> ExecutionResource {
        let mut top = execution;
        for _ in 0..DEPTH_MAX {
            let owners = &top.metadata().owner_references;
            match owners.iter().find_map(|owner| self.members.get(&owner.uid)) {
                Some(owner) => top = owner,
                None => break,
            }
        }
        top.clone()
    }

    fn node(&self, execution: &ExecutionResource, depth: usize, seen: &mut HashSet<String>) -> Value {
        let metadata = execution.metadata();
        let is_new = seen.insert(metadata.uid.clone());
        let below = self.children.get(&metadata.uid).map(Vec::as_slice).unwrap_or_default();
        let children: Vec<Value> = if is_new && depth < DEPTH_MAX {
            below
                .iter()
                .filter_map(|uid| self.members.get(uid))
                .map(|child| self.node(child, depth + 1, seen))
                .collect()
        } else {
            Vec::new()
        };
        let position =
            execution.parent().and_then(Option::as_ref).map(|parent| parent.position.clone()).unwrap_or_default();
        json!({
            "kind": execution.kind(),
            "name": metadata.name,
            "uid": metadata.uid,
            "phase": execution.phase().as_str(),
            "position": position,
            "waitingFor": execution.waiting_for().cloned().unwrap_or_default().iter().map(to_json_value).collect::<Vec<_>>(),
            "callbacks": execution.callbacks().cloned().unwrap_or_default().iter().map(to_json_value).collect::<Vec<_>>(),
            "usage": execution.usage().and_then(Option::as_ref).map(to_json_value),
            "children": children,
        })
    }
}

fn draw(node: &Value, first: &str, rest: &str, asked: &str, lines: &mut Vec<String>) {
    let text = |field: &str| node.get(field).and_then(Value::as_str).unwrap_or_default();
    let list = |field: &str| node.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let position = if text("position").is_empty() { String::new() } else { format!("  at {}", text("position")) };
    let mark = if text("uid") == asked { "  <" } else { "" };
    let line = format!("{}/{}  {}{position}{mark}", text("kind").to_ascii_lowercase(), text("name"), text("phase"));
    lines.push(format!("{first}{}", one_line(&line)));
    let children = list("children");
    let stem = if children.is_empty() { format!("{rest}   ") } else { format!("{rest}│  ") };
    let usage = node.get("usage").filter(|usage| !usage.is_null());
    let usage: Option<baton_proto::v1::UsageStatus> =
        usage.and_then(|it| baton_proto::from_json_value(it.clone()).ok());
    for words in usage.iter().flat_map(output::usage_words) {
        lines.push(format!("{stem}{}", one_line(&words)));
    }
    for it in list("waitingFor") {
        let waiting: Option<baton_proto::v1::WaitingFor> = baton_proto::from_json_value(it.clone()).ok();
        if let Some(it) = waiting {
            lines.push(format!(
                "{stem}waits for {} at {}",
                one_line(&output::waiting_words(&it)),
                one_line(&it.operation)
            ));
        }
    }
    for it in list("callbacks") {
        let field = |name: &str| it.get(name).and_then(Value::as_str).unwrap_or("-").to_owned();
        lines.push(format!("{stem}answers to {}: {}", one_line(&field("fingerprint")), one_line(&field("state"))));
    }
    for (index, child) in children.iter().enumerate() {
        let is_last = index + 1 == children.len();
        let (branch, stem) = if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        draw(child, &format!("{rest}{branch}"), &format!("{rest}{stem}"), asked, lines);
    }
}
