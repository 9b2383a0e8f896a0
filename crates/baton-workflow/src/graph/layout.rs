//! Where the tasks of one block stand in a picture: layers from top to bottom, as Sugiyama, Tagawa and Toda have it.
//!
//! Ways forward make the layers; one that passes a layer gets a place in it, and so does a label, so nothing lies upon
//! anything else. Ways back run beside the block, in lanes. A crate for this was looked for: those that there are lay out
//! flat graphs, and a workflow is nested blocks.
//!
//! # Invariants
//! - Items of a layer keep their distance; the block is as wide as its widest layer, and lanes.
//! - The order of tasks breaks ties, so that a sequence stays a straight line.

use super::{Edge, Point};

/// Distance between two layers, and between two items of one.
const LAYER_GAP: f64 = 30.0;
const ITEM_GAP: f64 = 26.0;
/// Distance of lanes.
const LANE: f64 = 16.0;
/// Sweeps over the layers, down and up.
const SWEEPS: usize = 8;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Size {
    pub(super) width: f64,
    pub(super) height: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct At {
    pub(super) x: f64,
    pub(super) y: f64,
}

/// Where everything is, from the block's upper left corner.
#[derive(Debug, Default)]
pub(super) struct Layout {
    pub(super) size: Size,
    /// Upper left corners of the tasks.
    pub(super) tasks: Vec<At>,
    /// Middle of the top and of the bottom, where the block is entered and left.
    pub(super) start: At,
    pub(super) exit: At,
    pub(super) routes: Vec<Route>,
}

/// The way of an edge: pairs of points, each from above to below within one layer and curved in between.
#[derive(Debug)]
pub(super) struct Route {
    /// Which edge.
    pub(super) edge: usize,
    pub(super) points: Vec<At>,
    /// Where its label has its middle.
    pub(super) label: Option<At>,
    /// Whether it goes back, at the side: then the points are corners.
    pub(super) is_back: bool,
}

/// What has a place in a layer.
struct Item {
    layer: usize,
    size: Size,
    /// Its middle.
    x: f64,
    top: f64,
    above: Vec<usize>,
    below: Vec<usize>,
}

/// Lays out a block. `label` gives the size of an edge's label.
pub(super) fn lay_out(tasks: &[Size], edges: &[Edge], label: impl Fn(&Edge) -> Option<Size>) -> Layout {
    let mut plan = Plan::new(tasks, edges, label);
    plan.order();
    plan.place();
    plan.finish(tasks, edges)
}

struct Plan {
    items: Vec<Item>,
    layers: Vec<Vec<usize>>,
    /// Of each forward edge: its number, what it passes, and which of these is its label.
    chains: Vec<(usize, Vec<usize>, Option<usize>)>,
    back: Vec<usize>,
}

/// Items 0 and 1 are where the block begins and ends; the tasks follow.
const START: usize = 0;
const EXIT: usize = 1;

fn item_of(point: Point) -> Option<usize> {
    match point {
        Point::Start => Some(START),
        Point::Task(index) => Some(index + 2),
        Point::Exit => Some(EXIT),
        // The end of the workflow is not in the block; the way is said at the task.
        Point::End => None,
    }
}

fn is_back(edge: &Edge) -> bool {
    matches!((edge.from, edge.to), (Point::Task(from), Point::Task(to)) if to <= from)
}

impl Plan {
    fn new(tasks: &[Size], edges: &[Edge], label: impl Fn(&Edge) -> Option<Size>) -> Self {
        let sizes = [Size::default(), Size::default()].into_iter().chain(tasks.iter().copied());
        let items = sizes.map(|size| Item::new(size, 0)).collect();
        let mut plan = Self { items, layers: Vec::new(), chains: Vec::new(), back: Vec::new() };
        let mut forward = Vec::new();
        for (number, edge) in edges.iter().enumerate() {
            let (Some(from), Some(to)) = (item_of(edge.from), item_of(edge.to)) else { continue };
            if is_back(edge) {
                plan.back.push(number);
            } else {
                forward.push((number, from, to, label(edge)));
            }
        }
        plan.rank(&forward, tasks.len());
        for (number, from, to, label) in forward {
            let (first, last) = (plan.items[from].layer, plan.items[to].layer);
            let (mut chain, mut label_at, mut above) = (vec![from], None, from);
            for layer in first + 1..last {
                let is_label = label.is_some() && layer == first + 1;
                let size = if is_label { label.unwrap_or_default() } else { Size::default() };
                plan.items.push(Item::new(size, layer));
                let item = plan.items.len() - 1;
                if is_label {
                    label_at = Some(item);
                }
                plan.link(above, item);
                chain.push(item);
                above = item;
            }
            plan.link(above, to);
            chain.push(to);
            plan.chains.push((number, chain, label_at));
        }
        let count = plan.items.iter().map(|item| item.layer + 1).max().unwrap_or_default();
        plan.layers = vec![Vec::new(); count];
        // Tasks in their order; the exit, which is alone in its layer, last.
        for item in 0..plan.items.len() {
            plan.layers[plan.items[item].layer].push(item);
        }
        plan
    }

    fn link(&mut self, above: usize, below: usize) {
        self.items[above].below.push(below);
        self.items[below].above.push(above);
    }

    /// Each item below all from which a way forward leads to it; a label takes a layer of its own.
    fn rank(&mut self, forward: &[(usize, usize, usize, Option<Size>)], tasks: usize) {
        let order = std::iter::once(START).chain((0..tasks).map(|index| index + 2)).chain([EXIT]);
        for item in order {
            let least = usize::from(item != START);
            let layer = forward
                .iter()
                .filter(|(_, _, to, _)| *to == item)
                .map(|(_, from, _, label)| self.items[*from].layer + 1 + usize::from(label.is_some()))
                .max()
                .unwrap_or(least);
            self.items[item].layer = layer.max(least);
        }
        let last = self.items[2..].iter().map(|item| item.layer + 1).max().unwrap_or(1);
        self.items[EXIT].layer = self.items[EXIT].layer.max(last);
    }

    /// Orders the layers so that few ways cross: each item towards the mean place of those that it is linked to.
    fn order(&mut self) {
        for sweep in 0..SWEEPS {
            let down = sweep % 2 == 0;
            let count = self.layers.len();
            for step in 1..count {
                let layer = if down { step } else { count - 1 - step };
                let other = if down { layer - 1 } else { layer + 1 };
                let mut places = vec![0.0; self.items.len()];
                for (place, item) in self.layers[other].iter().enumerate() {
                    places[*item] = f64::from(u32::try_from(place).unwrap_or(u32::MAX));
                }
                let wish = |item: usize| {
                    let linked = if down { &self.items[item].above } else { &self.items[item].below };
                    mean(linked.iter().map(|other| places[*other]))
                };
                let mut order: Vec<(f64, usize, usize)> = self.layers[layer]
                    .iter()
                    .enumerate()
                    .map(|(place, item)| {
                        let own = f64::from(u32::try_from(place).unwrap_or(u32::MAX));
                        (wish(*item).unwrap_or(own), place, *item)
                    })
                    .collect();
                order.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
                self.layers[layer] = order.into_iter().map(|(_, _, item)| item).collect();
            }
        }
    }

    /// Gives each item its place: as near to what it is linked to as the others of its layer let it.
    fn place(&mut self) {
        for layer in 0..self.layers.len() {
            self.settle(layer, &vec![0.0; self.layers[layer].len()]);
        }
        for sweep in 0..SWEEPS * 2 {
            let down = sweep % 2 == 0;
            for step in 0..self.layers.len() {
                let layer = if down { step } else { self.layers.len() - 1 - step };
                let wishes: Vec<f64> = self.layers[layer]
                    .iter()
                    .map(|item| {
                        let item = &self.items[*item];
                        let linked = if down { &item.above } else { &item.below };
                        mean(linked.iter().map(|other| self.items[*other].x)).unwrap_or(item.x)
                    })
                    .collect();
                self.settle(layer, &wishes);
            }
        }
        let mut top = 0.0;
        for layer in &self.layers {
            let height = layer.iter().map(|item| self.items[*item].size.height).fold(0.0, f64::max);
            for item in layer {
                self.items[*item].top = top;
            }
            top += height + LAYER_GAP;
        }
    }

    /// The least squares of what is wished for, with the distances kept: pools of items that push each other move as one.
    fn settle(&mut self, layer: usize, wishes: &[f64]) {
        let items = &self.layers[layer];
        let mut offsets = Vec::with_capacity(items.len());
        let mut offset = 0.0;
        for (place, item) in items.iter().enumerate() {
            let width = self.items[*item].size.width;
            if let Some(before) = place.checked_sub(1).map(|before| self.items[items[before]].size.width) {
                offset += f64::midpoint(before, width) + ITEM_GAP;
            }
            offsets.push(offset);
        }
        // Pools: sum of wishes, count.
        let mut pools: Vec<(f64, u32)> = Vec::new();
        for (wish, offset) in wishes.iter().zip(&offsets) {
            pools.push((wish - offset, 1));
            while let [.., (sum, count), (next, more)] = pools.as_mut_slice()
                && *sum / f64::from(*count) > *next / f64::from(*more)
            {
                *sum += *next;
                *count += *more;
                pools.pop();
            }
        }
        let places: Vec<f64> =
            pools.iter().flat_map(|(sum, count)| (0..*count).map(move |_| sum / f64::from(*count))).collect();
        for ((item, place), offset) in items.clone().into_iter().zip(places).zip(offsets) {
            self.items[item].x = place + offset;
        }
    }

    fn finish(mut self, tasks: &[Size], edges: &[Edge]) -> Layout {
        let left = self.items.iter().map(|item| item.x - item.size.width / 2.0).fold(f64::INFINITY, f64::min);
        for item in &mut self.items {
            item.x -= left;
        }
        let inner = self.items.iter().map(|item| item.x + item.size.width / 2.0).fold(0.0, f64::max);
        let height = self.items[EXIT].top;
        let mut routes = Vec::new();
        for (edge, chain, label) in &self.chains {
            let mut points = Vec::new();
            for (place, item) in chain.iter().enumerate() {
                let it = &self.items[*item];
                let bottom = self.bottom(it.layer);
                if place > 0 {
                    points.push(At { x: it.x, y: it.top });
                }
                if place + 1 < chain.len() {
                    // A task that is lower than others of its layer is left straight down.
                    points.push(At { x: it.x, y: if place == 0 { it.top + it.size.height } else { bottom } });
                    if place == 0 && bottom > it.top + it.size.height {
                        points.push(At { x: it.x, y: bottom });
                        points.push(At { x: it.x, y: bottom });
                    }
                }
            }
            let label = label
                .map(|item| At { x: self.items[item].x, y: self.items[item].top + self.items[item].size.height / 2.0 });
            routes.push(Route { edge: *edge, points, label, is_back: false });
        }
        let mut lane = inner;
        for (number, edge) in self.back.iter().enumerate() {
            lane += LANE;
            let (Some(from), Some(to)) = (item_of(edges[*edge].from), item_of(edges[*edge].to)) else { continue };
            let (from, to) = (&self.items[from], &self.items[to]);
            // It runs between layers, where nothing stands, and beside the others that go back.
            let aside = LAYER_GAP * (0.3 + 0.12 * f64::from(u8::try_from(number % 4).unwrap_or(0)));
            let (down, up) = (self.bottom(from.layer) + aside, to.top - aside);
            let (out, into) = (from.x + from.size.width / 4.0, to.x + to.size.width / 4.0);
            let points = vec![
                At { x: out, y: from.top + from.size.height },
                At { x: out, y: down },
                At { x: lane, y: down },
                At { x: lane, y: up },
                At { x: into, y: up },
                At { x: into, y: to.top },
            ];
            routes.push(Route { edge: *edge, points, label: None, is_back: true });
        }
        let corner = |index: usize| {
            let item = &self.items[index + 2];
            At { x: item.x - item.size.width / 2.0, y: item.top }
        };
        let width = if self.back.is_empty() { inner } else { lane + LANE / 2.0 };
        Layout {
            size: Size { width, height },
            tasks: (0..tasks.len()).map(corner).collect(),
            start: At { x: self.items[START].x, y: 0.0 },
            exit: At { x: self.items[EXIT].x, y: height },
            routes,
        }
    }

    fn bottom(&self, layer: usize) -> f64 {
        self.layers[layer]
            .iter()
            .map(|item| self.items[*item].top + self.items[*item].size.height)
            .fold(f64::NEG_INFINITY, f64::max)
    }
}

impl Item {
    fn new(size: Size, layer: usize) -> Self {
        Self { layer, size, x: 0.0, top: 0.0, above: Vec::new(), below: Vec::new() }
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0_u32), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}
