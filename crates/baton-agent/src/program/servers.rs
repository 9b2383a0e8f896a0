//! Before the first turn: each server is asked what tools it has.
//!
//! One activity per server at `/servers/<index>/<name>`, all at once. What they give is kept in the state: an execution keeps
//! the tools that it began with.
//!
//! # Failure
//! A server that cannot be asked is asked again a few times. Then the execution ends with the fault: an agent without a part of
//! its tools is another agent than the one that was asked for.

use std::sync::Arc;

use baton_execution::{Command, Effect, Fault, Note, OperationId, ScheduleActivity, fault_type};
use serde_json::Value;

use super::{
    AgentProgram, Step,
    state::{Asked, AskedState, Stage},
};
use crate::{
    definition::{AgentDefinition, TOOLS_MAX},
    servers::{Listed, Listing, PinnedServer, ToolServer, tools_of},
    tools::Tool,
};

/// Attempts to list what a server has, and the pause before the second one.
const ATTEMPTS_MAX: u32 = 4;
const PAUSE_MS: u64 = 1000;

impl AgentProgram {
    /// A tool by its name, of the agent's own or of a server.
    pub(super) fn tool(&self, name: &str) -> Option<Arc<Tool>> {
        self.tools().find(|tool| tool.name == name).cloned()
    }

    /// All tools, the agent's own first.
    pub(super) fn tools(&self) -> impl Iterator<Item = &Arc<Tool>> {
        self.definition.tools.iter().chain(&self.served)
    }

    /// Asks all servers, or begins the first turn if there are none.
    pub(super) fn ask_servers(&mut self, step: &mut Step) {
        let definition = Arc::clone(&self.definition);
        if definition.servers.is_empty() {
            return self.begin_turn(step);
        }
        if let Some(fault) = definition.servers.iter().find_map(|server| server.endpoint().err()) {
            return self.fail(fault, step);
        }
        let mut all = Vec::new();
        for (index, server) in definition.servers.iter().enumerate() {
            let id = OperationId::new(format!("/servers/{index}/{}", server.name), 1);
            self.state.timeline.start(&id.position, &server.name, "server", step.now_ms);
            step.push(Command::Note(Note::TaskStarted {
                position: id.position.clone(),
                name: server.name.clone(),
                kind: "server".to_owned(),
                attempt: 1,
            }));
            all.push(Asked { id, since_ms: step.now_ms, until_ms: step.now_ms, state: AskedState::Waiting });
        }
        self.state.stage = Stage::Servers(all);
        for index in 0..definition.servers.len() {
            if let Err(fault) = self.ask_server(index, step) {
                return self.fail(fault, step);
            }
        }
    }

    fn ask_server(&mut self, index: usize, step: &mut Step) -> Result<(), Fault> {
        let definition = Arc::clone(&self.definition);
        let Stage::Servers(all) = &mut self.state.stage else { return Ok(()) };
        let (Some(server), Some(asked)) = (definition.servers.get(index), all.get_mut(index)) else { return Ok(()) };
        let endpoint = server.endpoint()?;
        asked.until_ms = step.after(endpoint.timeout_ms);
        asked.state = AskedState::Running;
        step.push(Command::ScheduleActivity(ScheduleActivity {
            id: asked.id.clone(),
            activity: "mcp-tools".to_owned(),
            input: server.listing_input(endpoint),
            start_to_close_ms: endpoint.timeout_ms,
            effect: Effect::Repeatable,
            approval: None,
        }));
        Ok(())
    }

