//! Puts the lines of a file together.

use std::ops::Range;

use granit_parser::ScalarStyle;

use super::{
    order::Form,
    scalar::{Within, chomping, is_block, one_line},
};
use crate::yaml::tree::{Body, Comment, Node, Tree};

/// Columns that a collection in `{}` or `[]` may end at; a longer one is written in lines.
const WIDTH: usize = 120;

/// Writes the documents of a file anew.
///
/// # Errors
/// What it has that cannot be kept.
pub(super) fn write(text: &str, tree: &Tree) -> Result<String, &'static str> {
    if tree.empty > 0 {
        return Err("documents that hold nothing");
    }
    if text.lines().any(|line| line.starts_with('%')) {
        return Err("directives");
    }
    let mut writer = Writer { source: text, comments: &tree.comments, lines: Vec::new() };
    for (number, root) in tree.documents.iter().enumerate() {
        if number > 0 {
            writer.lines.push("---".to_owned());
        }
        let from = if number == 0 { 0 } else { tree.starts[number] };
        let to = tree.starts.get(number + 1).copied().unwrap_or(text.len());
        let is_first = number == 0;
        writer.document(root, from..to, is_first)?;
    }
    if tree.documents.is_empty() {
        writer.comments_in(0..text.len(), 0);
    }
    let mut written = writer.lines.join("\n");
    written.truncate(written.trim_end_matches('\n').len());
    written.push('\n');
    Ok(written)
}

struct Writer<'t> {
    source: &'t str,
    comments: &'t [Comment],
    lines: Vec<String>,
}

/// An entry of a mapping, or an item of a list, with what belongs to it.
struct Entry<'t> {
    key: Option<&'t Node>,
    value: &'t Node,
    /// From behind what stood before it to where it begins: comments on lines of their own.
    before: Range<usize>,
    /// From its first byte to where the next begins.
    whole: Range<usize>,
    /// Whether an empty line stands before it.
    is_apart: bool,
}

