//! What the interpreter does otherwise than jq, written in what both do alike.
//!
//! - Operators get jq's precedence: `.a = .b // 1` is `(.a = .b) // 1`, `12 * 4 % 5` is `(12 * 4) % 5`.
//! - Operands with several results are combined in jq's order: those on the right are the outer loop.
//! - An update goes through the paths, as jq's does: see [`update`](super::update).
//! - `reduce` and `foreach` go on with the last result of their update.
//! - `$secrets.db | .user` is `$secrets.db.user`: secrets are found by the keys that expressions name.
//! - Destructuring has alternatives (`?//`); `$__loc__` is where it stands; `def f($x)` defines `x`, too.
//!
//! # Invariants
//! - The names that are put in begin with `!`, which no expression can spell.
//! - The tree grows by a constant for each of its nodes.

use jaq_core::{
    load::{
        lex::StrPart,
        parse::{BinaryOp, Def, Pattern, Term},
    },
    path::{Opt, Part, Path},
};

use super::{
    rewrite::{Names, fixed_key},
    tokens::{ALTERNATIVES, PARENTHESES},
    update::{LAST, UPDATE, UPDATE_ONE},
};

type T<'s> = Term<&'s str>;
type Op<'s> = BinaryOp<&'s str>;

/// Variables for results that are kept while others are looked for.
const KEPT: [&str; 8] = ["$!kept0", "$!kept1", "$!kept2", "$!kept3", "$!kept4", "$!kept5", "$!kept6", "$!kept7"];
const RIGHT: &str = "$!right";
const VALUE: &str = "$!value";
const INPUT: &str = "$!input";
const SECRETS: &str = "$secrets";
const SECRET_KEYS: &str = "the name and the key of a secret must stand together, as in '$secrets.name.key': what they are is not known otherwise";
/// What follows a destructuring with alternatives.
const BODY: &str = "!body_of_alternatives";

/// Filters that are combined as operators are: the last argument is the outer loop.
const OPERATORS: [(&str, usize); 21] = [
    ("atan2", 2),
    ("copysign", 2),
    ("drem", 2),
    ("fdim", 2),
    ("fma", 3),
    ("fmax", 2),
    ("fmin", 2),
    ("fmod", 2),
    ("hypot", 2),
    ("jn", 2),
    ("ldexp", 2),
    ("nextafter", 2),
    ("nexttoward", 2),
    ("pow", 2),
    ("remainder", 2),
    ("scalb", 2),
    ("scalbln", 2),
    ("setpath", 2),
    ("yn", 2),
    ("_match", 2),
    ("_split", 2),
];

/// Filters without arguments that have one result, and whose names nobody gives to others.
const ONES: [&str; 3] = ["null", "true", "false"];

/// Rewrites the tree of one text.
pub(super) struct Desugaring<'s> {
    text: &'s str,
    /// Numbers of lines as text, counted from one.
    lines: &'s [String],
    refusal: Option<String>,
}

/// The lines of a text, as [`Desugaring::new`] wants them.
pub(super) fn lines(text: &str) -> Vec<String> {
    let count = if text.contains("$__loc__") { text.lines().count() } else { 0 };
    (1..=count).map(|line| line.to_string()).collect()
}

impl<'s> Desugaring<'s> {
    pub(super) fn new(text: &'s str, lines: &'s [String]) -> Self {
        Self { text, lines, refusal: None }
    }

