//! What an execution may use: limits that hold over a whole tree of executions.
//!
//! There is no counter that a tree shares. An execution that starts another one *reserves* for it: it gives it a [`Grant`], a
//! part of what is left of its own, and counts that part as used until the child has answered. The answer says what the child
//! and all below it [`Used`]; that is settled, and the rest can be given again. So nothing races, and a replay decides alike.
//!
//! Both Programs keep an [`Account`], and let it see every input and every command of a step.
//!
//! # Invariants
//! - The sum of what is used, is reserved for calls and children, and is not known, never exceeds the limits by what was granted:
//!   only what a single call is reported to have used beyond its reservation does. Each execution overruns by one such call
//!   at most, since after it nothing is left.
//! - Zero is "none left"; no limit is `None`.
//! - What is not known is taken for used: the whole grant of a child that was lost, the reservation of a call that was cut off.
//!
//! # Deliberately absent
//! Names of limits in specs, prices, questions to people: those are an agent's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{Command, Fault, OperationId, StartChild, TreeProgress, Usage, decimal_of_micros, fault_type};

/// Ancestors that a grant names at most, the nearest ones: as many levels as a tree may have.
pub const ANCESTORS_MAX: usize = 32;

/// Amounts of what is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Amounts {
    /// Calls of models.
    pub model_calls: u64,
    /// Calls of tools.
    pub tool_calls: u64,
    /// Tokens read and written, together.
    pub tokens: u64,
    /// Millionths of a US dollar.
    pub cost_micros: u64,
    /// Executions that were started below.
    pub children: u64,
}

impl Amounts {
    /// Each amount of the two, by the function.
    #[must_use]
    fn zip(self, other: Self, of: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            model_calls: of(self.model_calls, other.model_calls),
            tool_calls: of(self.tool_calls, other.tool_calls),
            tokens: of(self.tokens, other.tokens),
            cost_micros: of(self.cost_micros, other.cost_micros),
            children: of(self.children, other.children),
        }
    }

    /// The sum.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.zip(other, u64::saturating_add)
    }
}

impl From<Usage> for Amounts {
    fn from(usage: Usage) -> Self {
        Self {
            model_calls: usage.model_calls.into(),
            tool_calls: usage.tool_calls.into(),
            tokens: usage.input_tokens.saturating_add(usage.output_tokens),
            cost_micros: usage.cost_micros,
            children: usage.children.into(),
        }
    }
}

/// How much of what is counted may be used; `None` is without a limit, 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Allowance {
    /// Calls of models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_calls: Option<u64>,
    /// Calls of tools.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<u64>,
    /// Tokens read and written, together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Millionths of a US dollar.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_micros: Option<u64>,
    /// Executions that may be started below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub children: Option<u64>,
}

impl Allowance {
    fn each(self, amounts: Amounts, of: impl Fn(u64, u64) -> u64) -> Self {
        let part = |limit: Option<u64>, amount| limit.map(|limit| of(limit, amount));
        Self {
            model_calls: part(self.model_calls, amounts.model_calls),
            tool_calls: part(self.tool_calls, amounts.tool_calls),
            tokens: part(self.tokens, amounts.tokens),
            cost_micros: part(self.cost_micros, amounts.cost_micros),
            children: part(self.children, amounts.children),
        }
    }

    /// What is left of it when so much is used.
    #[must_use]
    pub fn less(self, used: Amounts) -> Self {
        self.each(used, u64::saturating_sub)
    }

    /// So much more, where there is a limit.
    #[must_use]
    pub fn more(self, added: Amounts) -> Self {
        self.each(added, u64::saturating_add)
    }

    /// The smaller one of each.
    #[must_use]
    pub fn within(self, other: Self) -> Self {
        let smaller = |one: Option<u64>, other: Option<u64>| match (one, other) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        Self {
            model_calls: smaller(self.model_calls, other.model_calls),
            tool_calls: smaller(self.tool_calls, other.tool_calls),
            tokens: smaller(self.tokens, other.tokens),
            cost_micros: smaller(self.cost_micros, other.cost_micros),
            children: smaller(self.children, other.children),
        }
    }

    /// The part of the `index`-th of so many, who get alike but for a remainder, which the first have.
    #[must_use]
    fn share(self, index: u64, among: u64) -> Self {
        let among = among.max(1);
        self.each(Amounts::default(), |whole, _| whole / among + u64::from(index < whole % among))
    }

    /// As amounts, where what has no limit counts nothing.
    fn limited(self) -> Amounts {
        Amounts {
            model_calls: self.model_calls.unwrap_or_default(),
            tool_calls: self.tool_calls.unwrap_or_default(),
            tokens: self.tokens.unwrap_or_default(),
            cost_micros: self.cost_micros.unwrap_or_default(),
            children: self.children.unwrap_or_default(),
        }
    }
}