impl<'t> Writer<'t> {
    fn document(&mut self, root: &'t Node, range: Range<usize>, is_first: bool) -> Result<(), &'static str> {
        let is_block =
            matches!(root.body, Body::Mapping { is_flow: false, .. } | Body::Sequence { is_flow: false, .. });
        if !is_block {
            self.comments_in(range.start..root.span.start, 0);
            let line = flow(root, Form::Free)?;
            self.lines.push(line + &self.right(root.span.end..range.end));
            self.own_lines(root.span.end..range.end, 0);
            return Ok(());
        }
        // A comment above the first field, with an empty line between, is about the whole file.
        if is_first {
            let head = self.own(range.start..root.span.start);
            if let Some(last) = head.last()
                && self.has_empty_line(last.span.end..root.span.start)
            {
                let end = last.span.end;
                self.comments_in(range.start..end, 0);
                self.lines.push(String::new());
                return self.collection(root, Form::of_document(root), 0, end..range.end);
            }
        }
        self.collection(root, Form::of_document(root), 0, range)
    }

    /// Writes a block collection; `range` is what lies between its neighbours.
    fn collection(
        &mut self,
        node: &'t Node,
        form: Form,
        indent: usize,
        range: Range<usize>,
    ) -> Result<(), &'static str> {
        let (mut entries, column) = self.entries(node, &range);
        // What is written deeper than the collection after its last entry belongs to that entry's value.
        let last_end = entries.last().map_or(range.start, |entry| entry.value.span.end);
        let tail_from = self.tail(last_end..range.end, column);
        if let Some(last) = entries.last_mut() {
            last.whole.end = tail_from;
        }
        let order = form.fields();
        if !order.is_empty() {
            let rank = |entry: &Entry<'_>| {
                let key = entry.key.and_then(Node::scalar).unwrap_or_default();
                order.iter().position(|field| *field == key).unwrap_or(order.len())
            };
            entries.sort_by_key(rank);
        }
        for (place, entry) in entries.iter().enumerate() {
            if place > 0 && entry.is_apart && self.lines.last().is_some_and(|line| !line.is_empty()) {
                self.lines.push(String::new());
            }
            self.own_lines(entry.before.clone(), indent);
            self.entry(entry, node, form, indent)?;
        }
        self.own_lines(tail_from..range.end, indent);
        Ok(())
    }

    fn entries(&self, node: &'t Node, range: &Range<usize>) -> (Vec<Entry<'t>>, usize) {
        let parts: Vec<(Option<&Node>, &Node)> = match &node.body {
            Body::Mapping { entries, .. } => entries.iter().map(|(key, value)| (Some(key), value)).collect(),
            Body::Sequence { items, .. } => items.iter().map(|item| (None, item)).collect(),
            Body::Scalar { .. } | Body::Alias => Vec::new(),
        };
        let start_of = |(key, value): &(Option<&Node>, &Node)| match key {
            Some(key) => key.span.start,
            None => self.dash(value.span.start),
        };
        let column = parts.first().map_or(0, |part| self.column(start_of(part)));
        let mut entries: Vec<Entry<'t>> = Vec::new();
        for part in parts {
            let (key, value) = part;
            let start = start_of(&part);
            // Comments between two entries that are indented deeper than they belong to the one before.
            let from = match entries.last_mut() {
                None => range.start,
                Some(last) => {
                    let from = self.tail(last.value.span.end..start, column);
                    last.whole.end = from;
                    from
                }
            };
            let first = self.own(from..start).first().map_or(start, |comment| comment.span.start);
            let is_apart = self.has_empty_line(from..first);
            entries.push(Entry { key, value, before: from..start, whole: start..range.end, is_apart });
        }
        (entries, column)
    }

    /// Where, behind an entry, comments begin that are not indented deeper than its collection.
    fn tail(&self, range: Range<usize>, column: usize) -> usize {
        let line_end = self.source[range.start..range.end].find('\n').map_or(range.end, |at| range.start + at);
        let mut from = line_end.max(range.start);
        for comment in self.own(range) {
            if self.column(comment.span.start) <= column {
                break;
            }
            from = comment.span.end;
        }
        from
    }

    fn entry(&mut self, entry: &Entry<'t>, parent: &'t Node, form: Form, indent: usize) -> Result<(), &'static str> {
        let lead = " ".repeat(indent);
        let (head, form) = match entry.key {
            Some(key) => {
                let Some(name) = key.scalar() else { return Err("keys that are not text") };
                let Body::Scalar { style, .. } = key.body else { return Err("keys that are not text") };
                if key.has_properties {
                    return Err("anchors, aliases or tags");
                }
                (format!("{lead}{}:", one_line(name, style, Within::Block)), form.field(name, parent))
            }
            None => (format!("{lead}-"), form.item()),
        };
        let value = entry.value;
        if value.has_properties || matches!(value.body, Body::Alias) {
            return Err("anchors, aliases or tags");
        }
        if let Body::Scalar { text, style } = &value.body {
            return self.scalar(&head, text, *style, entry, indent);
        }
        let inner = entry.key.map_or(entry.whole.start, |key| key.span.end)..entry.whole.end;
        if let Some(line) = self.on_one_line(value, form, &head, &inner)? {
            self.lines.push(line + &self.right(value.span.end..entry.whole.end));
            self.own_lines(value.span.end..entry.whole.end, indent + 2);
            return Ok(());
        }
        // A comment on the line of the key, or behind an opening bracket, stays on the line of the key.
        let first = first_of(value);
        let right = self.right(inner.start..first);
        let is_list_in_list = entry.key.is_none();
        let at = self.lines.len();
        let has_lead = !right.is_empty() || !self.own(inner.start..first).is_empty();
        self.collection(value, form, indent + 2, self.after_line(&inner, first)..inner.end)?;
        if is_list_in_list && !has_lead {
            // `- name: …`: the first line of the value stands behind the dash.
            if let Some(line) = self.lines.get_mut(at) {
                *line = format!("{head} {}", line.trim_start());
            }
        } else {
            self.lines.insert(at, head + &right);
        }
        Ok(())
    }

    /// Behind a comment that stays on the line of the key.
    fn after_line(&self, inner: &Range<usize>, first: usize) -> usize {
        let right =
            self.comments.iter().find(|it| it.is_right && inner.start <= it.span.start && it.span.start < first);
        right.map_or(inner.start, |comment| comment.span.end)
    }

    fn scalar(
        &mut self,
        head: &str,
        text: &str,
        style: ScalarStyle,
        entry: &Entry<'t>,
        indent: usize,
    ) -> Result<(), &'static str> {
        let start = entry.key.map_or(entry.whole.start, |key| key.span.end);
        let span = &entry.value.span;
        let is_written_as_block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
        let lead = " ".repeat(indent + 2);
        if style == ScalarStyle::Folded || style == ScalarStyle::Literal && !is_block(text) {
            let sign = if style == ScalarStyle::Folded { '>' } else { '|' };
            if self.source[start..span.start].contains(|c: char| c.is_ascii_digit()) {
                return Err("block texts with an indentation of their own");
            }
            self.lines.push(format!("{head} {sign}{}{}", chomping(text), self.right(start..span.start)));
            let cut = self.column(span.start);
            let raw = self.source[..span.end].trim_end_matches('\n');
            let raw = &raw[span.start.min(raw.len())..];
            for (number, line) in raw.split('\n').enumerate() {
                let line = if number == 0 { line } else { line.get(cut.min(line.len())..).unwrap_or_default() };
                self.lines.push(if line.trim().is_empty() { String::new() } else { format!("{lead}{line}") });
            }
            let kept = text.len() - text.trim_end_matches('\n').len();
            self.lines.extend(std::iter::repeat_n(String::new(), kept.saturating_sub(1)));
        } else if is_block(text) && style != ScalarStyle::Plain {
            let right =
                if is_written_as_block { self.right(start..span.start) } else { self.right(span.end..entry.whole.end) };
            self.lines.push(format!("{head} |{}{right}", chomping(text)));
            let body = text.trim_end_matches('\n');
            for line in body.split('\n') {
                self.lines.push(if line.is_empty() { String::new() } else { format!("{lead}{line}") });
            }
            let kept = text.len() - body.len();
            self.lines.extend(std::iter::repeat_n(String::new(), kept.saturating_sub(1)));
        } else {
            let is_nothing = span.is_empty() && style == ScalarStyle::Plain;
            let line =
                if is_nothing { head.to_owned() } else { format!("{head} {}", one_line(text, style, Within::Block)) };
            self.lines.push(line + &self.right(start..entry.whole.end));
        }
        let from = if is_written_as_block { span.end } else { start.max(span.end) };
        self.own_lines(from..entry.whole.end, indent + 2);
        Ok(())
    }

    /// A collection that is written with brackets, if it still fits on its line and no comment is in it.
    fn on_one_line(
        &self,
        node: &'t Node,
        form: Form,
        head: &str,
        inner: &Range<usize>,
    ) -> Result<Option<String>, &'static str> {
        let is_flow = match &node.body {
            Body::Mapping { is_flow, entries } => *is_flow || entries.is_empty(),
            Body::Sequence { is_flow, items } => *is_flow || items.is_empty(),
            Body::Scalar { .. } | Body::Alias => return Ok(None),
        };
        let comments = self.comments.iter().any(|it| inner.start <= it.span.start && it.span.start < node.span.end);
        if !is_flow || comments {
            return Ok(None);
        }
        let line = format!("{head} {}", flow(node, form)?);
        let is_empty = matches!(&node.body, Body::Mapping { entries, .. } if entries.is_empty())
            || matches!(&node.body, Body::Sequence { items, .. } if items.is_empty());
        Ok((is_empty || line.chars().count() <= WIDTH).then_some(line))
    }

    /// Comments on lines of their own that begin in a range.
    fn own(&self, range: Range<usize>) -> Vec<&'t Comment> {
        let all: &'t [Comment] = self.comments;
        let from = all.partition_point(|comment| comment.span.start < range.start);
        all[from..].iter().take_while(|it| it.span.start < range.end).filter(|it| !it.is_right).collect()
    }

    /// Writes them, with the empty lines between them.
    fn own_lines(&mut self, range: Range<usize>, indent: usize) {
        let mut before: Option<usize> = None;
        let start = range.start;
        for comment in self.own(range) {
            let is_apart = self.has_empty_line(before.unwrap_or(start)..comment.span.start);
            if is_apart && self.lines.last().is_some_and(|line| !line.is_empty() && line != "---") {
                self.lines.push(String::new());
            }
            self.lines.push(format!("{}#{}", " ".repeat(indent), comment.text.trim_end()));
            before = Some(comment.span.end);
        }
    }

    fn comments_in(&mut self, range: Range<usize>, indent: usize) {
        self.own_lines(range, indent);
    }

    /// The comment behind something, if there is one on its line.
    fn right(&self, range: Range<usize>) -> String {
        let from = self.comments.partition_point(|comment| comment.span.start < range.start);
        self.comments[from..]
            .iter()
            .take_while(|it| it.span.start < range.end)
            .find(|it| it.is_right)
            .map_or_else(String::new, |comment| format!(" #{}", comment.text.trim_end()))
    }

    fn has_empty_line(&self, range: Range<usize>) -> bool {
        let between = self.source.get(range).unwrap_or_default();
        let lines: Vec<&str> = between.split('\n').collect();
        lines.len() > 2 && lines[1..lines.len() - 1].iter().any(|line| line.trim().is_empty())
    }

    fn column(&self, byte: usize) -> usize {
        let before = &self.source[..byte.min(self.source.len())];
        before.len() - before.rfind('\n').map_or(0, |at| at + 1)
    }

    /// Where the dash of an item stands.
    fn dash(&self, start: usize) -> usize {
        let mut end = start;
        // Comments may stand between the dash and the item.
        while let Some(at) = self.source[..end].rfind('-') {
            let is_comment = self.comments.iter().any(|comment| comment.span.contains(&at));
            if !is_comment {
                return at;
            }
            end = at;
        }
        start
    }
}

