//! Finds the small rectangle that events keep coming from: a clock or caption burnt into the picture, a
//! screen, a flag. `camfire analyze` suggests a mask for it.

use crate::wire::messages::Event;
use std::collections::BTreeMap;

/// Objects in the same place from which a mask is suggested.
const MIN_OBJECTS: usize = 3;
/// Largest area of the place as a share of the picture.
const MAX_AREA: f64 = 0.03;
/// Margin of the suggested mask on each side, as a share of the picture.
const MARGIN: f64 = 0.01;

/// Left, top, right and bottom as shares of the picture.
type Place = [f64; 4];

/// Where each object has been.
#[derive(Default)]
pub struct Places(BTreeMap<String, Place>);

impl Places {
    /// Adds where an object is.
    pub fn add(&mut self, event: &Event) {
        let [width, height] = event.size.map(|side| f64::from(side.max(1)));
        for [left, top, box_width, box_height] in [event.r#box, event.best.r#box] {
            let [left, top, right, bottom] =
                [left, top, left + box_width, top + box_height].map(|edge| edge as f64);
            let place = [left / width, top / height, right / width, bottom / height];
            let known = self.0.entry(event.id.clone()).or_insert(place);
            *known = union(known, &place);
        }
    }

    /// The advice to mask the smallest place that many objects never left, if there is one.
    pub fn advice(&self) -> Option<String> {
        let places: Vec<Place> = self.0.values().copied().collect();
        let (count, place) = repeated(&places)?;
        let [left, top] = [place[0], place[1]].map(|edge| (edge - MARGIN).max(0.0));
        let [right, bottom] = [place[2], place[3]].map(|edge| (edge + MARGIN).min(1.0));
        let percent = |share: f64| (100.0 * share).round();
        Some(format!(
            "{count} of {} objects never left one small rectangle, {} to {} % from the left and {} to {} % from \
             the top. If it is a clock or caption burnt into the picture, mask it: \
             masks = [[[{left:.2}, {top:.2}], [{right:.2}, {top:.2}], [{right:.2}, {bottom:.2}], \
             [{left:.2}, {bottom:.2}]]]",
            places.len(),
            percent(left),
            percent(right),
            percent(top),
            percent(bottom),
        ))
    }
}

/// The number of objects in the place that most of them share, and the place.
fn repeated(places: &[Place]) -> Option<(usize, Place)> {
    let gather = |seed: &Place| {
        let (mut count, mut whole) = (0, *seed);
        for place in places.iter().filter(|place| overlaps(seed, place)) {
            let wider = union(&whole, place);
            if area(&wider) <= MAX_AREA {
                (count, whole) = (count + 1, wider);
            }
        }
        (count, whole)
    };
    let seeds = places.iter().filter(|place| area(place) <= MAX_AREA);
    seeds.map(gather).max_by_key(|(count, _)| *count).filter(|(count, _)| *count >= MIN_OBJECTS)
}

fn union(a: &Place, b: &Place) -> Place {
    [a[0].min(b[0]), a[1].min(b[1]), a[2].max(b[2]), a[3].max(b[3])]
}

fn overlaps(a: &Place, b: &Place) -> bool {
    a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3]
}

fn area(place: &Place) -> f64 {
    (place[2] - place[0]) * (place[3] - place[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advice(places: &[Place]) -> Option<String> {
        let named = places.iter().enumerate().map(|(number, place)| (number.to_string(), *place));
        Places(named.collect()).advice()
    }

    #[test]
    fn objects_that_stay_in_one_small_rectangle_are_named_with_the_mask() {
        let clock = [[0.02, 0.02, 0.2, 0.08], [0.12, 0.02, 0.2, 0.07], [0.1, 0.03, 0.2, 0.08]];
        let passing = [[0.0, 0.1, 0.9, 0.5], [0.1, 0.02, 0.9, 0.4]];
        let advice = advice(&[&clock[..], &passing[..]].concat()).unwrap();
        assert!(advice.starts_with("3 of 5 objects"), "{advice}");
        assert!(
            advice.ends_with("masks = [[[0.01, 0.01], [0.21, 0.01], [0.21, 0.09], [0.01, 0.09]]]"),
            "{advice}"
        );
    }

    #[test]
    fn objects_that_pass_or_are_few_give_no_advice() {
        assert_eq!(advice(&[]), None);
        assert_eq!(advice(&[[0.02, 0.02, 0.2, 0.08]; 2]), None);
        assert_eq!(advice(&[[0.1, 0.1, 0.9, 0.4]; 9]), None);
        let apart = [[0.0, 0.0, 0.1, 0.1], [0.3, 0.3, 0.4, 0.4], [0.6, 0.6, 0.7, 0.7]];
        assert_eq!(advice(&apart), None);
    }
}
