//! A graph as a picture.

use std::fmt::Write as _;

use super::{
    Block, Edge, Graph, Point, Reason, Role, Task,
    layout::{At, Layout, Route, Size, lay_out},
};

const MARGIN: f64 = 24.0;
/// Of a task: between its frame and its words.
const PADDING: f64 = 12.0;
/// Between the frame of a task and the blocks in it.
const INSET: f64 = 16.0;
const BLOCK_GAP: f64 = 36.0;
/// Baseline to baseline.
const LINE: f64 = 16.0;
const NAME_SIZE: f64 = 13.0;
const TEXT_SIZE: f64 = 11.0;
const TASK_WIDTH_MIN: f64 = 120.0;
const DOT: f64 = 7.0;

const STYLE: &str = "text{font-family:system-ui,'DejaVu Sans',sans-serif;font-size:11px;fill:#4a5464}\
.name{font-size:13px;font-weight:600;fill:#1b2430}.if{font-style:italic;fill:#7a5c12}\
.task>rect{fill:#fff;stroke:#aeb8c6}.frame>rect{fill:#f7f9fb;stroke:#c6ced9}\
.part{fill:none;stroke:#c6ced9;stroke-dasharray:4 3}.catch{stroke:#d58a80}\
.way{fill:none;stroke:#64707f;stroke-width:1.2}.then,.case{stroke:#2f6fb2}.fault{stroke:#c8453a;stroke-dasharray:4 3}\
.task>rect.plate,.plate{fill:#fff;fill-opacity:.92;stroke:none}.said{fill:#2f6fb2}.dot{fill:#64707f}";

pub(super) fn draw(graph: &Graph) -> String {
    let root = Drawn::block(&graph.root);
    let title = graph.title.as_deref().unwrap_or(&graph.name);
    let head = match &graph.title {
        Some(title) => format!("{title} · {} {}", graph.name, graph.version),
        None => format!("{} {}", graph.name, graph.version),
    };
    let top = MARGIN + LINE + 2.0 * DOT + 18.0;
    let said = graph.schedule.as_deref().map_or(0.0, |schedule| text_width(schedule, TEXT_SIZE) + 2.0 * DOT);
    let wide = root.layout.size.width.max(text_width(&head, NAME_SIZE)).max(2.0 * said);
    let width = wide + 2.0 * MARGIN;
    let left = (width - root.layout.size.width) / 2.0;
    let height = top + root.layout.size.height + 2.0 * DOT + MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\">\n\
         <title>{}</title>\n<style>{STYLE}</style>\n<defs>{}</defs>\n",
        escaped(title),
        ["", "blue", "red"].map(arrow_head).concat(),
    );
    let mut pen = Pen { svg: &mut svg };
    pen.text(At { x: MARGIN, y: MARGIN + 4.0 }, &head, "name");
    let (start, exit) = (root.layout.start, root.layout.exit);
    pen.dot(At { x: left + start.x, y: top - DOT }, false);
    if let Some(schedule) = &graph.schedule {
        pen.text(At { x: left + start.x + 2.0 * DOT, y: top - DOT + 4.0 }, schedule, "");
    }
    pen.dot(At { x: left + exit.x, y: top + exit.y + DOT }, true);
    pen.block(&root, At { x: left, y: top });
    svg.push_str("</svg>\n");
    svg
}

fn arrow_head(name: &str) -> String {
    let colour = match name {
        "blue" => "#2f6fb2",
        "red" => "#c8453a",
        _ => "#64707f",
    };
    format!(
        "<marker id=\"arrow{name}\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" fill=\"{colour}\"/></marker>"
    )
}

/// A block with the places of its tasks.
struct Drawn<'g> {
    block: &'g Block,
    tasks: Vec<DrawnTask<'g>>,
    layout: Layout,
}