/// What an execution gets of whoever started it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Grant {
    /// For itself and all below it.
    pub amounts: Allowance,
    /// Levels of executions that may be below it; `None` is without a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<u32>,
    /// When the time of the tree is over, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<i64>,
    /// Who called whom, farthest first; in what an execution is started with, the last one is itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ancestors: Vec<Ancestor>,
}

impl Grant {
    /// The same with one more in the chain of calls, of which the nearest are kept.
    #[must_use]
    pub fn of(mut self, ancestor: Ancestor) -> Self {
        let surplus = (self.ancestors.len() + 1).saturating_sub(ANCESTORS_MAX);
        self.ancestors.drain(..surplus);
        self.ancestors.push(ancestor);
        self
    }

    /// How often whoever is last in the chain of calls stands in it, with the same input.
    pub fn appearances(&self) -> usize {
        let Some(last) = self.ancestors.last() else { return 0 };
        self.ancestors.iter().filter(|it| *it == last).count()
    }
}

/// One execution in a chain of calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ancestor {
    /// Kind of its template.
    pub kind: String,
    /// Name of its template; the digest of an inline definition.
    pub name: String,
    /// Fingerprint of its input.
    pub input: String,
}

/// What an execution and all below it used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Used {
    /// As it is known.
    pub usage: Usage,
    /// What may have been used beside it: reserved for calls and children of which nobody knows.
    pub unsettled: Amounts,
}

impl Used {
    /// All that counts as used.
    pub fn amounts(&self) -> Amounts {
        Amounts::from(self.usage).plus(self.unsettled)
    }
}

/// A limit of the tree that forbids what is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// Its name in specs, such as `modelCalls`.
    pub limit: &'static str,
    /// What was allowed to this execution and all below it.
    pub allowed: u64,
    /// What of it is used or reserved.
    pub taken: u64,
}

impl Shortage {
    /// The fault that tells it.
    pub fn fault(self, what: &str) -> Fault {
        let limit = self.limit;
        // Money is told in dollars, as specs have it.
        let figure = |amount| if limit == "cost" { json!(decimal_of_micros(amount)) } else { json!(amount) };
        let (allowed, taken) = (figure(self.allowed), figure(self.taken));
        let shown = |figure: &Value| figure.as_str().map_or_else(|| figure.to_string(), str::to_owned);
        let detail = format!(
            "the limit {limit} of the tree is reached: {what}; allowed are {}, of which {} are taken",
            shown(&allowed),
            shown(&taken)
        );
        let data = json!({"limit": limit, "scope": "tree", "allowed": allowed, "used": taken});
        Fault::new(fault_type::LIMIT, 429, detail).non_retryable().with_data(data)
    }
}

/// What an execution may use, has used, and has given to those below it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Account {
    /// From above; `None` for an execution that began before there were grants: it gives none either.
    grant: Option<Grant>,
    /// Its own limits.
    own: Allowance,
    depth: Option<u32>,
    /// What people added to its own limits.
    added: Amounts,
    /// Executions that it started.
    children: u32,
    /// For children that have not answered.
    reserved: BTreeMap<String, Amounts>,
    /// Reserved for the call under way.
    call: Amounts,
    /// What children that have answered used.
    below: Used,
}

impl Account {
    /// An account at its beginning: of what was granted from above, and of an execution's own limits.
    pub fn new(grant: Option<Grant>, own: Allowance, depth: Option<u32>) -> Self {
        Self { grant, own, depth, ..Self::default() }
    }

    /// Whether the execution began when there were grants.
    pub fn is_granted(&self) -> bool {
        self.grant.is_some()
    }

    /// What was granted from above.
    pub fn grant(&self) -> Option<&Grant> {
        self.grant.as_ref()
    }

    /// Its own limits, with what people added.
    pub fn own_limits(&self) -> Allowance {
        self.own.more(self.added)
    }

    /// Its own limits within those from above.
    pub fn limits(&self) -> Allowance {
        self.own_limits().within(self.granted())
    }

    fn granted(&self) -> Allowance {
        self.grant.as_ref().map(|grant| grant.amounts).unwrap_or_default()
    }

    /// Levels that may be below it.
    pub fn depth(&self) -> Option<u32> {
        let granted = self.grant.as_ref().and_then(|grant| grant.depth);
        granted.into_iter().chain(self.depth).min()
    }

    /// What it and all below it used, as far as it is known now; what is reserved counts as unsettled.
    pub fn used(&self, own: Usage) -> Used {
        let reserved = self.reserved.values().copied().fold(self.call, Amounts::plus);
        Used { usage: self.known(own), unsettled: self.below.unsettled.plus(reserved) }
    }

