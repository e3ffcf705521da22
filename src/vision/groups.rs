//! Label groups: sets of the network's classes under one common name, like "cat" for five breeds. The score
//! of a group is the sum of the scores of its classes.

use super::labels::Labels;
use crate::config::{UNKNOWN, nearest};
use serde::Deserialize;
use std::collections::BTreeMap;

/// The groups of the built-in network's classes.
const BUILT_IN: &str = include_str!("../../models/groups.toml");

/// Groups of one network's classes, by name.
#[derive(Debug, Clone, PartialEq)]
pub struct Groups {
    names: Vec<String>,
    /// The group of each class.
    group_of: Vec<Option<usize>>,
}

/// The file of the built-in groups. It lists classes by index and name, so that a test finds wrong ones.
#[derive(Deserialize)]
struct File {
    groups: BTreeMap<String, Vec<(usize, String)>>,
}

impl Groups {
    /// Creates the groups of a network with these class labels: the built-in groups, and the user's `custom`
    /// groups over them. A member of a custom group is a class, or a built-in group for all its classes.
    /// These classes then belong to the custom group only. If the network has other classes than the built-in
    /// one, each class is a group of its own instead of the built-in groups.
    ///
    /// Errors: for each unknown or repeated member, the key below `groups` and the broken rule.
    pub fn new(
        labels: &Labels,
        custom: &BTreeMap<String, Vec<String>>,
    ) -> Result<Groups, Vec<(String, String)>> {
        let (groups, problems) = Groups::new_lenient(labels, custom);
        if problems.is_empty() { Ok(groups) } else { Err(problems) }
    }

    /// Like [`Groups::new`], but returns the groups even if there are errors. The names of the groups are
    /// valid in any case.
    pub fn new_lenient(
        labels: &Labels,
        custom: &BTreeMap<String, Vec<String>>,
    ) -> (Groups, Vec<(String, String)>) {
        let mut groups = Groups { names: Vec::new(), group_of: vec![None; labels.len()] };
        let file: File = toml::from_str(BUILT_IN).expect("a test parses it");
        let has_class = |(class, name): &(usize, String)| *class < labels.len() && labels.get(*class) == name;
        if file.groups.values().flatten().all(has_class) {
            for (name, classes) in file.groups {
                groups.add(name, classes.into_iter().map(|(class, _)| class));
            }
        } else {
            for class in 0..labels.len() {
                groups.add(labels.get(class).to_string(), std::iter::once(class));
            }
        }
        let built_in = groups.clone();
        let mut problems = Vec::new();
        for (name, members) in custom {
            let mut classes = Vec::new();
            for member in members {
                let found = built_in.classes_of(member, labels);
                if found.is_empty() {
                    let known: Vec<&str> =
                        (0..labels.len()).map(|class| labels.get(class)).chain(built_in.names()).collect();
                    problems.push((
                        name.clone(),
                        format!("has {member:?}, which is no class{}", hint(member, &known)),
                    ));
                }
                classes.extend(found);
            }
            for class in &classes {
                if let Some(earlier) = groups.group_of[*class].map(|group| &groups.names[group])
                    && earlier != name
                    && custom.contains_key(earlier)
                {
                    problems.push((
                        name.clone(),
                        format!("has {:?}, which is in {earlier} already", labels.get(*class)),
                    ));
                }
            }
            groups.add(name.clone(), classes.into_iter());
        }
        (groups, problems)
    }

    /// Assigns classes to a group. Classes that were assigned to it before are removed.
    fn add(&mut self, name: String, classes: impl Iterator<Item = usize>) {
        let group = self.names.iter().position(|known| *known == name).unwrap_or_else(|| {
            self.names.push(name);
            self.names.len() - 1
        });
        self.group_of
            .iter_mut()
            .filter(|of_class| **of_class == Some(group))
            .for_each(|of_class| *of_class = None);
        classes.for_each(|class| self.group_of[class] = Some(group));
    }

    /// The classes of the group of this name, or the classes of this name.
    fn classes_of(&self, name: &str, labels: &Labels) -> Vec<usize> {
        let group = self.names.iter().position(|known| known == name);
        let is_in_group = |class: &usize| group.is_some() && self.group_of[*class] == group;
        let of_group: Vec<usize> = (0..labels.len()).filter(is_in_group).collect();
        if !of_group.is_empty() {
            return of_group;
        }
        (0..labels.len()).filter(|&class| labels.get(class) == name).collect()
    }

    /// The names of all groups.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The name of a group.
    pub fn name(&self, group: usize) -> &str {
        &self.names[group]
    }

    /// The name of a group, or [`UNKNOWN`].
    pub fn name_or_unknown(&self, group: Option<usize>) -> &str {
        group.map_or(UNKNOWN, |group| self.name(group))
    }