struct DrawnTask<'g> {
    task: &'g Task,
    size: Size,
    lines: Vec<(String, &'static str)>,
    /// Blocks side by side, with the size of the frame of each.
    blocks: Vec<(Drawn<'g>, Size)>,
}

impl<'g> Drawn<'g> {
    fn block(block: &'g Block) -> Self {
        let tasks: Vec<DrawnTask<'g>> = block
            .tasks
            .iter()
            .enumerate()
            .map(|(index, task)| {
                let ends = block.edges.iter().filter(|edge| edge.from == Point::Task(index) && edge.to == Point::End);
                DrawnTask::new(task, ends)
            })
            .collect();
        let sizes: Vec<Size> = tasks.iter().map(|task| task.size).collect();
        let layout = lay_out(&sizes, &block.edges, |edge| {
            let label = edge.label.as_deref()?;
            Some(Size { width: text_width(label, TEXT_SIZE) + 8.0, height: LINE })
        });
        Self { block, tasks, layout }
    }

    /// The words above a part of a `try`.
    fn title(&self) -> Option<String> {
        let label = self.block.label.as_deref();
        match self.block.role {
            Role::Try => Some("try".to_owned()),
            Role::Catch => Some(format!("catch {}", label.unwrap_or_default())),
            Role::Sequence | Role::Loop | Role::Branches => None,
        }
    }
}

impl<'g> DrawnTask<'g> {
    fn new(task: &'g Task, ends: impl Iterator<Item = &'g Edge>) -> Self {
        let mut lines = vec![(task.name.clone(), "name")];
        lines.push(match &task.detail {
            Some(detail) => (format!("{} · {detail}", task.kind), ""),
            None => (task.kind.clone(), ""),
        });
        if task.awaits_callback {
            lines.push(("awaits a callback".to_owned(), "said"));
        }
        lines.extend(task.condition.iter().map(|condition| (format!("if {condition}"), "if")));
        lines.extend(ends.map(|edge| match &edge.label {
            Some(label) => (format!("{label} → end"), "said"),
            None => ("→ end".to_owned(), "said"),
        }));
        let words = lines.iter().map(|(line, class)| text_width(line, size_of(class))).fold(0.0, f64::max);
        let blocks: Vec<(Drawn<'g>, Size)> = task
            .blocks
            .iter()
            .map(|block| {
                let drawn = Drawn::block(block);
                let title = drawn.title().map_or(0.0, |title| text_width(&title, TEXT_SIZE));
                let (frame, head) = if drawn.title().is_some() { (INSET, LINE) } else { (0.0, 0.0) };
                let size = Size {
                    width: drawn.layout.size.width.max(title) + 2.0 * frame,
                    height: drawn.layout.size.height + head + frame,
                };
                (drawn, size)
            })
            .collect();
        let inner_width = blocks.iter().map(|(_, size)| size.width).sum::<f64>()
            + BLOCK_GAP * f64::from(u32::try_from(blocks.len().saturating_sub(1)).unwrap_or(0));
        let inner_height = blocks.iter().map(|(_, size)| size.height).fold(0.0, f64::max);
        let words_height = LINE * f64::from(u32::try_from(lines.len()).unwrap_or(u32::MAX)) + PADDING;
        let size = if blocks.is_empty() {
            Size { width: (words + 2.0 * PADDING).max(TASK_WIDTH_MIN), height: words_height }
        } else {
            Size {
                width: (words + 2.0 * PADDING).max(inner_width + 2.0 * INSET),
                height: words_height + inner_height + INSET,
            }
        };
        Self { task, size, lines, blocks }
    }

    fn words_height(&self) -> f64 {
        LINE * f64::from(u32::try_from(self.lines.len()).unwrap_or(u32::MAX)) + PADDING
    }
}

fn size_of(class: &str) -> f64 {
    if class == "name" { NAME_SIZE } else { TEXT_SIZE }
}

struct Pen<'s> {
    svg: &'s mut String,
}

impl Pen<'_> {
    fn write(&mut self, text: &str) {
        self.svg.push_str(text);
        self.svg.push('\n');
    }

    fn text(&mut self, at: At, text: &str, class: &str) {
        let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
        self.write(&format!("<text x=\"{:.1}\" y=\"{:.1}\"{class}>{}</text>", at.x, at.y, escaped(text)));
    }

    fn dot(&mut self, at: At, is_end: bool) {
        if is_end {
            self.write(&format!(
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"{DOT}\" fill=\"none\" stroke=\"#64707f\"/>",
                at.x, at.y
            ));
        }
        let radius = if is_end { DOT - 3.0 } else { DOT };
        self.write(&format!("<circle class=\"dot\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"{radius}\"/>", at.x, at.y));
    }

    fn block(&mut self, drawn: &Drawn<'_>, at: At) {
        for (task, corner) in drawn.tasks.iter().zip(&drawn.layout.tasks) {
            self.task(task, At { x: at.x + corner.x, y: at.y + corner.y });
        }
        for route in &drawn.layout.routes {
            let edge = &drawn.block.edges[route.edge];
            self.route(route, edge, at);
        }
    }

    fn task(&mut self, drawn: &DrawnTask<'_>, at: At) {
        let DrawnTask { task, size, lines, blocks } = drawn;
        let class = if blocks.is_empty() { "task" } else { "task frame" };
        self.write(&format!("<g class=\"{class}\" data-pointer=\"{}\">", escaped(&task.pointer)));
        let (width, height) = (size.width, size.height);
        self.write(&format!(
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"6\"/>",
            at.x, at.y
        ));
        // Its kind, as a colour at the left.
        self.write(&format!(
            "<path d=\"M{:.1} {:.1}v{:.1}\" stroke=\"{}\" stroke-width=\"4\" stroke-linecap=\"round\"/>",
            at.x + 1.0,
            at.y + 6.0,
            drawn.words_height() - 12.0,
            colour(&task.kind)
        ));
        for (number, (line, class)) in lines.iter().enumerate() {
            let down = LINE * f64::from(u32::try_from(number).unwrap_or(u32::MAX));
            self.text(At { x: at.x + PADDING, y: at.y + PADDING / 2.0 + 12.0 + down }, line, class);
        }
        let mut x = at.x + INSET;
        let inner: f64 = size.width - 2.0 * INSET;
        let used = blocks.iter().map(|(_, size)| size.width).sum::<f64>()
            + BLOCK_GAP * f64::from(u32::try_from(blocks.len().saturating_sub(1)).unwrap_or(0));
        x += ((inner - used) / 2.0).max(0.0);
        let y = at.y + drawn.words_height();
        let height = blocks.iter().map(|(_, size)| size.height).fold(0.0, f64::max);
        for (number, (block, size)) in blocks.iter().enumerate() {
            self.part(block, *size, At { x, y }, height);
            x += size.width;
            if number + 1 < blocks.len() {
                let middle = y + LINE + 8.0;
                self.write(&format!(
                    "<path class=\"way fault\" marker-end=\"url(#arrowred)\" d=\"M{x:.1} {middle:.1}h{:.1}\"/>",
                    BLOCK_GAP - 1.0
                ));
            }
            x += BLOCK_GAP;
        }
        self.write("</g>");
    }

    /// A block of a task; the parts of a `try` have frames with their words.
    fn part(&mut self, drawn: &Drawn<'_>, size: Size, at: At, height: f64) {
        let Some(title) = drawn.title() else { return self.block(drawn, at) };
        let class = if drawn.block.role == Role::Catch { "part catch" } else { "part" };
        self.write(&format!(
            "<rect class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\" rx=\"4\"/>",
            at.x, at.y, size.width
        ));
        self.text(At { x: at.x + 8.0, y: at.y + 13.0 }, &title, "");
        let left = (size.width - drawn.layout.size.width) / 2.0;
        self.block(drawn, At { x: at.x + left, y: at.y + LINE });
    }

    fn route(&mut self, route: &Route, edge: &Edge, at: At) {
        let points: Vec<At> = route.points.iter().map(|point| At { x: at.x + point.x, y: at.y + point.y }).collect();
        let path = if route.is_back { angular(&points) } else { curved(&points) };
        let (class, head) = match edge.reason {
            Reason::Next => ("way", ""),
            Reason::Then => ("way then", "blue"),
            Reason::Case => ("way case", "blue"),
        };
        self.write(&format!("<path class=\"{class}\" marker-end=\"url(#arrow{head})\" d=\"{path}\"/>"));
        let label = edge.label.as_deref();
        if let (Some(label), Some(place)) = (label, route.label) {
            let (x, y) = (at.x + place.x, at.y + place.y);
            let width = text_width(label, TEXT_SIZE) + 4.0;
            self.write(&format!(
                "<rect class=\"plate\" x=\"{:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"14\"/>",
                x - width / 2.0,
                y - 7.0
            ));
            self.write(&format!(
                "<text class=\"said\" text-anchor=\"middle\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
                y + 4.0,
                escaped(label)
            ));
        } else if let (Some(label), [_, corner, ..]) = (label, points.as_slice()) {
            self.write(&format!(
                "<text class=\"said\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                corner.x + 6.0,
                corner.y - 3.0,
                escaped(label)
            ));
        }
    }
}