    /// What it and those below it are known to have used.
    fn known(&self, own: Usage) -> Usage {
        Usage { children: self.children, ..own }.plus(self.below.usage)
    }

    /// What is left for more calls and children. What was granted to children and not used is left again when they answer.
    pub fn left(&self, own: Usage) -> Allowance {
        self.limits().less(self.used(own).amounts())
    }

    /// What `status` says of it.
    pub fn progress(&self, own: Usage) -> TreeProgress {
        TreeProgress {
            used: self.used(own),
            left: self.left(own),
            depth: self.depth(),
            deadline_ms: self.grant.as_ref().and_then(|grant| grant.deadline_ms),
            marks: Vec::new(),
        }
    }

    /// Executions that it started itself.
    pub fn children(&self) -> u32 {
        self.children
    }

    /// What a person may still give by adding to the execution's own limits: what is left of the grant from above.
    pub fn left_above(&self, own: Usage) -> Allowance {
        self.granted().less(self.used(own).amounts())
    }

    /// Adds to its own limits, where it has some.
    pub fn add(&mut self, amounts: Amounts) {
        self.added = self.added.plus(amounts);
    }

    /// Whether so many children could be started now.
    ///
    /// # Errors
    /// The limit that forbids it.
    pub fn check_children(&self, own: Usage, count: u64) -> Result<(), Shortage> {
        if count == 0 {
            return Ok(());
        }
        if self.depth() == Some(0) {
            return Err(Shortage { limit: "depth", allowed: 0, taken: 0 });
        }
        check("children", self.limits().children, self.used(own).amounts().children, count)
    }

    /// Whether so many tool calls could be made now.
    ///
    /// # Errors
    /// The limit that forbids it.
    pub fn check_tool_calls(&self, own: Usage, count: u64) -> Result<(), Shortage> {
        check("toolCalls", self.limits().tool_calls, self.used(own).amounts().tool_calls, count)
    }

    /// Reserves for a call that is begun. Its count is the execution's own, as usage.
    pub fn reserve_call(&mut self, call: Amounts) {
        self.call = Amounts { model_calls: 0, ..call };
    }

    /// Settles the call that is under way, whose usage is known now; what is still not known stays taken.
    pub fn settle_call(&mut self, unknown: impl FnOnce(Amounts) -> Amounts) {
        let call = std::mem::take(&mut self.call);
        self.below.unsettled = self.below.unsettled.plus(unknown(call));
    }

    /// Settles what a child is known to have used. `None`: nobody knows, so it has used all that it got.
    pub fn answered(&mut self, id: &OperationId, used: Option<&Used>) {
        let Some(reserved) = self.reserved.remove(&id.to_string()) else { return };
        match used {
            Some(used) => {
                self.below.usage = self.below.usage.plus(used.usage);
                self.below.unsettled = self.below.unsettled.plus(used.unsettled);
            }
            None => self.below.unsettled = self.below.unsettled.plus(reserved),
        }
    }

    /// The end of a step: grants to the children that it starts what is left, in equal parts, and takes those that it gives up
    /// for having used all. `kept` is what the execution keeps for itself, `to_come` how many children more are to begin beside
    /// them and get a part too.
    pub fn end_step(&mut self, own: Usage, commands: &mut [Command], kept: Amounts, to_come: u64) {
        for command in commands.iter() {
            if let Command::CloseWait { id } = command {
                self.answered(id, None);
            }
        }
        let mut starts: Vec<&mut StartChild> = commands
            .iter_mut()
            .filter_map(|command| match command {
                Command::StartChild(start) => Some(start),
                _ => None,
            })
            .collect();
        self.children = self.children.saturating_add(u32::try_from(starts.len()).unwrap_or(u32::MAX));
        let Some(above) = self.grant.as_ref().filter(|_| !starts.is_empty()) else { return };
        let (left, depth) = (self.left(own).less(kept), self.depth());
        // Of a child that nobody awaits it is never heard what it used: one part stays here.
        let unheard = u64::from(starts.iter().any(|start| !start.awaited));
        let among = (starts.len() as u64).saturating_add(to_come).saturating_add(unheard);
        for (index, start) in (0..).zip(starts.iter_mut()) {
            let grant = Grant {
                amounts: left.share(index, among),
                depth: depth.map(|levels| levels.saturating_sub(1)),
                deadline_ms: above.deadline_ms,
                ancestors: above.ancestors.clone(),
            };
            let reserved = grant.amounts.limited();
            if start.awaited {
                self.reserved.insert(start.id.to_string(), reserved);
            } else {
                self.below.unsettled = self.below.unsettled.plus(reserved);
            }
            start.grant = Some(grant);
        }
    }