    /// The group of this name. None if there is no such group.
    #[cfg(test)]
    pub fn find(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| known == name)
    }

    /// Returns the scores of the groups, given the scores of the classes. Each is 0 to 1.
    pub fn scores(&self, classes: &[f32]) -> Vec<f32> {
        let mut scores = vec![0.0; self.names.len()];
        for (score, group) in classes.iter().zip(&self.group_of) {
            if let Some(group) = group {
                scores[*group] += score;
            }
        }
        scores
    }

    /// Validates a list of labels: each must be a group or [`UNKNOWN`]. Returns an error text for each that
    /// is not.
    pub fn validate_labels(&self, labels: &[String]) -> Vec<String> {
        let known: Vec<&str> = self.names().chain([UNKNOWN]).collect();
        let is_unknown = |label: &&String| !known.contains(&label.as_str());
        labels
            .iter()
            .filter(is_unknown)
            .map(|label| format!("has {label:?}, which is no label{}", hint(label, &known)))
            .collect()
    }
}

fn hint(typed: &str, known: &[&str]) -> String {
    match nearest(typed, known) {
        Some(near) => format!("; did you mean {near:?}?"),
        None => "; models/groups.toml and models/labels.txt list them".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABELS: &[u8] = include_bytes!("../../models/labels.txt");

    fn labels() -> Labels {
        Labels::parse(LABELS, "labels.txt", 1000).unwrap()
    }

    fn custom(name: &str, members: &[&str]) -> BTreeMap<String, Vec<String>> {
        BTreeMap::from([(name.to_string(), members.iter().map(|member| member.to_string()).collect())])
    }

    #[test]
    fn built_in_groups_name_existing_classes_and_each_once() {
        let file: File = toml::from_str(BUILT_IN).unwrap();
        let labels = labels();
        let mut grouped = std::collections::BTreeSet::new();
        for (group, classes) in &file.groups {
            assert!(!classes.is_empty(), "{group}");
            for (class, name) in classes {
                assert_eq!(labels.get(*class), name, "{group} {class}");
                assert!(grouped.insert(*class), "{name} is in two groups, one is {group}");
            }
        }
        for name in
            ["cat", "dog", "bird", "car", "truck", "bus", "motorcycle", "bicycle", "boat", "bottle", "cup"]
        {
            assert!(file.groups.contains_key(name), "{name}");
        }
    }

    #[test]
    fn a_groups_score_is_the_sum_of_its_classes() {
        let groups = Groups::new(&labels(), &BTreeMap::new()).unwrap();
        let mut classes = vec![0.0; 1000];
        (classes[281], classes[285], classes[283]) = (0.25, 0.5, 0.125);
        let cat = groups.find("cat").unwrap();
        assert_eq!(groups.scores(&classes)[cat], 0.875);
    }

    #[test]
    fn a_custom_group_takes_its_classes_from_the_built_in_ones() {
        let groups = Groups::new(&labels(), &custom("tom", &["tabby", "tiger cat"])).unwrap();
        let mut classes = vec![0.0; 1000];
        (classes[281], classes[285]) = (0.25, 0.5);
        let scores = groups.scores(&classes);
        assert_eq!(scores[groups.find("tom").unwrap()], 0.25);
        assert_eq!(scores[groups.find("cat").unwrap()], 0.5);
        let groups = Groups::new(&labels(), &custom("pet", &["cat", "beagle"])).unwrap();
        assert_eq!(groups.scores(&classes)[groups.find("pet").unwrap()], 0.75);
        assert_eq!(groups.scores(&classes)[groups.find("cat").unwrap()], 0.0);
    }

    #[test]
    fn unknown_names_are_errors_with_a_suggestion() {
        let errors = |custom| Groups::new(&labels(), &custom).unwrap_err();
        assert_eq!(
            errors(custom("pet", &["tabbi"])),
            [("pet".to_string(), "has \"tabbi\", which is no class; did you mean \"tabby\"?".to_string())]
        );
        let mut both = custom("a", &["tabby"]);
        both.extend(custom("b", &["tabby"]));
        assert_eq!(errors(both), [("b".to_string(), "has \"tabby\", which is in a already".to_string())]);
        let groups = Groups::new(&labels(), &BTreeMap::new()).unwrap();
        assert_eq!(groups.validate_labels(&["cat".into(), "unknown".into()]), [""; 0]);
        assert_eq!(
            groups.validate_labels(&["motorcylce".into()]),
            ["has \"motorcylce\", which is no label; did you mean \"motorcycle\"?"]
        );
    }

    #[test]
    fn each_class_of_another_network_is_a_group_of_its_own() {
        let labels = Labels::parse(b"open\nclosed\n", "l", 2).unwrap();
        let groups = Groups::new(&labels, &BTreeMap::new()).unwrap();
        assert_eq!(groups.names().collect::<Vec<_>>(), ["open", "closed"]);
        assert_eq!(groups.scores(&[0.25, 0.75]), [0.25, 0.75]);
    }
}