/// Straight within a layer, curved from one to the next.
fn curved(points: &[At]) -> String {
    let mut path = String::new();
    for (number, pair) in points.chunks(2).enumerate() {
        let [from, to] = pair else { continue };
        if number == 0 {
            let _ = write!(path, "M{:.1} {:.1}", from.x, from.y);
        } else {
            let _ = write!(path, "L{:.1} {:.1}", from.x, from.y);
        }
        let middle = f64::midpoint(from.y, to.y);
        let (fx, tx, ty) = (from.x, to.x, to.y);
        let _ = if (fx - tx).abs() < 0.5 {
            write!(path, "L{tx:.1} {ty:.1}")
        } else {
            write!(path, "C{fx:.1} {middle:.1} {tx:.1} {middle:.1} {tx:.1} {ty:.1}")
        };
    }
    path
}

fn angular(points: &[At]) -> String {
    let words = points.iter().enumerate().map(|(number, point)| {
        let letter = if number == 0 { 'M' } else { 'L' };
        format!("{letter}{:.1} {:.1}", point.x, point.y)
    });
    words.collect()
}

fn colour(kind: &str) -> &'static str {
    match kind.split(' ').next().unwrap_or_default() {
        "call" if kind == "call baton.dev/agent" => "#7c4dcc",
        "call" => "#2f7cc4",
        "run" => "#1f8f8a",
        "wait" | "listen" | "emit" => "#d39a1c",
        "raise" => "#c8453a",
        "try" | "for" | "fork" | "do" => "#8793a3",
        _ => "#5f9e4a",
    }
}

/// About as wide as the text is in a sans-serif face; rather more than less.
fn text_width(text: &str, size: f64) -> f64 {
    let widths = text.chars().map(|c| match c {
        'i' | 'j' | 'l' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' => 0.34,
        'f' | 't' | 'r' | '(' | ')' | '[' | ']' | ' ' | '/' | '-' => 0.42,
        'm' | 'w' | 'M' | 'W' | '@' | '%' => 0.98,
        c if c.is_ascii_uppercase() || c == '$' || c == '_' => 0.7,
        c if c.is_ascii() => 0.62,
        _ => 1.0,
    });
    widths.sum::<f64>() * size
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            // XML has no place for other control characters at all.
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}