    /// The tree as the interpreter takes it.
    ///
    /// # Errors
    /// What jq does not allow, either.
    pub(super) fn expression(mut self, term: T<'s>) -> Result<T<'s>, String> {
        let term = self.term(term);
        self.refusal.map_or(Ok(term), Err)
    }

    pub(super) fn definition(&mut self, def: Def<&'s str>) -> Def<&'s str> {
        let Def { name, args, body } = def;
        let mut body = self.term(body);
        if args.iter().any(|arg| arg.starts_with('$')) {
            let mut names = Names::default();
            names.collect(&body, 0);
            let called =
                args.iter().filter(|arg| arg.strip_prefix('$').is_some_and(|name| names.filters.contains(&(name, 0))));
            let defs: Vec<_> =
                called.map(|arg| Def { name: &arg[1..], args: Vec::new(), body: Term::Var(*arg) }).collect();
            if !defs.is_empty() {
                body = Term::Def(defs, Box::new(body));
            }
        }
        Def { name, args, body }
    }

    fn term(&mut self, term: T<'s>) -> T<'s> {
        match term {
            Term::Var(name) if name == "$__loc__" => self.location(name, term),
            Term::Id | Term::Recurse | Term::Num(_) | Term::Var(_) | Term::Break(_) | Term::Arr(None) => term,
            Term::Str(format, parts) => self.string(format, parts),
            Term::Arr(Some(inner)) => Term::Arr(Some(self.boxed(*inner))),
            Term::Obj(entries) => {
                let mut entries: Vec<_> = entries.into_iter().map(|(key, value)| self.entry(key, value)).collect();
                let kept = keep_firsts(&mut entries);
                kept.into_iter().rev().fold(Term::Obj(entries), |body, (name, term)| bind(term, name, body))
            }
            Term::Neg(inner) => Term::Neg(self.boxed(*inner)),
            Term::BinOp(..) => self.operations(term),
            Term::Label(name, inner) => Term::Label(name, self.boxed(*inner)),
            Term::Fold(name, items, pattern, args) => self.fold(name, *items, pattern, args),
            Term::TryCatch(inner, handler) => {
                Term::TryCatch(self.boxed(*inner), handler.map(|handler| self.boxed(*handler)))
            }
            Term::IfThenElse(cases, otherwise) => {
                let cases = cases.into_iter().map(|(condition, then)| (self.term(condition), self.term(then)));
                Term::IfThenElse(cases.collect(), otherwise.map(|otherwise| self.boxed(*otherwise)))
            }
            Term::Def(defs, inner) => {
                let defs = defs.into_iter().map(|def| self.definition(def)).collect();
                Term::Def(defs, self.boxed(*inner))
            }
            Term::Call(PARENTHESES, args) => args.into_iter().next().map_or(Term::Id, |inner| self.term(inner)),
            Term::Call(name, args) => {
                let args: Vec<_> = args.into_iter().map(|arg| self.term(arg)).collect();
                if OPERATORS.contains(&(name, args.len())) {
                    return outer_last(args, |args| Term::Call(name, args));
                }
                Term::Call(name, args)
            }
            Term::Path(inner, path) => self.path(*inner, path),
        }
    }

    fn boxed(&mut self, term: T<'s>) -> Box<T<'s>> {
        Box::new(self.term(term))
    }

    /// `{file, line}` of a variable that is a part of the text.
    fn location(&self, name: &'s str, term: T<'s>) -> T<'s> {
        let place = (name.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        let line = self.text.get(..place).map_or(0, |before| before.matches('\n').count());
        let Some(line) = self.lines.get(line) else { return term };
        Term::Obj(vec![(text("file"), Some(text("<top-level>"))), (text("line"), Some(Term::Num(line)))])
    }

    fn entry(&mut self, key: T<'s>, value: Option<T<'s>>) -> (T<'s>, Option<T<'s>>) {
        match (key, value) {
            (key @ Term::Var(name), None) if name == "$__loc__" => (text(&name[1..]), Some(self.term(key))),
            (key, value) => (self.term(key), value.map(|value| self.term(value))),
        }
    }

    fn string(&mut self, format: Option<&'s str>, parts: Vec<StrPart<&'s str, T<'s>>>) -> T<'s> {
        let mut terms = Vec::new();
        let parts: Vec<StrPart<&'s str, usize>> = parts
            .into_iter()
            .map(|part| match part {
                StrPart::Str(text) => StrPart::Str(text),
                StrPart::Char(character) => StrPart::Char(character),
                StrPart::Term(term) => {
                    terms.push(self.term(term));
                    StrPart::Term(terms.len() - 1)
                }
            })
            .collect();
        outer_last(terms, |terms| {
            let mut terms = terms.into_iter();
            let parts = parts.into_iter().map(|part| match part {
                StrPart::Str(text) => StrPart::Str(text),
                StrPart::Char(character) => StrPart::Char(character),
                StrPart::Term(_) => StrPart::Term(terms.next().unwrap_or_default()),
            });
            Term::Str(format, parts.collect())
        })
    }

    fn path(&mut self, inner: T<'s>, path: Path<T<'s>>) -> T<'s> {
        let inner = self.term(inner);
        if matches!(inner, Term::Var(SECRETS)) && path.0.iter().take(2).any(|(part, _)| fixed_key(part).is_none()) {
            self.refuse(SECRET_KEYS);
        }
        let mut parts: Vec<_> = path
            .0
            .into_iter()
            .map(|(part, opt)| {
                let part = match part {
                    Part::Index(index) => Part::Index(self.term(index)),
                    Part::Range(from, upto) => {
                        Part::Range(from.map(|from| self.term(from)), upto.map(|upto| self.term(upto)))
                    }
                };
                (part, opt)
            })
            .collect();
        // An index with several results behind something else that has several: it is the outer loop.
        let (mut is_many, mut kept) = (!is_one(&inner), Vec::new());
        for (part, opt) in &mut parts {
            let is_many_here = match part {
                Part::Index(index) => !is_one(index),
                Part::Range(from, upto) => from.is_none() && upto.is_none(),
            };
            if let (Part::Index(index), Opt::Essential) = (&mut *part, &*opt)
                && is_many
                && is_many_here
                && let Some(name) = KEPT.get(kept.len())
            {
                kept.push((*name, std::mem::replace(index, Term::Var(name))));
            }
            is_many |= is_many_here;
        }
        kept.into_iter().fold(Term::Path(Box::new(inner), Path(parts)), |body, (name, index)| bind(index, name, body))
    }

    fn fold(&mut self, name: &'s str, items: T<'s>, pattern: Pattern<&'s str>, args: Vec<T<'s>>) -> T<'s> {
        let items = self.boxed(items);
        let mut args: Vec<_> = args.into_iter().map(|arg| self.term(arg)).collect();
        let pattern = match alternatives(pattern) {
            Ok(patterns) => {
                let patterns = patterns.into_iter().map(|pattern| self.pattern(pattern)).collect();
                if args.len() > 2 {
                    self.refuse("'?//' in a 'foreach' with three arguments is not available; use it in a term");
                }
                if let Some(update) = args.get_mut(1) {
                    *update = either(Term::Var(VALUE), patterns, std::mem::take(update));
                }
                Pattern::Var(VALUE)
            }
            Err(pattern) => self.pattern(pattern),
        };
        if args.get(1).is_none_or(is_one) {
            return Term::Fold(name, items, pattern, args);
        }
        let mut args = args.into_iter();
        let (init, update) = (args.next().unwrap_or_default(), args.next().unwrap_or_default());
        let args = if name == "reduce" {
            vec![init, Term::Call(LAST, vec![update])]
        } else {
            // The state is all results of the update: each of them is one of the fold, and the next goes on with the last.
            let results = Term::Path(Box::new(Term::Id), Path(vec![(Part::Range(None, None), Opt::Essential)]));
            let given = match args.next() {
                Some(projection) => pipe(results, projection),
                None => results,
            };
            let state = pipe(Term::Call("last", Vec::new()), update);
            vec![pipe(init, Term::Arr(Some(Box::new(Term::Id)))), Term::Arr(Some(Box::new(state))), given]
        };
        Term::Fold(name, items, pattern, args)
    }

    fn pattern(&mut self, pattern: Pattern<&'s str>) -> Pattern<&'s str> {
        match pattern {
            Pattern::Var(_) => pattern,
            Pattern::Arr(items) => Pattern::Arr(items.into_iter().map(|item| self.pattern(item)).collect()),
            Pattern::Obj(entries) => {
                Pattern::Obj(entries.into_iter().map(|(key, item)| (self.term(key), self.pattern(item))).collect())
            }
        }
    }

    /// Whether a part of it is taken from a secret whose key is not known here. That is refused: it would be null.
    fn look_at_secret(&mut self, from: &T<'s>) -> bool {
        let is_whole = secret_keys(from).is_some_and(|keys| keys < 2);
        if is_whole {
            self.refuse(SECRET_KEYS);
        }
        is_whole
    }

    fn refuse(&mut self, refusal: &str) {
        self.refusal.get_or_insert_with(|| refusal.to_owned());
    }

    /// Operators and what stands between them, put together anew.
    fn operations(&mut self, term: T<'s>) -> T<'s> {
        let (mut terms, mut ops) = (Vec::new(), Vec::new());
        flatten(term, &mut terms, &mut ops);
        let mut ops = ops.into_iter().peekable();
        let mut terms = terms.into_iter();
        self.climb(&mut terms, &mut ops, 0)
    }

    fn climb(
        &mut self,
        terms: &mut std::vec::IntoIter<T<'s>>,
        ops: &mut std::iter::Peekable<std::vec::IntoIter<Op<'s>>>,
        lowest: u8,
    ) -> T<'s> {
        let first = terms.next().unwrap_or_default();
        let mut left = self.term(first);
        // A binding belongs to the term right before it and goes on to the end.
        if let Some(op) = ops.next_if(|op| matches!(op, BinaryOp::Pipe(Some(_)))) {
            let right = self.climb(terms, ops, 0);
            return self.operation(left, op, right);
        }
        let mut last = None;
        while let Some(op) = ops.next_if(|op| precedence(op).0 >= lowest) {
            let (level, side) = precedence(&op);
            if side == Side::Neither && last == Some(level) {
                self.refuse("comparisons and assignments cannot be chained; use parentheses");
            }
            last = Some(level);
            let right = self.climb(terms, ops, if side == Side::Right { level } else { level + 1 });
            left = self.operation(left, op, right);
        }
        left
    }

    fn operation(&mut self, left: T<'s>, op: Op<'s>, right: T<'s>) -> T<'s> {
        match op {
            BinaryOp::Pipe(None) => match joined_secret(left, right) {
                (left, Some(right)) => {
                    self.look_at_secret(&left);
                    pipe(left, right)
                }
                (whole, None) => whole,
            },
            BinaryOp::Pipe(Some(_)) if self.look_at_secret(&left) => left,
            BinaryOp::Pipe(Some(pattern)) => match alternatives(pattern) {
                Ok(patterns) => {
                    let patterns = patterns.into_iter().map(|pattern| self.pattern(pattern)).collect();
                    either(left, patterns, right)
                }
                Err(pattern) => {
                    let pattern = self.pattern(pattern);
                    Term::BinOp(Box::new(left), BinaryOp::Pipe(Some(pattern)), Box::new(right))
                }
            },
            BinaryOp::Math(_) | BinaryOp::Cmp(_) if must_order([&left, &right]) => {
                bind(right, RIGHT, Term::BinOp(Box::new(left), op, Box::new(Term::Var(RIGHT))))
            }
            BinaryOp::Comma | BinaryOp::Alt | BinaryOp::Or | BinaryOp::And | BinaryOp::Math(_) | BinaryOp::Cmp(_) => {
                Term::BinOp(Box::new(left), op, Box::new(right))
            }
            BinaryOp::Update => {
                let update = if is_one(&right) { UPDATE_ONE } else { UPDATE };
                Term::Call(update, vec![left, right])
            }
            BinaryOp::Assign => with_value(left, right, |value| value),
            BinaryOp::UpdateMath(op) => {
                with_value(left, right, |value| Term::BinOp(Box::default(), BinaryOp::Math(op), Box::new(value)))
            }
            BinaryOp::UpdateAlt => {
                with_value(left, right, |value| Term::BinOp(Box::default(), BinaryOp::Alt, Box::new(value)))
            }
        }
    }
}

/// How many fixed keys follow `$secrets`, if the term is a path from there.
fn secret_keys(term: &T<'_>) -> Option<usize> {
    match term {
        Term::Var(SECRETS) => Some(0),
        Term::Path(inner, path) if matches!(**inner, Term::Var(SECRETS)) => {
            Some(path.0.iter().take_while(|(part, _)| fixed_key(part).is_some()).count())
        }
        _ => None,
    }
}

/// `$secrets.db | .user | f` as `$secrets.db.user | f`: the keys of secrets are found where they are named together.
fn joined_secret<'s>(left: T<'s>, right: T<'s>) -> (T<'s>, Option<T<'s>>) {
    if secret_keys(&left).is_none() {
        return (left, Some(right));
    }
    match right {
        Term::Path(inner, more)
            if matches!(*inner, Term::Id) && more.0.iter().all(|(part, _)| fixed_key(part).is_some()) =>
        {
            let path = match left {
                Term::Path(inner, mut path) => {
                    path.0.extend(more.0);
                    (inner, path)
                }
                whole => (Box::new(whole), more),
            };
            (Term::Path(path.0, path.1), None)
        }
        Term::BinOp(first, BinaryOp::Pipe(None), rest) => match joined_secret(left, *first) {
            (whole, None) => joined_secret(whole, *rest),
            (left, Some(first)) => (left, Some(Term::BinOp(Box::new(first), BinaryOp::Pipe(None), rest))),
        },
        right => (left, Some(right)),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
    Neither,
}

/// How strongly an operator binds in jq, and to which side.
fn precedence(op: &Op<'_>) -> (u8, Side) {
    use jaq_core::ops::Math;
    match op {
        BinaryOp::Pipe(_) => (0, Side::Right),
        BinaryOp::Comma => (1, Side::Left),
        BinaryOp::Alt => (2, Side::Right),
        BinaryOp::Assign | BinaryOp::Update | BinaryOp::UpdateMath(_) | BinaryOp::UpdateAlt => (3, Side::Neither),
        BinaryOp::Or => (4, Side::Left),
        BinaryOp::And => (5, Side::Left),
        BinaryOp::Cmp(_) => (6, Side::Neither),
        BinaryOp::Math(Math::Add | Math::Sub) => (7, Side::Left),
        BinaryOp::Math(Math::Mul | Math::Div | Math::Rem) => (8, Side::Left),
    }
}

fn flatten<'s>(term: T<'s>, terms: &mut Vec<T<'s>>, ops: &mut Vec<Op<'s>>) {
    if let Term::BinOp(left, op, right) = term {
        flatten(*left, terms, ops);
        ops.push(op);
        flatten(*right, terms, ops);
    } else {
        terms.push(term);
    }
}

/// An update of the paths with something that is made of one value, of each result of a term.
fn with_value<'s>(paths: T<'s>, value: T<'s>, change: impl FnOnce(T<'s>) -> T<'s>) -> T<'s> {
    let update = |value| Term::Call(UPDATE_ONE, vec![paths, change(value)]);
    match value {
        Term::Num(_) | Term::Var(_) => update(value),
        value => bind(value, VALUE, update(Term::Var(VALUE))),
    }
}

/// Something made of terms that may have several results each: those of the last are the outer loop.
fn outer_last<'s>(mut terms: Vec<T<'s>>, make: impl FnOnce(Vec<T<'s>>) -> T<'s>) -> T<'s> {
    let mut kept = Vec::new();
    let is_needed = must_order(&terms);
    let many = terms.iter_mut().filter(|term| is_needed && !is_given(term)).skip(1);
    for (term, name) in many.zip(KEPT) {
        kept.push((name, std::mem::replace(term, Term::Var(name))));
    }
    kept.into_iter().fold(make(terms), |body, (name, term)| bind(term, name, body))
}

/// Keeps the results of all parts of an object but the last apart, if their order matters: the first are the outer loop.
fn keep_firsts<'s>(entries: &mut [(T<'s>, Option<T<'s>>)]) -> Vec<(&'static str, T<'s>)> {
    let parts = entries.iter().flat_map(|(key, value)| std::iter::once(key).chain(value));
    if !must_order(parts) {
        return Vec::new();
    }
    let parts = entries.iter_mut().flat_map(|(key, value)| std::iter::once(key).chain(value));
    let mut parts: Vec<_> = parts.filter(|part| !is_given(part)).collect();
    parts.pop();
    parts.into_iter().zip(KEPT).map(|(part, name)| (name, std::mem::replace(part, Term::Var(name)))).collect()
}

/// The alternatives of a destructuring; the pattern itself if it has none.
fn alternatives(pattern: Pattern<&str>) -> Result<Vec<Pattern<&str>>, Pattern<&str>> {
    match pattern {
        Pattern::Arr(mut items) if matches!(items.last(), Some(Pattern::Var(ALTERNATIVES))) => {
            items.pop();
            Ok(items)
        }
        pattern => Err(pattern),
    }
}

/// `value as first ?// … ?// last | body`: the next one if the one before it, or the body, raises an error.
fn either<'s>(value: T<'s>, patterns: Vec<Pattern<&'s str>>, body: T<'s>) -> T<'s> {
    let mut all = Vec::new();
    for pattern in &patterns {
        variables(pattern, &mut all);
    }
    let mut attempts = patterns.into_iter().rev().map(|pattern| {
        let mut own = Vec::new();
        variables(&pattern, &mut own);
        let args =
            all.iter().map(|name| if own.contains(name) { Term::Var(*name) } else { Term::Call("null", Vec::new()) });
        let body = Term::Call(BODY, args.collect());
        Term::BinOp(Box::new(Term::Var(VALUE)), BinaryOp::Pipe(Some(pattern)), Box::new(body))
    });
    let last = attempts.next().unwrap_or_default();
    let attempts = attempts
        .fold(last, |next, attempt| Term::TryCatch(Box::new(attempt), Some(Box::new(pipe(Term::Var(INPUT), next)))));
    let definition = Def { name: BODY, args: all, body };
    Term::Def(vec![definition], Box::new(bind(Term::Id, INPUT, bind(value, VALUE, attempts))))
}

