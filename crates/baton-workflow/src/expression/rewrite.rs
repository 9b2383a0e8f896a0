//! Puts the meter into an expression, before it is compiled.
//!
//! The interpreter has no hooks, but its syntax tree can be changed: a step is counted in every definition, behind
//! every `|`, in every loop body, argument and condition, and every call of an expression's own definitions that is
//! not a tail call is entered and left. Tail calls stay tail calls.
//!
//! # Invariants
//! - The names of the meter's filters begin with `!`, which no expression can spell.
//! - Whatever can repeat without end passes a step each time; what cannot is bounded by the text or by the data.

use jaq_core::load::{
    lex::StrPart,
    parse::{BinaryOp, Def, Pattern, Term},
};
use jaq_core::path::{Opt, Part, Path};

use super::{
    filters::{BODY, ENTER, STEP},
    library::RECURSIVE,
};

type T<'s> = Term<&'s str>;

/// What a name means where it is used.
#[derive(Clone, Copy)]
enum Meaning {
    /// A definition of the expression; whether it takes filters as arguments.
    Definition { filters: bool },
    /// An argument that is a filter.
    Argument,
}

/// Rewrites one expression (or one definition of the library).
pub(super) struct Rewriter<'s> {
    /// Whether calls of own definitions are entered: in the library none recurses but in tail calls.
    enters: bool,
    names: Vec<(&'s str, usize, Meaning)>,
}

impl<'s> Rewriter<'s> {
    pub(super) fn expression() -> Self {
        Self { enters: true, names: Vec::new() }
    }

    pub(super) fn library() -> Self {
        Self { enters: false, names: Vec::new() }
    }

