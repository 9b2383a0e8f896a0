//! `baton cancel`, `terminate`, `suspend` and `resume`: asking something of an execution.

use super::Context;
use crate::{
    args::{AskArgs, Format},
    client::Ask,
    failure::Failure,
    output,
};

pub(crate) async fn ask(context: &Context, args: AskArgs, ask: Ask) -> Result<(), Failure> {
    let (kind, name) = args.kind.execution(args.name)?;
    if ask == Ask::Terminate {
        let question = format!(
            "End {} '{name}' in namespace '{}' at once, without winding up?",
            kind.title(),
            context.namespace()
        );
        context.printer.confirm(&question, args.yes)?;
    }
    let client = context.client().await?;
    let object = client.ask(kind, context.namespace(), &name, ask, &args.reason).await?;
    let phase = object.execution().map(|execution| execution.phase().to_string()).unwrap_or_default();
    let words = match ask {
        Ask::Cancel => format!("cancellation asked, phase is {phase}"),
        Ask::Terminate => format!("terminated, phase is {phase}"),
        Ask::Suspend => format!("suspended, phase is {phase}"),
        Ask::Resume => format!("resumed, phase is {phase}"),
    };
    context.printer.message(&format!("{}: {words}", object.reference()));
    if context.settings.output.value != Format::Table {
        context.printer.data(&output::object(context.settings.output.value, &object))?;
    }
    Ok(())
}
