//! From the text of an expression to a filter.

use std::panic::{AssertUnwindSafe, catch_unwind};

use jaq_core::{
    Compiler,
    compile::Undefined,
    load::{self, lex, parse},
    path::{Opt, Part},
};

use super::{
    Direct, Filter, Root, Segment,
    desugar::{self, Desugaring},
    filters::{self, Kind, REMOVED},
    library,
    rewrite::{Names, Rewriter},
    tokens,
};

/// Longest expression, in bytes.
pub(crate) const TEXT_MAX: usize = 16 * 1024;
/// Deepest syntax tree.
const TREE_DEPTH_MAX: usize = 200;
/// Tokens that may make the parser go one level deeper, all in all, from the outermost to the innermost.
const PARSE_DEPTH_MAX: usize = 1000;
/// Words and symbols behind which the parser goes deeper.
const NESTING: [&str; 16] =
    ["-", "try", "catch", "if", "then", "elif", "else", "reduce", "foreach", "def", "label", "as", "|", ":", "//", "="];
/// Stack for reading an expression: its text may be one nesting a byte.
const STACK: usize = 128 * 1024 * 1024;
/// Stack that evaluating takes whatever the expression is: values are nested, too. In bytes.
const STACK_MIN: usize = 1024 * 1024;
/// Stack that evaluating takes for each level of the tree, at most, in bytes.
const STACK_PER_LEVEL: usize = 8 * 1024;

/// Name of the definition that the expression becomes.
const MAIN: &str = "!main";

/// What the text became.
pub(super) struct Compiled {
    pub(super) direct: Option<Direct>,
    pub(super) variables: Vec<String>,
    pub(super) filter: Filter,
    /// Names of secrets, and of keys of them, in paths from `$secrets`.
    pub(super) secrets: Vec<(String, Option<String>)>,
    /// Stack that an evaluation needs.
    pub(super) stack: usize,
}

/// Compiles an expression that may name `variables`.
///
/// # Errors
/// A sentence that says what is wrong and where.
pub(super) fn compile(text: &str, variables: &[&str]) -> Result<Compiled, String> {
    if text.len() > TEXT_MAX {
        return Err(format!("the expression has {} bytes, allowed are up to {TEXT_MAX}", text.len()));
    }
    // The reader, the tree and the compiler are recursive: give them room for whatever the text can hold.
    let work = || stacker::grow(STACK, || compile_within(text, variables));
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(format!("'{}' cannot be compiled", shown(text))))
}

fn compile_within(text: &str, variables: &[&str]) -> Result<Compiled, String> {
    let text = &tokens::join_escapes(text);
    let lines = desugar::lines(text);
    let written = read(text)?;
    let mut names = Names::default();
    names.collect(&written, 0);
    if names.depth > TREE_DEPTH_MAX {
        return Err(too_deep(text));
    }
    let term = Desugaring::new(text, &lines).expression(written)?;
    let mut names = Names::default();
    names.collect(&term, 0);
    let used: Vec<&str> = variables
        .iter()
        .copied()
        .filter(|variable| names.variables.iter().any(|name| name.strip_prefix('$') == Some(variable)))
        .collect();
    let direct = direct(&term, &used);
    let stack = if names.nests { STACK } else { STACK_MIN + STACK_PER_LEVEL * names.depth };
    let filter = filter(text, term, &names, &used)?;
    let variables = used.into_iter().map(str::to_owned).collect();
    Ok(Compiled { direct, variables, filter, secrets: names.secrets, stack })
}

fn read(text: &str) -> Result<parse::Term<&str>, String> {
    let tokens = lex::Lexer::new(text).lex().map_err(|errors| {
        let (expected, found) =
            errors.into_iter().next().map_or(("token", ""), |(expected, found)| (expected.as_str(), found));
        unexpected(text, expected, found)
    })?;
    if !parses_flat(&tokens, 0) {
        return Err(too_deep(text));
    }
    let tokens = tokens::prepare(text, tokens);
    let parser = parse::Parser::new(&tokens);
    parser.parse(parse::Parser::term).map_err(|errors| {
        let found = errors.into_iter().next();
        let (expected, found) =
            found.map_or(("term", ""), |(expected, found)| (expected.as_str(), lex::Token::opt_as_str(found, text)));
        unexpected(text, expected, found)
    })
}

fn too_deep(text: &str) -> String {
    format!("'{}' is nested deeper than {TREE_DEPTH_MAX} levels", shown(text))
}

