//! Names that people use, for sets of the network's classes: "cat" for five breeds of it. A group's score is the sum of
//! its classes' scores. Pure.

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
    /// Of each class, its group.
    of_class: Vec<Option<usize>>,
}

/// A file of groups: of each, its classes with their numbers, so that a slip in a name is found.
#[derive(Deserialize)]
struct File {
    groups: BTreeMap<String, Vec<(usize, String)>>,
}

impl Groups {
    /// The built-in groups, as far as the network has their classes, with the user's `own` groups over them: names of
    /// classes, or of built-in groups for all of theirs. A class belongs to the user's group then, and to no other. A
    /// network with other classes has the user's groups, and each further class is a group by itself.
    ///
    /// Errors: key below `groups` and rule, for each that names what there is not.
    pub fn new(
        labels: &Labels,
        own: &BTreeMap<String, Vec<String>>,
    ) -> Result<Groups, Vec<(String, String)>> {
        let (groups, problems) = Groups::gather(labels, own);
        if problems.is_empty() { Ok(groups) } else { Err(problems) }
    }

    /// The same, with the problems beside the groups: their names, at least, are right.
    pub fn gather(labels: &Labels, own: &BTreeMap<String, Vec<String>>) -> (Groups, Vec<(String, String)>) {
        let mut groups = Groups { names: Vec::new(), of_class: vec![None; labels.len()] };
        let file: File = toml::from_str(BUILT_IN).expect("a test reads it");
        let fits = |(class, name): &(usize, String)| *class < labels.len() && labels.get(*class) == name;
        if file.groups.values().flatten().all(fits) {
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
        for (name, members) in own {
            let mut classes = Vec::new();
            for member in members {
                let found = built_in.classes_named(member, labels);
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
                if let Some(earlier) = groups.of_class[*class].map(|group| &groups.names[group])
                    && earlier != name
                    && own.contains_key(earlier)
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

    fn add(&mut self, name: String, classes: impl Iterator<Item = usize>) {
        let group = self.names.iter().position(|known| *known == name).unwrap_or_else(|| {
            self.names.push(name);
            self.names.len() - 1
        });
        self.of_class.iter_mut().filter(|of| **of == Some(group)).for_each(|of| *of = None);
        classes.for_each(|class| self.of_class[class] = Some(group));
    }

    fn classes_named(&self, name: &str, labels: &Labels) -> Vec<usize> {
        let group = self.names.iter().position(|known| known == name);
        let of_group = |class: &usize| group.is_some() && self.of_class[*class] == group;
        let by_group: Vec<usize> = (0..labels.len()).filter(of_group).collect();
        if !by_group.is_empty() {
            return by_group;
        }
        (0..labels.len()).filter(|&class| labels.get(class) == name).collect()
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// A group's name.
    pub fn name(&self, group: usize) -> &str {
        &self.names[group]
    }

    /// Its name, or [`UNKNOWN`].
    pub fn name_or_unknown(&self, group: Option<usize>) -> &str {
        group.map_or(UNKNOWN, |group| self.name(group))
    }

    /// The group of this name.
    #[cfg(test)]
    pub fn find(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| known == name)
    }

    /// Of the classes' scores, the groups' scores, each 0 to 1.
    pub fn scores(&self, classes: &[f32]) -> Vec<f32> {
        let mut scores = vec![0.0; self.names.len()];
        for (score, group) in classes.iter().zip(&self.of_class) {
            if let Some(group) = group {
                scores[*group] += score;
            }
        }
        scores
    }

    /// What is wrong with a list of labels that is to hold groups only, or [`UNKNOWN`].
    pub fn judge(&self, labels: &[String]) -> Vec<String> {
        let known: Vec<&str> = self.names().chain([UNKNOWN]).collect();
        let stranger = |label: &&String| !known.contains(&label.as_str());
        labels
            .iter()
            .filter(stranger)
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

    fn own(name: &str, members: &[&str]) -> BTreeMap<String, Vec<String>> {
        BTreeMap::from([(name.to_string(), members.iter().map(|member| member.to_string()).collect())])
    }

    #[test]
    fn built_in_groups_name_each_class_rightly_and_once() {
        let file: File = toml::from_str(BUILT_IN).unwrap();
        let labels = labels();
        let mut seen = std::collections::BTreeSet::new();
        for (group, classes) in &file.groups {
            assert!(!classes.is_empty(), "{group}");
            for (class, name) in classes {
                assert_eq!(labels.get(*class), name, "{group} {class}");
                assert!(seen.insert(*class), "{name} is in two groups, one is {group}");
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
    fn groups_of_ones_own_take_their_classes_along() {
        let groups = Groups::new(&labels(), &own("tom", &["tabby", "tiger cat"])).unwrap();
        let mut classes = vec![0.0; 1000];
        (classes[281], classes[285]) = (0.25, 0.5);
        let scores = groups.scores(&classes);
        assert_eq!(scores[groups.find("tom").unwrap()], 0.25);
        assert_eq!(scores[groups.find("cat").unwrap()], 0.5);
        let groups = Groups::new(&labels(), &own("pet", &["cat", "beagle"])).unwrap();
        assert_eq!(groups.scores(&classes)[groups.find("pet").unwrap()], 0.75);
        assert_eq!(groups.scores(&classes)[groups.find("cat").unwrap()], 0.0);
    }

    #[test]
    fn what_there_is_not_is_refused_with_what_was_meant() {
        let refusal = |own| Groups::new(&labels(), &own).unwrap_err();
        assert_eq!(
            refusal(own("pet", &["tabbi"])),
            [("pet".to_string(), "has \"tabbi\", which is no class; did you mean \"tabby\"?".to_string())]
        );
        let mut both = own("a", &["tabby"]);
        both.extend(own("b", &["tabby"]));
        assert_eq!(refusal(both), [("b".to_string(), "has \"tabby\", which is in a already".to_string())]);
        let groups = Groups::new(&labels(), &BTreeMap::new()).unwrap();
        assert_eq!(groups.judge(&["cat".into(), "unknown".into()]), [""; 0]);
        assert_eq!(
            groups.judge(&["motorcylce".into()]),
            ["has \"motorcylce\", which is no label; did you mean \"motorcycle\"?"]
        );
    }

    #[test]
    fn another_networks_classes_are_groups_by_themselves() {
        let labels = Labels::parse(b"open\nclosed\n", "l", 2).unwrap();
        let groups = Groups::new(&labels, &BTreeMap::new()).unwrap();
        assert_eq!(groups.names().collect::<Vec<_>>(), ["open", "closed"]);
        assert_eq!(groups.scores(&[0.25, 0.75]), [0.25, 0.75]);
    }
}