/// The variables of a pattern, each once.
fn variables<'s>(pattern: &Pattern<&'s str>, found: &mut Vec<&'s str>) {
    match pattern {
        Pattern::Var(name) if found.contains(name) => {}
        Pattern::Var(name) => found.push(name),
        Pattern::Arr(items) => items.iter().for_each(|item| variables(item, found)),
        Pattern::Obj(entries) => entries.iter().for_each(|(_, item)| variables(item, found)),
    }
}

/// Whether it matters in which order terms are looked at: for the order of results, or whether an error is met at all.
fn must_order<'t, 's: 't>(terms: impl IntoIterator<Item = &'t T<'s>>) -> bool {
    let (mut count, mut are_ones) = (0, true);
    for term in terms.into_iter().filter(|term| !is_given(term)) {
        count += 1;
        are_ones &= is_one(term);
    }
    count > 1 && !are_ones
}

/// Whether a term has one result and no error.
fn is_given(term: &T<'_>) -> bool {
    match term {
        Term::Id | Term::Num(_) | Term::Var(_) | Term::Arr(None) => true,
        Term::Str(None, parts) => parts.iter().all(|part| !matches!(part, StrPart::Term(_))),
        _ => false,
    }
}

/// Whether a term has exactly one result, or raises an error, whatever its input is.
fn is_one(term: &T<'_>) -> bool {
    match term {
        Term::Id | Term::Num(_) | Term::Var(_) | Term::Arr(_) => true,
        Term::Str(_, parts) => {
            parts.iter().all(|part| if let StrPart::Term(term) = part { is_one(term) } else { true })
        }
        Term::Obj(entries) => entries.iter().all(|(key, value)| is_one(key) && value.as_ref().is_none_or(is_one)),
        Term::Neg(inner) => is_one(inner),
        Term::BinOp(
            left,
            BinaryOp::Pipe(None | Some(Pattern::Var(_)))
            | BinaryOp::Or
            | BinaryOp::And
            | BinaryOp::Math(_)
            | BinaryOp::Cmp(_),
            right,
        ) => is_one(left) && is_one(right),
        Term::IfThenElse(cases, otherwise) => {
            cases.iter().all(|(condition, then)| is_one(condition) && is_one(then))
                && otherwise.as_ref().is_none_or(|otherwise| is_one(otherwise))
        }
        Term::Path(inner, path) => {
            is_one(inner)
                && path.0.iter().all(|(part, opt)| match part {
                    Part::Index(index) => matches!(opt, Opt::Essential) && is_one(index),
                    Part::Range(from, upto) => {
                        matches!(opt, Opt::Essential)
                            && (from.is_some() || upto.is_some())
                            && from.iter().chain(upto).all(is_one)
                    }
                })
        }
        Term::Call(name, args) => args.is_empty() && ONES.contains(name),
        _ => false,
    }
}

fn text(text: &str) -> T<'_> {
    Term::Str(None, vec![StrPart::Str(text)])
}

fn pipe<'s>(left: T<'s>, right: T<'s>) -> T<'s> {
    Term::BinOp(Box::new(left), BinaryOp::Pipe(None), Box::new(right))
}

fn bind<'s>(value: T<'s>, name: &'s str, body: T<'s>) -> T<'s> {
    Term::BinOp(Box::new(value), BinaryOp::Pipe(Some(Pattern::Var(name))), Box::new(body))
}