/// Whether the parser can read the tokens without running out of its stack: words and symbols before a term, such as
/// `try` and `-`, nest as brackets do.
fn parses_flat(tokens: &[lex::Token<&str>], above: usize) -> bool {
    let own = tokens
        .iter()
        .filter(|lex::Token(_, kind)| matches!(kind, lex::Tok::Word | lex::Tok::Sym))
        .filter(|lex::Token(text, _)| NESTING.contains(text))
        .count();
    let depth = above + own + 1;
    depth <= PARSE_DEPTH_MAX
        && tokens.iter().all(|lex::Token(_, kind)| match kind {
            lex::Tok::Block(inner) => parses_flat(inner, depth),
            lex::Tok::Str(parts) => parts.iter().all(|part| match part {
                lex::StrPart::Term(token) => parses_flat(std::slice::from_ref(token), depth),
                lex::StrPart::Str(_) | lex::StrPart::Char(_) => true,
            }),
            lex::Tok::Word | lex::Tok::Var | lex::Tok::Fmt | lex::Tok::Num | lex::Tok::Sym => true,
        })
}

fn unexpected(text: &str, expected: &str, found: &str) -> String {
    let found = found.split_whitespace().next().unwrap_or_default();
    let found = if found.is_empty() { "the end".to_owned() } else { format!("'{}'", shown(found)) };
    format!("'{}' is not a jq expression: expected {expected}, found {found}", shown(text))
}

fn filter(text: &str, term: parse::Term<&str>, names: &Names<'_>, used: &[&str]) -> Result<Filter, String> {
    let main = Rewriter::expression().definition(parse::Def { name: MAIN, args: Vec::new(), body: term });
    let library::Needed { defs, names: called } = library::needed(&names.filters);
    let defs = defs.into_iter().chain([main]);
    let globals: Vec<String> = used.iter().map(|name| format!("${name}")).collect();
    let arena = load::Arena::default();
    // The compiler takes a program as text only: the text names a definition that calls the rewritten expression.
    let modules = load::Loader::new(defs.chain([main_call()]))
        .load(&arena, load::File { code: ENTRY, path: () })
        .map_err(|_| "the library cannot be read".to_owned())?;
    let filters = filters::all().into_iter().filter(|(name, args, _)| {
        let wanted = (*name, args.len());
        name.starts_with('!') || called.contains(&wanted) || names.filters.contains(&wanted)
    });
    let compiler: Compiler<&str, Kind> =
        Compiler::default().with_funs(filters).with_global_vars(globals.iter().map(String::as_str));
    compiler.compile(modules).map_err(|errors| {
        let undefined = errors.into_iter().flat_map(|(_, errors)| errors).next();
        undefined.map_or_else(
            || format!("'{}' cannot be compiled", shown(text)),
            |(name, kind)| undefined_message(name, &kind),
        )
    })
}

/// A name that the program can spell and that an expression, whose tree is already made, cannot reach.
const ENTRY: &str = "entry";

fn main_call() -> parse::Def<&'static str> {
    parse::Def { name: ENTRY, args: Vec::new(), body: parse::Term::Call(MAIN, Vec::new()) }
}

fn undefined_message(name: &str, kind: &Undefined) -> String {
    if let Some((_, instead)) = REMOVED.iter().find(|(removed, _)| *removed == name) {
        return format!("'{name}' is not available: {instead}");
    }
    match kind {
        Undefined::Filter(found) => {
            let arities = library::arities(name);
            let hint = if arities.is_empty() {
                String::new()
            } else {
                format!(
                    "; there is one with {} arguments",
                    arities.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
                )
            };
            format!("no filter '{}' with {found} arguments{hint}", shown(name))
        }
        Undefined::Var if name == "$ENV" => {
            "'$ENV' is not available: the environment of a server is not part of a workflow; use '$env'".to_owned()
        }
        other => format!("no {} '{}' here", other.as_str(), shown(name)),
    }
}

/// Paths from the input or a variable by fixed keys need no interpreter.
fn direct(term: &parse::Term<&str>, used: &[&str]) -> Option<Direct> {
    let root = |term: &parse::Term<&str>| match term {
        parse::Term::Id => Some(Root::Input),
        parse::Term::Var(name) => {
            used.iter().position(|variable| name.strip_prefix('$') == Some(variable)).map(Root::Variable)
        }
        _ => None,
    };
    let parse::Term::Path(inner, path) = term else { return root(term).map(|root| Direct { root, path: Vec::new() }) };
    let segments = path.0.iter().map(|part| match part {
        (Part::Index(parse::Term::Str(None, parts)), Opt::Essential) => match parts.as_slice() {
            [lex::StrPart::Str(key)] => Some(Segment::Key((*key).to_owned())),
            _ => None,
        },
        (Part::Index(parse::Term::Num(number)), Opt::Essential) => number.parse().ok().map(Segment::Index),
        _ => None,
    });
    Some(Direct { root: root(inner)?, path: segments.collect::<Option<_>>()? })
}

/// Some text as messages show it.
pub(super) fn shown(text: &str) -> String {
    crate::document::shown(text)
}
