//! The nodes of YAML documents with their spans, and the comments between them.

use std::ops::Range;

use granit_parser::{Event, Parser, Placement, ScalarStyle, ScanError, Span, StructureStyle};

/// Comments that may follow each other.
const COMMENTS_MAX: usize = 10_000;
/// Nodes of one file; a tree takes about a hundred bytes for each.
const NODES_MAX: usize = 2_000_000;

/// A text that was read.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// Those that hold something.
    pub(crate) documents: Vec<Node>,
    /// In the order in which they stand, over all documents.
    pub(crate) comments: Vec<Comment>,
    /// How many documents were left out because they hold nothing.
    pub(crate) empty: usize,
    /// Where the documents begin: at `---`, or with their first node.
    pub(crate) starts: Vec<usize>,
}

/// What stands between `#` and the end of the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Comment {
    pub(crate) text: String,
    pub(crate) span: Range<usize>,
    /// Whether it stands behind something.
    pub(crate) is_right: bool,
}

/// A value as it was written.
#[derive(Debug)]
pub(crate) struct Node {
    /// Bytes of the text; of a block collection, from its first to its last node.
    pub(crate) span: Range<usize>,
    pub(crate) body: Body,
    /// Whether an anchor or a tag stands before it.
    pub(crate) has_properties: bool,
}

#[derive(Debug)]
pub(crate) enum Body {
    Scalar { text: String, style: ScalarStyle },
    Sequence { items: Vec<Node>, is_flow: bool },
    Mapping { entries: Vec<(Node, Node)>, is_flow: bool },
    Alias,
}

/// Why a text is not YAML.
#[derive(Debug)]
pub(crate) struct Wrong {
    pub(crate) message: String,
    /// Byte at which it was noticed.
    pub(crate) at: usize,
}

impl Node {
    /// The text of a scalar.
    pub(crate) fn scalar(&self) -> Option<&str> {
        match &self.body {
            Body::Scalar { text, .. } => Some(text),
            Body::Sequence { .. } | Body::Mapping { .. } | Body::Alias => None,
        }
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        match &self.body {
            Body::Mapping { entries, .. } => {
                entries.iter().find(|(name, _)| name.scalar() == Some(key)).map(|(_, value)| value)
            }
            Body::Scalar { .. } | Body::Sequence { .. } | Body::Alias => None,
        }
    }

    fn is_nothing(&self) -> bool {
        matches!(&self.body, Body::Scalar { text, style: ScalarStyle::Plain } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }
}

/// Reads a text.
pub(crate) fn parse(text: &str) -> Result<Tree, Wrong> {
    let options = granit_parser::options! { max_buffered_comment_events: COMMENTS_MAX };
    let mut tree = Tree::default();
    let mut open: Vec<Open> = Vec::new();
    let mut nodes = 0_usize;
    let mut start = 0;
    for next in Parser::new_from_str_with_options(text, options) {
        let (event, span) = next.map_err(|error| wrong(&error))?;
        let range = span.byte_range().unwrap_or_default();
        if event.is_node() {
            nodes += 1;
            if nodes > NODES_MAX {
                return Err(Wrong { message: format!("it holds more than {NODES_MAX} values"), at: range.start });
            }
        }
        let has_properties = event.anchor_id().is_some() || span.tag_span().is_some();
        let done = match event {
            Event::DocumentStart(..) => {
                start = range.start;
                continue;
            }
            Event::Comment(comment, placement) => {
                let is_right = placement == Placement::Right;
                tree.comments.push(Comment { text: comment.into_owned(), span: range, is_right });
                continue;
            }
            Event::SequenceStart(style, ..) => {
                open.push(Open::new(&span, style, has_properties, false));
                continue;
            }
            Event::MappingStart(style, ..) => {
                open.push(Open::new(&span, style, has_properties, true));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(collection) => collection.close(range.end),
                None => continue,
            },
            Event::Scalar(value, style, ..) => {
                let mut span = range;
                // A block text ends with its last line, not with the empty ones behind it.
                if matches!(style, ScalarStyle::Literal | ScalarStyle::Folded) {
                    span.end = text[..span.end].trim_end().len().max(span.start);
                }
                Node { span, body: Body::Scalar { text: value.into_owned(), style }, has_properties }
            }
            Event::Alias(_) => Node { span: range, body: Body::Alias, has_properties },
            _ => continue,
        };
        match open.last_mut() {
            Some(collection) => collection.nodes.push(done),
            None if done.is_nothing() => tree.empty += 1,
            None => {
                tree.documents.push(done);
                tree.starts.push(start);
            }
        }
    }
    Ok(tree)
}

fn wrong(error: &ScanError) -> Wrong {
    let message = error.to_string();
    let message = message.split(" at char ").next().unwrap_or_default().to_owned();
    Wrong { message, at: error.marker().byte_offset().unwrap_or_default() }
}

/// A collection whose end was not seen yet.
struct Open {
    start: usize,
    is_flow: bool,
    is_mapping: bool,
    has_properties: bool,
    /// Of a mapping: keys and values by turns.
    nodes: Vec<Node>,
}

impl Open {
    fn new(span: &Span, style: StructureStyle, has_properties: bool, is_mapping: bool) -> Self {
        let start = span.byte_range().unwrap_or_default().start;
        Self { start, is_flow: style == StructureStyle::Flow, is_mapping, has_properties, nodes: Vec::new() }
    }

    fn close(self, end: usize) -> Node {
        let Self { start, is_flow, is_mapping, has_properties, nodes } = self;
        let last = nodes.last().map_or(start, |node| node.span.end);
        let span = start..if is_flow { end } else { last.max(start) };
        let body = if is_mapping {
            let mut entries = Vec::with_capacity(nodes.len() / 2);
            let mut nodes = nodes.into_iter();
            while let (Some(key), Some(value)) = (nodes.next(), nodes.next()) {
                entries.push((key, value));
            }
            Body::Mapping { entries, is_flow }
        } else {
            Body::Sequence { items: nodes, is_flow }
        };
        Node { span, body, has_properties }
    }
}