    /// Sets when the time of the tree is over: at the earlier of what is granted and this.
    pub fn limit_time(&mut self, deadline_ms: Option<i64>) -> Option<i64> {
        let granted = self.grant.as_ref().and_then(|grant| grant.deadline_ms);
        let earlier = granted.into_iter().chain(deadline_ms).min();
        if let Some(grant) = &mut self.grant {
            grant.deadline_ms = earlier;
        }
        earlier
    }
}

fn check(limit: &'static str, allowed: Option<u64>, taken: u64, wanted: u64) -> Result<(), Shortage> {
    match allowed {
        Some(allowed) if taken.saturating_add(wanted) > allowed => Err(Shortage { limit, allowed, taken }),
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ChildTarget, ParentClosePolicy, ProgramKind};

    fn id(position: &str) -> OperationId {
        OperationId::new(position, 1)
    }

    fn start(position: &str, awaited: bool) -> Command {
        Command::StartChild(StartChild {
            id: id(position),
            kind: ProgramKind::Agent,
            target: ChildTarget::Named { name: "a".to_owned(), version: None },
            input: Value::Null,
            message: None,
            session: None,
            env: BTreeMap::new(),
            timeout_ms: None,
            limits: Value::Null,
            awaited,
            expires_ms: None,
            parent_close_policy: ParentClosePolicy::Cancel,
            approval: None,
            grant: None,
        })
    }

    fn granted(commands: &[Command]) -> Vec<Option<u64>> {
        let grant = |command: &Command| match command {
            Command::StartChild(start) => start.grant.as_ref().map(|grant| grant.amounts.tokens),
            _ => None,
        };
        commands.iter().filter_map(grant).collect()
    }

    fn account(tokens: u64) -> Account {
        let amounts = Allowance { tokens: Some(tokens), ..Allowance::default() };
        Account::new(Some(Grant { amounts, depth: Some(2), ..Grant::default() }), Allowance::default(), Some(5))
    }

    fn end_step(account: &mut Account, mut commands: Vec<Command>) -> Vec<Option<u64>> {
        account.end_step(Usage::default(), &mut commands, Amounts::default(), 0);
        granted(&commands)
    }

    fn used(tokens: u64) -> Used {
        Used { usage: Usage { input_tokens: tokens, ..Usage::default() }, ..Used::default() }
    }

    #[test]
    fn what_is_left_is_divided_and_given_back() {
        let mut it = account(10);
        let three = vec![start("/a", true), start("/b", true), start("/c", true)];
        assert_eq!(end_step(&mut it, three), [Some(4), Some(3), Some(3)]);
        assert_eq!(it.left(Usage::default()).tokens, Some(0));
        assert_eq!(end_step(&mut it, vec![start("/d", true)]), [Some(0)], "zero is none left");
        it.answered(&id("/a"), Some(&used(1)));
        it.answered(&id("/a"), Some(&used(1)));
        assert_eq!(it.left(Usage::default()).tokens, Some(3), "it is settled once");
        it.answered(&id("/b"), None);
        it.answered(&id("/nobody"), Some(&used(9)));
        assert_eq!(end_step(&mut it, vec![Command::CloseWait { id: id("/c") }]), []);
        assert_eq!(it.left(Usage::default()).tokens, Some(3), "two of which nobody knows have used all they got");
        it.answered(&id("/d"), Some(&used(u64::MAX)));
        assert_eq!(it.left(Usage::default()).tokens, Some(0), "what goes beyond leaves nothing");
        assert_eq!(it.used(Usage::default()).usage.children, 4);
        assert_eq!((it.depth(), it.check_children(Usage::default(), 1)), (Some(2), Ok(())));
    }

    #[test]
    fn a_child_that_nobody_awaits_has_used_its_part_and_leaves_one() {
        let mut it = account(10);
        assert_eq!(end_step(&mut it, vec![start("/a", false)]), [Some(5)]);
        assert_eq!(it.left(Usage::default()).tokens, Some(5));
        assert_eq!(it.used(Usage::default()).unsettled.tokens, 5);
    }

    #[test]
    fn without_a_grant_none_is_given() {
        let mut it = Account::new(None, Allowance { tokens: Some(5), ..Allowance::default() }, None);
        let mut commands = vec![start("/a", true)];
        it.end_step(Usage::default(), &mut commands, Amounts::default(), 0);
        assert!(granted(&commands).is_empty() && it.children() == 1);
    }

    #[test]
    fn the_nearest_ancestors_are_kept() {
        let named = |name: u32| Ancestor { kind: "Agent".to_owned(), name: name.to_string(), input: String::new() };
        let grant = (0..40).fold(Grant::default(), |grant, name| grant.of(named(name)));
        assert_eq!((grant.ancestors.len(), &grant.ancestors[31]), (ANCESTORS_MAX, &named(39)));
        assert_eq!((grant.appearances(), grant.of(named(20)).appearances()), (1, 2));
    }
}
