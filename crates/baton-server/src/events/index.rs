//! The events that are kept, in memory and in order: what a subscription has missed is found here.
//!
//! # Invariants
//! - Every event with a revision up to [`Index::seen`] is here, unless it is kept no more; nothing beyond is told.
//! - Bodies are kept of the last events only, up to [`BODIES_BYTES_MAX`]; attributes of all, within a limit for each.
//! - Where there are too many events, the namespace that has the most gives up its oldest: nobody can push out the events of
//!   others.

use std::{
    collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque},
    sync::Arc,
};

use baton_engine::PAYLOAD_BYTES_MAX;
use serde_json::{Map, Value};

use super::rows::{KeptEvent, KeptSubscription};

/// Bytes of bodies that are kept in memory.
const BODIES_BYTES_MAX: usize = 16 << 20;
/// Most events in one answer, and bytes of them.
const TOLD_EVENTS_MAX: usize = 100;
const TOLD_BYTES_MAX: usize = PAYLOAD_BYTES_MAX - 16 * 1024;
/// How far the order of times may differ from that of revisions: longest that one commit overtakes another.
const TIMES_DIFFER_MS: i64 = 60_000;

type Line = BTreeMap<u64, Arc<KeptEvent>>;
/// The event itself, shared by all that are told of it.
pub(super) type Body = Arc<Map<String, Value>>;

#[derive(Default)]
struct Namespace {
    all: Line,
    by_type: HashMap<Box<str>, Line>,
    /// Bytes of its events.
    bytes: usize,
}

#[derive(Default)]
pub(super) struct Index {
    namespaces: HashMap<String, Namespace>,
    /// Namespaces of all events.
    order: HashMap<u64, String>,
    /// Bytes of all events.
    bytes: usize,
    /// Up to where events of a namespace were given up before their time.
    given_up: HashMap<String, u64>,
    bodies: HashMap<u64, Body>,
    bodies_order: VecDeque<(u64, usize)>,
    bodies_bytes: usize,
    seen: u64,
}

/// What a subscription is to be told.
#[derive(Debug)]
pub(super) struct Told {
    /// Events in order, with their bodies where those are in memory.
    pub(super) events: Vec<(Arc<KeptEvent>, Option<Body>)>,
    /// Where to go on.
    pub(super) cursor: u64,
    /// Whether events were given up that it may have wanted.
    pub(super) lost: bool,
}

/// What is to be kept at most.
#[derive(Clone, Copy)]
pub(super) struct Room {
    pub(super) events: usize,
    pub(super) bytes: usize,
}

impl Index {
    /// How many events there are.
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// Everything up to this revision is here.
    pub(super) fn see(&mut self, revision: u64) {
        self.seen = self.seen.max(revision);
    }

    pub(super) fn insert(&mut self, event: KeptEvent, body: Map<String, Value>) {
        let revision = event.revision;
        if self.order.insert(revision, event.key.namespace.clone()).is_some() {
            return;
        }
        self.bytes += event.bytes;
        self.remember(revision, event.bytes, Arc::new(body));
        let event = Arc::new(event);
        let namespace = self.namespaces.entry(event.key.namespace.clone()).or_default();
        namespace.bytes += event.bytes;
        if let Some(kind) = &event.kind {
            namespace.by_type.entry(kind.clone()).or_default().insert(revision, Arc::clone(&event));
        }
        namespace.all.insert(revision, event);
    }

    fn remember(&mut self, revision: u64, bytes: usize, body: Body) {
        self.bodies.insert(revision, body);
        self.bodies_order.push_back((revision, bytes));
        self.bodies_bytes += bytes;
        while self.bodies_bytes > BODIES_BYTES_MAX {
            let Some((oldest, bytes)) = self.bodies_order.pop_front() else { return };
            self.bodies.remove(&oldest);
            self.bodies_bytes -= bytes;
        }
    }

