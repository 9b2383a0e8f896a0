//! Attempts: how often each place was entered, kept so that no operation gets an id twice.
//!
//! A frame counts the places right below it. When a place is left, the highest attempt that was used anywhere below
//! it is kept in one number; when it is entered again, everything below starts above that. So the count stays as
//! small as the definition, however many iterations there were.

use serde::{Deserialize, Serialize};

/// Counters of the places right below a frame (or below the workflow itself).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Attempts {
    /// Attempts up to this one may have been used below before this frame began.
    floor: u32,
    /// The highest attempt of places that are not counted any more: earlier iterations.
    used: u32,
    places: Vec<Place>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Place {
    block: usize,
    slot: usize,
    /// The last attempt of the place itself.
    last: u32,
    /// The highest attempt that was used below the place.
    below: u32,
}

impl Attempts {
    /// Counters of a frame below which attempts up to `floor` may have been used.
    pub(crate) fn above(floor: u32) -> Self {
        Self { floor, used: 0, places: Vec::new() }
    }

    /// Enters a place: its attempt, and the counters for what is below it.
    pub(crate) fn enter(&mut self, block: usize, slot: usize) -> (u32, Self) {
        let floor = self.floor;
        let index =
            self.places.iter().position(|place| place.block == block && place.slot == slot).unwrap_or_else(|| {
                self.places.push(Place { block, slot, last: floor, below: floor });
                self.places.len() - 1
            });
        let place = &mut self.places[index];
        place.last += 1;
        (place.last, Self::above(place.below))
    }

    /// Leaves a place; `below` is what its frame counted.
    pub(crate) fn leave(&mut self, block: usize, slot: usize, below: &Self) {
        if let Some(place) = self.places.iter_mut().find(|place| place.block == block && place.slot == slot) {
            place.below = place.below.max(below.highest());
        }
    }

    /// The places of an earlier iteration are not entered again: only the highest attempt of them is kept.
    pub(crate) fn next_iteration(&mut self) {
        self.used = self.highest();
        self.places.clear();
    }

    fn highest(&self) -> u32 {
        self.places.iter().map(|place| place.last.max(place.below)).fold(self.used.max(self.floor), u32::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_rise_with_every_entry_and_start_above_what_was_used_below() {
        let mut root = Attempts::default();
        let (first, mut below) = root.enter(0, 0);
        assert_eq!(first, 1);
        assert_eq!([below.enter(1, 0).0, below.enter(1, 0).0, below.enter(1, 1).0], [1, 2, 1]);
        root.leave(0, 0, &below);
        let (second, mut below) = root.enter(0, 0);
        assert_eq!(second, 2);
        assert_eq!([below.enter(1, 0).0, below.enter(1, 1).0], [3, 3]);
    }

    #[test]
    fn iterations_take_no_room_and_are_not_repeated() {
        let mut root = Attempts::default();
        let (_, mut each) = root.enter(0, 0);
        for _ in 0..1000 {
            assert_eq!(each.enter(1, 0).0, 1);
            each.next_iteration();
        }
        assert!(each.places.is_empty());
        root.leave(0, 0, &each);
        assert_eq!(root.enter(0, 0).1.enter(1, 0).0, 2);
    }
}