    /// A server has answered, or could not be asked.
    pub(super) fn server_listed(&mut self, id: &OperationId, result: Result<&Value, &Fault>, step: &mut Step) {
        let definition = Arc::clone(&self.definition);
        let Stage::Servers(all) = &mut self.state.stage else { return };
        let Some(index) = all.iter().position(|asked| asked.id == *id && asked.state == AskedState::Running) else {
            return;
        };
        let (asked, server) = (&mut all[index], &definition.servers[index]);
        let listing = match result {
            Ok(output) => match serde_json::from_value::<Listing>(output.clone()) {
                Ok(listing) => listing,
                Err(error) => {
                    let detail = format!("the list of the MCP server '{}' cannot be read: {error}", server.name);
                    return self.fail(Fault::new(fault_type::RUNTIME, 502, detail).at(&id.position), step);
                }
            },
            Err(fault) if !fault.non_retryable && id.attempt < ATTEMPTS_MAX => {
                let due_ms = step.after(PAUSE_MS << (id.attempt - 1).min(8));
                asked.id = OperationId::new(id.position.clone(), id.attempt + 1);
                asked.until_ms = due_ms;
                asked.state = AskedState::Waiting;
                return step.push(Command::StartTimer { id: asked.id.clone(), due_ms });
            }
            Err(fault) => return self.fail(fault.clone().at(&id.position), step),
        };
        asked.state = AskedState::Done { tools: listing.tools };
        self.state.timeline.end(&id.position, "Completed", step.now_ms);
        step.push(Command::Note(Note::TaskCompleted { position: id.position.clone() }));
        self.begin_if_listed(step);
    }

    /// It is time to ask a server again.
    pub(super) fn server_due(&mut self, id: &OperationId, step: &mut Step) {
        let Stage::Servers(all) = &self.state.stage else { return };
        let waits = |asked: &Asked| asked.id == *id && asked.state == AskedState::Waiting;
        if let Some(index) = all.iter().position(waits)
            && let Err(fault) = self.ask_server(index, step)
        {
            self.fail(fault, step);
        }
    }

    /// Once all servers have answered, begins the first turn.
    fn begin_if_listed(&mut self, step: &mut Step) {
        let Stage::Servers(all) = &self.state.stage else { return };
        let mut pinned = Vec::new();
        for (asked, server) in all.iter().zip(&self.definition.servers) {
            let AskedState::Done { tools } = &asked.state else { return };
            pinned.push(PinnedServer { name: server.name.clone(), tools: tools.clone() });
        }
        match served(&self.definition, &pinned) {
            Ok(tools) => self.served = tools,
            Err(fault) => return self.fail(fault, step),
        }
        self.state.servers = pinned;
        self.state.stage = Stage::New;
        self.begin_turn(step);
    }

    /// Keeps a tool in the form that its server has now; the error says why it cannot be given to a model.
    pub(super) fn pin(&mut self, server: &str, listed: &Listed) -> Result<(), Fault> {
        let mut pinned = self.state.servers.clone();
        let tools = pinned.iter_mut().filter(|pinned| pinned.name == server).flat_map(|pinned| &mut pinned.tools);
        for tool in tools.filter(|tool| tool.name == listed.name) {
            tool.clone_from(listed);
        }
        self.served = served(&self.definition, &pinned)?;
        self.state.servers = pinned;
        Ok(())
    }
}

/// The tools of all servers, as they are pinned.
///
/// # Errors
/// A configuration fault: a tool that cannot be given to a model, two of one name, or too many.
pub(super) fn served(definition: &AgentDefinition, pinned: &[PinnedServer]) -> Result<Vec<Arc<Tool>>, Fault> {
    let refused = |detail: String| Fault::new(fault_type::CONFIGURATION, 400, detail).non_retryable();
    let mut all: Vec<Arc<Tool>> = Vec::new();
    for pinned in pinned {
        let Some(server) = definition.servers.iter().find(|server| server.name == pinned.name) else { continue };
        for tool in tools_of(server, pinned)? {
            if let Some(other) = definition.tools.iter().chain(&all).find(|other| other.name == tool.name) {
                return Err(refused(taken(server, &tool.name, other.server())));
            }
            all.push(tool);
        }
    }
    let found = definition.tools.len() + all.len();
    if found > TOOLS_MAX {
        return Err(refused(format!(
            "the agent has {found} tools with those of its MCP servers, allowed are 0 to {TOOLS_MAX}; 'tools' of 'toolServers' can leave some out"
        )));
    }
    Ok(all)
}

fn taken(server: &ToolServer, name: &str, other: Option<&str>) -> String {
    let other = other.map_or_else(
        || "another tool of the agent has".to_owned(),
        |other| format!("another tool, of the server '{other}', has"),
    );
    format!(
        "{}: a tool of the server '{}' would have the name '{name}' that {other}; give the server a 'prefix', or leave the tool out by 'tools'",
        server.path, server.name
    )
}