    pub(super) fn remove(&mut self, revision: u64) {
        let Some(name) = self.order.remove(&revision) else { return };
        let Some(namespace) = self.namespaces.get_mut(&name) else { return };
        let Some(event) = namespace.all.remove(&revision) else { return };
        namespace.bytes -= event.bytes;
        self.bytes -= event.bytes;
        if let Some(kind) = &event.kind
            && let Some(line) = namespace.by_type.get_mut(kind)
        {
            line.remove(&revision);
            if line.is_empty() {
                namespace.by_type.remove(kind);
            }
        }
        if namespace.all.is_empty() {
            self.namespaces.remove(&name);
        }
    }

    /// Whether there is more than there is room for.
    pub(super) fn is_too_large(&self, room: Room) -> bool {
        self.len() > room.events || self.bytes > room.bytes
    }

    /// Gives up events until there is room for their number, or else for their bytes; at most `count_max`, and the oldest of
    /// whoever has the most. They stay here until they are removed.
    pub(super) fn give_up(&mut self, room: Room, count_max: usize) -> Vec<Arc<KeptEvent>> {
        let (mut events, mut bytes) = (self.len(), self.bytes);
        let by_count = events > room.events;
        let share = |count: usize, bytes: usize| if by_count { count } else { bytes };
        let mut largest: BinaryHeap<(usize, &String, usize, usize)> = self
            .namespaces
            .iter()
            .map(|(name, it)| (share(it.all.len(), it.bytes), name, it.all.len(), it.bytes))
            .collect();
        let mut oldest: HashMap<&String, std::collections::btree_map::Values<'_, u64, Arc<KeptEvent>>> = HashMap::new();
        let mut given_up = Vec::new();
        while (if by_count { events > room.events } else { bytes > room.bytes })
            && given_up.len() < count_max
            && let Some((_, name, own_events, own_bytes)) = largest.pop()
        {
            let next = oldest.entry(name).or_insert_with(|| self.namespaces[name].all.values()).next();
            let Some(event) = next else { continue };
            given_up.push(Arc::clone(event));
            (events, bytes) = (events - 1, bytes - event.bytes);
            let (own_events, own_bytes) = (own_events - 1, own_bytes - event.bytes);
            largest.push((share(own_events, own_bytes), name, own_events, own_bytes));
        }
        for event in &given_up {
            let last = self.given_up.entry(event.key.namespace.clone()).or_default();
            *last = event.revision.max(*last);
        }
        given_up
    }

    /// What a subscription has not been told of, if there is anything.
    pub(super) fn gather(&self, subscription: &KeptSubscription) -> Option<Told> {
        let namespace = self.namespaces.get(&subscription.key.namespace)?;
        let types: Option<BTreeSet<&str>> =
            subscription.filters.iter().map(|filter| filter.get("type").map(String::as_str)).collect();
        let lines: Vec<&Line> = match types {
            Some(types) => types.into_iter().filter_map(|kind| namespace.by_type.get(kind)).collect(),
            None => vec![&namespace.all],
        };
        let mut found: Vec<&Arc<KeptEvent>> = Vec::new();
        let mut complete = true;
        for line in lines {
            let first = self.first(line, subscription);
            if first > self.seen {
                continue;
            }
            let fitting = line.range(first..=self.seen).map(|(_, event)| event).filter(|it| fits(it, subscription));
            let before = found.len();
            found.extend(fitting.take(TOLD_EVENTS_MAX));
            complete &= found.len() - before < TOLD_EVENTS_MAX;
        }
        found.sort_by_key(|event| event.revision);
        let (mut bytes, mut count) = (0, 0);
        for event in &found {
            bytes += event.bytes;
            if count == TOLD_EVENTS_MAX || (count > 0 && bytes > TOLD_BYTES_MAX) {
                complete = false;
                break;
            }
            count += 1;
        }
        found.truncate(count);
        let last = found.last()?.revision;
        let events = found.into_iter().map(|it| (Arc::clone(it), self.bodies.get(&it.revision).cloned())).collect();
        let given_up = self.given_up.get(&subscription.key.namespace);
        let lost = subscription.after.zip(given_up).is_some_and(|(after, given_up)| after < *given_up);
        Some(Told { events, cursor: if complete { self.seen.max(last) } else { last }, lost })
    }