    /// Rewrites a definition.
    pub(super) fn definition(&mut self, def: Def<&'s str>) -> Def<&'s str> {
        let Def { name, args, body } = def;
        let filters = args.iter().any(|arg| !arg.starts_with('$'));
        let outside = self.names.len();
        self.names.push((name, args.len(), Meaning::Definition { filters }));
        self.names.extend(args.iter().filter(|arg| !arg.starts_with('$')).map(|arg| (*arg, 0, Meaning::Argument)));
        let body = pipe(call(BODY), self.term(body, true));
        // The definition itself stays in sight of those after it.
        self.names.truncate(outside + 1);
        Def { name, args, body }
    }

    /// Rewrites a term; `tail` says whether its outputs are those of the definition around it.
    pub(super) fn term(&mut self, term: T<'s>, tail: bool) -> T<'s> {
        match term {
            Term::Id | Term::Recurse | Term::Num(_) | Term::Var(_) | Term::Break(_) | Term::Arr(None) => term,
            Term::Str(format, parts) => {
                let parts = parts.into_iter().map(|part| match part {
                    StrPart::Term(term) => StrPart::Term(self.stepped(term)),
                    other => other,
                });
                Term::Str(format, parts.collect())
            }
            Term::Arr(Some(inner)) => Term::Arr(Some(self.boxed(*inner))),
            Term::Obj(entries) => {
                let entries = entries
                    .into_iter()
                    .map(|(key, value)| (self.term(key, false), value.map(|value| self.term(value, false))));
                Term::Obj(entries.collect())
            }
            Term::Neg(inner) => Term::Neg(self.boxed(*inner)),
            Term::BinOp(left, op, right) => self.operation(*left, op, *right, tail),
            Term::Label(name, inner) => Term::Label(name, self.boxed(*inner)),
            Term::Fold(name, items, pattern, args) => {
                let items = self.boxed(*items);
                let pattern = self.pattern(pattern);
                let args = args.into_iter().enumerate().map(|(index, arg)| match index {
                    0 => self.term(arg, false),
                    1 => pipe(call(STEP), self.term(arg, false)),
                    _ => pipe(call(STEP), self.term(arg, tail)),
                });
                Term::Fold(name, items, pattern, args.collect())
            }
            Term::TryCatch(inner, handler) => {
                Term::TryCatch(self.boxed(*inner), handler.map(|handler| self.boxed(*handler)))
            }
            Term::IfThenElse(cases, otherwise) => {
                let cases = cases.into_iter().map(|(condition, then)| (self.stepped(condition), self.term(then, tail)));
                Term::IfThenElse(cases.collect(), otherwise.map(|otherwise| Box::new(self.term(*otherwise, tail))))
            }
            Term::Def(defs, inner) => {
                let outside = self.names.len();
                let defs = defs.into_iter().map(|def| self.definition(def)).collect();
                let inner = Box::new(self.term(*inner, tail));
                self.names.truncate(outside);
                Term::Def(defs, inner)
            }
            Term::Call(name, args) => self.call(name, args, tail),
            Term::Path(inner, path) => {
                let inner = self.boxed(*inner);
                let parts = path.0.into_iter().map(|(part, opt)| (self.part(part), opt));
                Term::Path(inner, Path(parts.collect()))
            }
        }
    }

    fn boxed(&mut self, term: T<'s>) -> Box<T<'s>> {
        Box::new(self.term(term, false))
    }

    /// A term that may give many outputs, each of which counts.
    fn stepped(&mut self, term: T<'s>) -> T<'s> {
        if gives_one(&term) { self.term(term, false) } else { pipe(self.term(term, false), call(STEP)) }
    }

    fn operation(&mut self, left: T<'s>, op: BinaryOp<&'s str>, right: T<'s>, tail: bool) -> T<'s> {
        let (left, op, right) = match op {
            BinaryOp::Pipe(pattern) => {
                let left = self.term(left, false);
                let pattern = pattern.map(|pattern| self.pattern(pattern));
                (left, BinaryOp::Pipe(pattern), pipe(call(STEP), self.term(right, tail)))
            }
            BinaryOp::Comma => (self.term(left, tail), op, self.term(right, tail)),
            BinaryOp::Alt => (self.term(left, false), op, self.term(right, tail)),
            BinaryOp::Or | BinaryOp::And | BinaryOp::Cmp(_) => (self.stepped(left), op, self.stepped(right)),
            // Updates have become calls.
            BinaryOp::Math(_) | BinaryOp::Assign | BinaryOp::Update | BinaryOp::UpdateMath(_) | BinaryOp::UpdateAlt => {
                (self.term(left, false), op, self.stepped(right))
            }
        };
        Term::BinOp(Box::new(left), op, Box::new(right))
    }

    fn call(&mut self, name: &'s str, args: Vec<T<'s>>, tail: bool) -> T<'s> {
        let meaning = self
            .names
            .iter()
            .rev()
            .find(|(known, arity, _)| *known == name && *arity == args.len())
            .map(|(_, _, meaning)| *meaning);
        let args = args
            .into_iter()
            .map(|arg| if gives_one(&arg) { self.term(arg, false) } else { pipe(call(STEP), self.term(arg, false)) });
        let term = Term::Call(name, args.collect());
        let enter = match meaning {
            // With filters as arguments even a tail call holds on to its caller.
            Some(Meaning::Definition { filters }) => filters || !tail,
            Some(Meaning::Argument) => !tail,
            None => false,
        };
        if enter && self.enters { Term::Call(ENTER, vec![term]) } else { term }
    }

    fn part(&mut self, part: Part<T<'s>>) -> Part<T<'s>> {
        match part {
            Part::Index(index) => Part::Index(self.stepped(index)),
            Part::Range(from, upto) => {
                Part::Range(from.map(|from| self.stepped(from)), upto.map(|upto| self.stepped(upto)))
            }
        }
    }

    fn pattern(&mut self, pattern: Pattern<&'s str>) -> Pattern<&'s str> {
        match pattern {
            Pattern::Var(_) => pattern,
            Pattern::Arr(items) => Pattern::Arr(items.into_iter().map(|item| self.pattern(item)).collect()),
            Pattern::Obj(entries) => {
                Pattern::Obj(entries.into_iter().map(|(key, item)| (self.stepped(key), self.pattern(item))).collect())
            }
        }
    }
}

/// Whether a term has one output whatever its input is, at once.
fn gives_one(term: &T<'_>) -> bool {
    match term {
        Term::Id | Term::Num(_) | Term::Var(_) => true,
        Term::Str(None, parts) => parts.iter().all(|part| !matches!(part, StrPart::Term(_))),
        Term::Path(inner, path) => {
            gives_one(inner)
                && path
                    .0
                    .iter()
                    .all(|(part, opt)| matches!((part, opt), (Part::Index(index), Opt::Essential) if gives_one(index)))
        }
        _ => false,
    }
}

fn call(name: &'static str) -> T<'static> {
    Term::Call(name, Vec::new())
}

fn pipe<'s>(left: T<'s>, right: T<'s>) -> T<'s> {
    Term::BinOp(Box::new(left), BinaryOp::Pipe(None), Box::new(right))
}

/// What an expression names: filters with the number of their arguments, and variables.
#[derive(Default)]
pub(super) struct Names<'s> {
    pub(super) filters: Vec<(&'s str, usize)>,
    pub(super) variables: Vec<&'s str>,
    /// The first two fixed keys of paths that begin at `$secrets`.
    pub(super) secrets: Vec<(String, Option<String>)>,
    /// How deep the tree is.
    pub(super) depth: usize,
    /// Whether evaluating it can nest deeper than the tree is: it has definitions or loops.
    pub(super) nests: bool,
}

impl<'s> Names<'s> {
    pub(super) fn collect(&mut self, term: &T<'s>, depth: usize) {
        self.depth = self.depth.max(depth);
        match term {
            Term::Var(name) => self.variables.push(name),
            Term::Str(Some(format), _) => self.filters.push((format, 0)),
            Term::Call(name, args) => {
                self.nests |= RECURSIVE.contains(name);
                self.filters.push((name, args.len()));
            }
            Term::Path(root, path) if matches!(**root, Term::Var("$secrets")) => {
                let mut keys = path.0.iter().map_while(|(part, _)| fixed_key(part));
                self.secrets.extend(keys.next().map(|name| (name, keys.next())));
            }
            Term::Def(..) => self.nests = true,
            Term::Fold(_, _, pattern, _) => {
                self.nests = true;
                self.pattern(pattern, depth + 1);
            }
            Term::BinOp(_, BinaryOp::Pipe(Some(pattern)), _) => self.pattern(pattern, depth + 1),
            _ => {}
        }
        for inner in inner_terms(term) {
            self.collect(inner, depth + 1);
        }
    }

    fn pattern(&mut self, pattern: &Pattern<&'s str>, depth: usize) {
        self.depth = self.depth.max(depth);
        match pattern {
            Pattern::Var(_) => {}
            Pattern::Arr(items) => {
                for item in items {
                    self.pattern(item, depth + 1);
                }
            }
            Pattern::Obj(entries) => {
                for (key, item) in entries {
                    self.collect(key, depth + 1);
                    self.pattern(item, depth + 1);
                }
            }
        }
    }
}

/// A key that stands in the text as it is.
pub(super) fn fixed_key(part: &Part<T<'_>>) -> Option<String> {
    let Part::Index(Term::Str(None, parts)) = part else { return None };
    match parts.as_slice() {
        [StrPart::Str(key)] => Some((*key).to_owned()),
        _ => None,
    }
}

/// The terms right below a term, but for those in patterns.
fn inner_terms<'t, 's>(term: &'t T<'s>) -> Vec<&'t T<'s>> {
    match term {
        Term::Id | Term::Recurse | Term::Num(_) | Term::Var(_) | Term::Break(_) | Term::Arr(None) => Vec::new(),
        Term::Str(_, parts) => {
            parts.iter().filter_map(|part| if let StrPart::Term(term) = part { Some(term) } else { None }).collect()
        }
        Term::Arr(Some(inner)) | Term::Neg(inner) | Term::Label(_, inner) => vec![inner],
        Term::Obj(entries) => entries.iter().flat_map(|(key, value)| std::iter::once(key).chain(value)).collect(),
        Term::BinOp(left, _, right) => vec![left, right],
        Term::Fold(_, items, _, args) => std::iter::once(&**items).chain(args).collect(),
        Term::TryCatch(inner, handler) => std::iter::once(&**inner).chain(handler.as_deref()).collect(),
        Term::IfThenElse(cases, otherwise) => {
            cases.iter().flat_map(|(condition, then)| [condition, then]).chain(otherwise.as_deref()).collect()
        }
        Term::Def(defs, inner) => defs.iter().map(|def| &def.body).chain([&**inner]).collect(),
        Term::Call(_, args) => args.iter().collect(),
        Term::Path(inner, path) => {
            let bounds = path.0.iter().flat_map(|(part, _)| match part {
                Part::Index(index) => vec![index],
                Part::Range(from, upto) => from.iter().chain(upto).collect(),
            });
            std::iter::once(&**inner).chain(bounds).collect()
        }
    }
}