/// The first byte of what is in a collection.
fn first_of(node: &Node) -> usize {
    match &node.body {
        Body::Mapping { entries, .. } => entries.first().map_or(node.span.start, |(key, _)| key.span.start),
        Body::Sequence { items, .. } => items.first().map_or(node.span.start, |item| item.span.start),
        Body::Scalar { .. } | Body::Alias => node.span.start,
    }
}

/// A value within one line.
fn flow(node: &Node, form: Form) -> Result<String, &'static str> {
    if node.has_properties {
        return Err("anchors, aliases or tags");
    }
    Ok(match &node.body {
        Body::Alias => return Err("anchors, aliases or tags"),
        Body::Scalar { style: ScalarStyle::Plain, .. } if node.span.is_empty() => "null".to_owned(),
        Body::Scalar { text, style } => one_line(text, *style, Within::Flow),
        Body::Sequence { items, .. } => {
            let items: Result<Vec<String>, _> = items.iter().map(|item| flow(item, form.item())).collect();
            format!("[{}]", items?.join(", "))
        }
        Body::Mapping { entries, .. } => {
            let order = form.fields();
            let mut parts = Vec::new();
            for (key, value) in entries {
                let Some(name) = key.scalar() else { return Err("keys that are not text") };
                let rank = order.iter().position(|field| *field == name).unwrap_or(order.len());
                let value = flow(value, form.field(name, node))?;
                parts.push((rank, format!("{}: {value}", flow(key, Form::Free)?)));
            }
            parts.sort_by_key(|(rank, _)| *rank);
            let parts: Vec<String> = parts.into_iter().map(|(_, part)| part).collect();
            format!("{{{}}}", parts.join(", "))
        }
    })
}