    /// The first revision of a line that a subscription may want.
    fn first(&self, line: &Line, subscription: &KeptSubscription) -> u64 {
        let after = match (subscription.after, subscription.since_ms) {
            (Some(after), _) => after,
            (None, Some(_)) => 0,
            (None, None) => subscription.revision,
        };
        let Some(since_ms) = subscription.since_ms else { return after + 1 };
        let recent = line
            .range(after + 1..)
            .rev()
            .take_while(|(_, event)| event.accepted_ms.saturating_add(TIMES_DIFFER_MS) >= since_ms);
        recent.last().map_or(self.seen + 1, |(revision, _)| *revision)
    }
}

/// Whether an event is one that a subscription is to be told of, its cursor aside.
fn fits(event: &KeptEvent, subscription: &KeptSubscription) -> bool {
    // What came after the subscription is told whatever the clocks of the two sides say.
    let in_time =
        subscription.since_ms.is_none_or(|since| event.accepted_ms >= since) || event.revision > subscription.revision;
    let has = |(name, value): (&String, &String)| event.may_have(name, value);
    in_time && subscription.filters.iter().any(|filter| filter.iter().all(has))
}

#[cfg(test)]
mod tests {
    use baton_store::ResourceKey;
    use serde_json::json;

    use super::*;

    fn event(revision: u64, kind: &str, accepted_ms: i64, bytes: usize) -> KeptEvent {
        let attributes = BTreeMap::from([("source".into(), "/s".into())]);
        let key = ResourceKey::new("e", "default", revision.to_string());
        let kind = Some(kind.into());
        KeptEvent {
            key,
            uid: [0; 16],
            number: 1,
            revision,
            accepted_ms,
            emitted: false,
            bytes,
            kind,
            attributes,
            is_whole: true,
        }
    }

    fn of(namespace: &str, event: KeptEvent) -> KeptEvent {
        KeptEvent { key: ResourceKey::new("e", namespace, event.key.name.clone()), ..event }
    }

