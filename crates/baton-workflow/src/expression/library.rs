//! The definitions of jq that are written in jq: read and metered once, and given to each expression as it needs them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use jaq_core::load::{
    lex,
    parse::{self, Def},
};

use super::{
    desugar::Desugaring,
    rewrite::{Names, Rewriter},
    tokens,
};

struct Entry {
    def: Def<&'static str>,
    /// The definitions before it that it calls.
    needs: Vec<usize>,
    /// All filters that it calls, with the number of their arguments.
    names: Vec<(&'static str, usize)>,
}

static LIBRARY: LazyLock<Vec<Entry>> = LazyLock::new(read);

/// Definitions that call themselves other than at their end: their calls are counted as those of an expression are.
pub(super) const RECURSIVE: [&str; 4] = ["combinations", "flatten", "tostream", "walk"];

fn read() -> Vec<Entry> {
    let text = include_str!("library.jq");
    let tokens = lex::Lexer::new(text).lex().map(|tokens| tokens::prepare(text, tokens)).unwrap_or_default();
    let defs = parse::Parser::new(&tokens).parse(parse::Parser::defs).unwrap_or_default();
    let mut known: BTreeMap<(&'static str, usize), usize> = BTreeMap::new();
    let mut entries: Vec<Entry> = Vec::new();
    for def in defs {
        let def = Desugaring::new(text, &[]).definition(def);
        let mut names = Names::default();
        names.collect(&def.body, 0);
        let own = (def.name, def.args.len());
        let needs = names.filters.iter().filter_map(|name| known.get(name).copied()).collect();
        known.insert(own, entries.len());
        let mut rewriter = if RECURSIVE.contains(&def.name) { Rewriter::expression() } else { Rewriter::library() };
        entries.push(Entry { def: rewriter.definition(def), needs, names: names.filters });
    }
    entries
}

/// What filters of some names need.
pub(super) struct Needed {
    /// Definitions, in their order.
    pub(super) defs: Vec<Def<&'static str>>,
    /// Filters that they call, with the number of their arguments.
    pub(super) names: BTreeSet<(&'static str, usize)>,
}

/// What filters of these names need.
pub(super) fn needed(names: &[(&str, usize)]) -> Needed {
    let library = &*LIBRARY;
    let mut wanted = BTreeSet::new();
    let named =
        |entry: &Entry| names.iter().any(|(name, arity)| *name == entry.def.name && *arity == entry.def.args.len());
    let mut open: Vec<usize> = (0..library.len()).filter(|&index| named(&library[index])).collect();
    while let Some(index) = open.pop() {
        if wanted.insert(index) {
            open.extend(&library[index].needs);
        }
    }
    Needed {
        defs: wanted.iter().map(|&index| library[index].def.clone()).collect(),
        names: wanted.iter().flat_map(|&index| library[index].names.iter().copied()).collect(),
    }
}

/// Whether the library has a definition of that name, with any arguments.
pub(super) fn arities(name: &str) -> Vec<usize> {
    LIBRARY.iter().filter(|entry| entry.def.name == name).map(|entry| entry.def.args.len()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_definition_has_what_it_needs() {
        for Entry { def, .. } in LIBRARY.iter() {
            let args = vec!["."; def.args.len()].join("; ");
            let call = if args.is_empty() { def.name.to_owned() } else { format!("{}({args})", def.name) };
            if let Err(refusal) = crate::expression::Expression::compile(&call, &[]) {
                panic!("{call}: {refusal}");
            }
        }
    }

    #[test]
    fn the_library_is_read_whole() {
        assert!(LIBRARY.len() > 120, "{}", LIBRARY.len());
        for name in ["map", "select", "recurse", "to_entries", "tostream", "@csv", "gsub"] {
            assert!(!arities(name).is_empty(), "{name}");
        }
        for name in ["halt", "debug", "now"] {
            assert!(arities(name).is_empty(), "{name}");
        }
    }
}
