//! A file's text, the places in it, and messages that show them.

use std::{
    fmt,
    ops::Range,
    sync::{Arc, OnceLock},
};

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet, normalize_untrusted_str};
use baton_types::Violation;

use super::{
    locate::locate,
    tree::{self, Tree},
};

/// Columns that a shown line may take; longer lines are cut around what is meant.
const WIDTH: usize = 120;

/// A file that was read.
#[derive(Debug)]
pub(crate) struct Source {
    /// Its path, or `stdin`.
    name: String,
    text: String,
    tree: OnceLock<Option<Tree>>,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) span: Range<usize>,
    /// Lines and columns count from 1; a column is a character.
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) end_line: usize,
    pub(crate) end_column: usize,
}

impl Source {
    pub(crate) fn new(name: impl Into<String>, text: impl Into<String>) -> Arc<Self> {
        Arc::new(Self { name: name.into(), text: text.into(), tree: OnceLock::new() })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The place of some bytes.
    pub(crate) fn place(&self, span: Range<usize>) -> Place {
        let (line, column) = self.line_and_column(span.start);
        let (end_line, end_column) = self.line_and_column(span.end);
        Place { span, line, column, end_line, end_column }
    }

    /// The byte of a line and a column, both from 1.
    pub(crate) fn byte(&self, line: usize, column: usize) -> usize {
        let mut start = 0;
        for (number, text) in self.text.split_inclusive('\n').enumerate() {
            if number + 1 == line {
                return start + text.char_indices().nth(column.saturating_sub(1)).map_or(text.len(), |(at, _)| at);
            }
            start += text.len();
        }
        self.text.len()
    }

    fn line_and_column(&self, byte: usize) -> (usize, usize) {
        let before = self.text.get(..byte).unwrap_or(&self.text);
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[start..].chars().count() + 1)
    }

    /// A message with the line that it is about, as compilers show it.
    pub(crate) fn show(&self, message: &str, span: Range<usize>, with_colour: bool) -> String {
        let message = normalize_untrusted_str(message);
        let span = self.visible(span);
        let snippet =
            Snippet::source(&self.text).path(self.name.as_str()).annotation(AnnotationKind::Primary.span(span));
        let report = [Level::ERROR.primary_title(message).element(snippet)];
        let renderer = if with_colour { Renderer::styled() } else { Renderer::plain() };
        renderer.term_width(WIDTH).render(&report)
    }

    /// Of several lines the first; of nothing the character that comes, so that there is something to point at.
    fn visible(&self, span: Range<usize>) -> Range<usize> {
        let start = span.start.min(self.text.len());
        let end = span.end.clamp(start, self.text.len());
        let end = self.text[start..end].find('\n').map_or(end, |at| start + at);
        start..end
    }

    fn tree(&self) -> Option<&Tree> {
        self.tree.get_or_init(|| tree::parse(&self.text).ok()).as_ref()
    }
}

/// Which document of which file something is from. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    source: Arc<Source>,
    /// Number of the document, from 0.
    document: usize,
    /// Whether the file has others.
    has_others: bool,
    /// Path of the part that it is about, in the document: an item of a list.
    part: String,
    /// What fields begin with that the document does not have: `spec.definition` for one without a resource around it.
    bare: &'static str,
}

impl Origin {
    pub(crate) fn new(source: Arc<Source>, document: usize, has_others: bool) -> Self {
        Self { source, document, has_others, part: String::new(), bare: "" }
    }

    /// The same for an item of a list.
    pub(crate) fn item(&self, index: usize) -> Self {
        Self { part: format!("items[{index}]"), ..self.clone() }
    }

    /// The same, for a document that stands for a field of a resource.
    pub(crate) fn bare(mut self, field: &'static str) -> Self {
        self.bare = field;
        self
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// Number of the document, from 1.
    pub(crate) fn number(&self) -> usize {
        self.document + 1
    }

    /// The path of a field in the document as it stands; what is about another field than the one that a bare document
    /// stands for is not in it.
    pub(crate) fn path(&self, field: &str) -> Option<String> {
        match self.bare {
            "" => Some(field.to_owned()),
            bare => {
                let rest = field.strip_prefix(bare).filter(|rest| rest.is_empty() || rest.starts_with(['.', '[']))?;
                Some(rest.trim_start_matches('.').to_owned())
            }
        }
    }

    /// Where what a violation is about stands; its field is a path in the document.
    pub(crate) fn place(&self, violation: &Violation) -> Option<Place> {
        let root = self.source.tree()?.documents.get(self.document)?;
        let (part, field) = (&self.part, violation.field.as_str());
        let path =
            if part.is_empty() || field.is_empty() { format!("{part}{field}") } else { format!("{part}.{field}") };
        let says = violation.message.as_str();
        let of_key = ["unknown field", "no such field", "is the second task"].iter().any(|it| says.starts_with(it));
        Some(self.source.place(locate(root, &path, of_key)))
    }
}

/// The file, and the number of the document if there are several: `agents.yaml#2`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source.name)?;
        if self.has_others { write!(f, "#{}", self.number()) } else { Ok(()) }
    }
}