    fn subscription(filters: &[&[(&str, &str)]], after: Option<u64>, since_ms: Option<i64>) -> KeptSubscription {
        let filters = filters
            .iter()
            .map(|filter| filter.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
            .collect();
        let key = ResourceKey::new("s", "default", "s");
        let token = Arc::from(b"t".as_slice());
        KeptSubscription {
            key,
            uid: [0; 16],
            number: 1,
            revision: 50,
            token,
            filters,
            after,
            since_ms,
            expires_ms: 0,
            execution: None,
        }
    }

    fn index(events: impl IntoIterator<Item = KeptEvent>, seen: u64) -> Index {
        let mut index = Index::default();
        for event in events {
            index.insert(event, Map::new());
        }
        index.see(seen);
        index
    }

    fn told(index: &Index, subscription: &KeptSubscription) -> (Vec<u64>, u64) {
        let told = index.gather(subscription);
        told.map_or((Vec::new(), 0), |told| {
            (told.events.iter().map(|(event, _)| event.revision).collect(), told.cursor)
        })
    }

    #[test]
    fn what_fits_is_told_in_order_and_nothing_beyond_what_was_seen() {
        let index = index([event(60, "a", 0, 9), event(61, "b", 0, 9), event(62, "a", 0, 9), event(64, "a", 0, 9)], 63);
        let a: &[(&str, &str)] = &[("type", "a")];
        assert_eq!(told(&index, &subscription(&[a], None, None)), (vec![60, 62], 63));
        assert_eq!(told(&index, &subscription(&[a, &[("type", "b")]], Some(60), None)), (vec![61, 62], 63));
        assert_eq!(told(&index, &subscription(&[&[]], Some(61), None)), (vec![62], 63));
        assert_eq!(told(&index, &subscription(&[&[("type", "a"), ("source", "/other")]], None, None)).0, [0; 0]);
        assert_eq!(told(&index, &subscription(&[a], Some(62), None)).0, [0; 0]);
    }

    #[test]
    fn the_beginning_is_a_time_for_what_was_there_before_the_subscription_only() {
        let events = [event(40, "a", 100, 9), event(45, "a", 200, 9), event(55, "a", 150, 9)];
        let index = index(events, 60);
        let since = |after, since_ms| told(&index, &subscription(&[&[("type", "a")]], after, since_ms)).0;
        assert_eq!(since(None, Some(200)), [45, 55]);
        assert_eq!(since(None, Some(300)), [55], "whatever its clock says");
        assert_eq!(since(Some(45), Some(200)), [55]);
        assert_eq!(since(None, None), [55]);
        assert_eq!(since(Some(1), None), [40, 45, 55]);
    }

    #[test]
    fn an_answer_has_limits_and_says_where_to_go_on() {
        let many = index((60..360).map(|revision| event(revision, "a", 0, 9)), 400);
        let (first, cursor) = told(&many, &subscription(&[&[("type", "a")]], None, None));
        assert_eq!((first.len(), cursor), (100, 159));
        let (rest, cursor) = told(&many, &subscription(&[&[("type", "a")]], Some(300), None));
        assert_eq!((rest.len(), cursor), (59, 400));
        let large = index((60..70).map(|revision| event(revision, "a", 0, 200_000)), 400);
        assert_eq!(told(&large, &subscription(&[&[]], None, None)), (vec![60], 60));
    }

    #[test]
    fn what_is_removed_is_gone() {
        let mut index = index((60..70).map(|revision| event(revision, "a", 0, 9)), 100);
        for revision in 60..69 {
            index.remove(revision);
        }
        assert_eq!(told(&index, &subscription(&[&[("type", "a")]], None, None)).0, [69]);
        index.remove(69);
        assert_eq!((index.len(), told(&index, &subscription(&[&[]], None, None)).0.len()), (0, 0));
        assert!(index.namespaces.is_empty());
    }

    #[test]
    fn whoever_has_the_most_gives_up_their_oldest() {
        let a = (60..70).map(|revision| event(revision, "a", 0, 10));
        let b = [of("b", event(1, "a", 0, 10)), of("b", event(2, "a", 0, 40))];
        let mut index = index(a.chain(b), 100);
        let revisions = |events: &[Arc<KeptEvent>]| events.iter().map(|it| it.revision).collect::<Vec<_>>();
        let room = |events, bytes| Room { events, bytes };
        assert!(
            !index.is_too_large(room(12, 150))
                && index.is_too_large(room(11, 150))
                && index.is_too_large(room(12, 149))
        );
        assert_eq!(revisions(&index.give_up(room(8, 150), 256)), [60, 61, 62, 63]);
        assert_eq!(revisions(&index.give_up(room(8, 150), 3)), [60, 61, 62]);
        assert_eq!(revisions(&index.give_up(room(12, 120), 256)), [60, 61, 62], "by bytes");
        let listens = |after| index.gather(&subscription(&[&[]], Some(after), None)).unwrap().lost;
        assert!(listens(61) && !listens(63), "who had not come so far may have lost some");
    }

    #[test]
    fn an_attribute_that_there_is_no_room_for_may_be_any() {
        let body = json!({"format": 1, "accepted_ms": 0, "event": {"type": "t".repeat(3000), "source": "/s", "long": "x".repeat(1000), "a": "1"}});
        let body = body.to_string();
        let key = ResourceKey::new("e", "default", "1");
        let row = super::super::rows::Row { key: &key, uid: [0; 16], number: 1, revision: 1, body: body.as_bytes() };
        let (kept, _) = super::super::rows::read_event(&row).unwrap();
        assert_eq!(kept.attributes.keys().map(|name| &**name).collect::<Vec<_>>(), ["a", "source"]);
        assert!(kept.may_have("source", "/s") && !kept.may_have("source", "/t") && kept.may_have("long", "y"));
        assert!(kept.may_have("type", &"t".repeat(3000)) && !kept.may_have("type", "t"));
    }
}
