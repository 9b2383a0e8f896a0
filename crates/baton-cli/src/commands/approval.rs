//! `baton approvals`, `approve`, `deny` and `resolve`: what executions ask people, and the answers.

use std::path::Path;

use baton_proto::v1;
use serde_json::{Map, Value, json};

use super::{Context, get, watch};
use crate::{
    args::{ApprovalsArgs, ApproveArgs, DeciderArgs, DenyArgs, Format, GetArgs, ResolveArgs, SelectorArgs, WatchArgs},
    failure::Failure,
    kind::{Kind, KindArg, Object},
    manifest::read_documents,
    output,
};

/// Lists what is to be decided.
pub(crate) async fn approvals(context: &Context, args: ApprovalsArgs) -> Result<(), Failure> {
    let selector = SelectorArgs {
        selector: None,
        field_selector: (!args.all).then(|| "status.phase=Pending".to_owned()),
        all_namespaces: args.all_namespaces,
    };
    let kind = KindArg { kind: Kind::Approval, name: None };
    if args.watch {
        return watch(context, WatchArgs { kind, name: None, selector }).await;
    }
    get(context, GetArgs { kind, name: None, selector, limit: None }).await
}

pub(crate) async fn approve(context: &Context, args: ApproveArgs) -> Result<(), Failure> {
    let arguments = if args.extend.is_empty() {
        args.arguments.as_deref().map(|path| json_of("--arguments", path)).transpose()?
    } else {
        Some(v1::Json::from_value(&extension(&args.extend)?))
    };
    let request = v1::DecideRequest {
        decision: "approve".to_owned(),
        reason: args.reason,
        arguments,
        ..v1::DecideRequest::default()
    };
    decide(context, args.decider, request).await
}

pub(crate) async fn deny(context: &Context, args: DenyArgs) -> Result<(), Failure> {
    let request =
        v1::DecideRequest { decision: "deny".to_owned(), reason: args.reason, ..v1::DecideRequest::default() };
    decide(context, args.decider, request).await
}

pub(crate) async fn resolve(context: &Context, args: ResolveArgs) -> Result<(), Failure> {
    let result = args.how.result.as_deref().map(|path| json_of("--result", path)).transpose()?;
    let decision = match (&result, args.how.retry) {
        (Some(_), _) => "result",
        (None, true) => "retry",
        (None, false) => "fail",
    };
    let request = v1::DecideRequest {
        decision: decision.to_owned(),
        reason: args.reason,
        result,
        ..v1::DecideRequest::default()
    };
    decide(context, args.decider, request).await
}

/// What is to be added to which limit, as the arguments of the question have it.
fn extension(given: &[String]) -> Result<Value, Failure> {
    let mut extend = Map::new();
    for pair in given {
        let Some((limit, amount)) = pair.split_once('=').filter(|(limit, _)| !limit.is_empty()) else {
            return Err(Failure::usage(format!("--extend '{pair}' is not LIMIT=AMOUNT"))
                .hint("name a limit of the execution, such as --extend tokens=50000 or --extend cost=0.50"));
        };
        // Money is a decimal, which a number of JSON is not.
        let amount = match amount.parse::<u64>() {
            Ok(amount) if limit != "cost" => Value::from(amount),
            _ => Value::from(amount),
        };
        if extend.insert(limit.to_owned(), amount).is_some() {
            return Err(Failure::usage(format!("--extend names '{limit}' twice")));
        }
    }
    Ok(json!({ "extend": extend }))
}

fn json_of(flag: &str, path: &Path) -> Result<v1::Json, Failure> {
    let mut documents = read_documents(path)?;
    match documents.len() {
        0 => Ok(v1::Json::from_value(&Value::Null)),
        1 => Ok(v1::Json::from_value(&documents.remove(0))),
        count => Err(Failure::refused(format!("{flag}: {} holds {count} documents, allowed is one", path.display()))),
    }
}

/// Decides on an approval as it stands now, or as the digest says that it was looked at.
async fn decide(context: &Context, decider: DeciderArgs, request: v1::DecideRequest) -> Result<(), Failure> {
    let name = decider.name.strip_prefix("approval/").unwrap_or(&decider.name);
    let client = context.client().await?;
    let arguments_digest = match decider.digest {
        Some(digest) => digest,
        None => match client.get(Kind::Approval, context.namespace(), name).await? {
            Object::Approval(it) => it.spec.unwrap_or_default().arguments_digest,
            other => return Err(Failure::environment(format!("a {} was read", other.kind().title()))),
        },
    };
    let namespace = context.namespace().to_owned();
    let request = v1::DecideRequest { namespace, name: name.to_owned(), arguments_digest, ..request };
    let approval = client.decide(request, decider.caller.as_deref()).await?;
    let status = approval.status.clone().unwrap_or_default();
    let object = Object::from(approval);
    context.printer.message(&format!("{}: {} by {}", object.reference(), status.phase, status.decided_by));
    if context.settings.output.value != Format::Table {
        context.printer.data(&output::object(context.settings.output.value, &object))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_added_is_read_from_flags() {
        let given = |pairs: &[&str]| extension(&pairs.iter().map(|pair| (*pair).to_owned()).collect::<Vec<_>>());
        let extend = given(&["tokens=50000", "cost=0.50"]).expect("both are amounts");
        assert_eq!(extend, json!({"extend": {"tokens": 50000, "cost": "0.50"}}));
        for wrong in [&["tokens"][..], &["=5"], &["tokens=1", "tokens=2"]] {
            assert!(given(wrong).is_err(), "{wrong:?}");
        }
    }
}
