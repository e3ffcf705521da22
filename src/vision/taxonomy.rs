//! All labels that objects can have, from general to specific, and their scores.
//!
//! There are three kinds of labels:
//! - those of the everyday head, a tree: an animal may be a cat;
//! - groups of the network's classes, such as `bottle`, for what is none of the everyday labels, or for a
//!   kind of one, such as `horse`. A group counts only as far as the head sees no everyday label of its own;
//! - the user's groups of both.
//!
//! Without an everyday head, all labels are groups of classes.

use super::{
    head::file::{Tree, TreeLabel},
    labels::Labels,
};
use crate::config::{ANY, UNKNOWN, nearest};
use serde::Deserialize;
use std::{borrow::Cow, collections::BTreeMap};

/// The groups of the built-in network's classes.
const BUILT_IN: &str = include_str!("../../models/groups.toml");
/// Minimum score of a group of classes beside an everyday head. Many things that are none of the everyday
/// labels are no class of the network either, and look a little like some.
const GROUP_THRESHOLD: f32 = 0.5;
/// The classes are worth their cost if they can tell more about an object with at least this probability.
const MIN_CLASSES_PROBABILITY: f32 = 0.5;
/// Probability from which on a head needs no second opinion.
const SURE_PROBABILITY: f32 = 0.8;
/// Hysteresis: an established label is kept down to this share of its minimum score ...
const KEEP_FACTOR: f32 = 0.7;
/// ... and is replaced only by a label whose score is higher by this much.
pub const REPLACE_MARGIN: f32 = 0.1;

/// Labels and the parts of a network's output that count for them.
#[derive(Debug, Clone, PartialEq)]
pub struct Taxonomy {
    /// A parent comes before its children.
    labels: Vec<Label>,
    /// For each class, its label.
    label_of_class: Vec<Option<usize>>,
    /// For each class, the head's outputs with which it can be true.
    owner_of_class: Vec<Owner>,
    /// The head's outputs about which the classes tell more.
    explained: Vec<usize>,
    /// The outputs for kinds of animals, which the classes know better.
    animals: Vec<usize>,
    /// The head's output for none of its labels.
    none: Option<usize>,
    /// Number of the head's outputs. 0 without a head.
    outputs: usize,
}

/// What the head must see for a class to be possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// Anything, because there is no head.
    Anything,
    /// One of the head's outputs.
    Output(usize),
    /// Something that the head has no output for.
    Nothing,
}

#[derive(Debug, Clone, PartialEq)]
struct Label {
    name: String,
    parent: Option<usize>,
    /// Minimum score given by the head, or [`GROUP_THRESHOLD`]. 0 without a head and for the user's groups.
    threshold: f32,
    /// Defined by the user. Preferred to the labels beside it.
    is_custom: bool,
    /// The head's outputs that count for it, those of its children included.
    outputs: Vec<usize>,
    /// The classes that count for it.
    classes: Vec<usize>,
}

/// The file of the built-in groups. It lists classes by index and name, so that a test finds wrong ones.
#[derive(Deserialize)]
struct File {
    groups: BTreeMap<String, Vec<(usize, String)>>,
    /// By everyday label: the groups that are the same thing. They are no labels beside it.
    same: BTreeMap<String, Vec<String>>,
    /// By everyday label: the groups that are kinds of it.
    kinds: BTreeMap<String, Vec<String>>,
}

impl Taxonomy {
    /// Creates the labels of a network with these `classes`, of a head with this `tree` if there is one, and
    /// of the user's `custom` groups. A member of a custom group is a class, or another label for all that it
    /// stands for. The members then belong to the custom group only. If the network has other classes than
    /// the built-in one, each class is a label of its own instead of the built-in groups.
    ///
    /// Errors: for each unknown or repeated member and each name that is taken, the key below `groups` and
    /// the broken rule.
    pub fn new(
        tree: Option<&Tree>,
        classes: &Labels,
        custom: &BTreeMap<String, Vec<String>>,
    ) -> Result<Taxonomy, Vec<(String, String)>> {
        let (taxonomy, problems) = Taxonomy::new_lenient(tree, classes, custom);
        if problems.is_empty() { Ok(taxonomy) } else { Err(problems) }
    }

    /// Like [`Taxonomy::new`], but returns the labels even if there are errors. The names of the custom
    /// groups are valid in any case.
    pub fn new_lenient(
        tree: Option<&Tree>,
        classes: &Labels,
        custom: &BTreeMap<String, Vec<String>>,
    ) -> (Taxonomy, Vec<(String, String)>) {
        let mut taxonomy = Taxonomy::built_in(tree, classes);
        let problems = taxonomy.add_custom(tree, classes, custom);
        taxonomy.explained = taxonomy.find_explained(tree);
        (taxonomy, problems)
    }

    /// The labels without those of the user.
    fn built_in(tree: Option<&Tree>, classes: &Labels) -> Taxonomy {
        let labels = tree.map_or(Vec::new(), |tree| {
            (0..tree.labels.len()).map(|label| everyday_label(tree, label)).collect()
        });
        let nothing_seen = match tree {
            Some(tree) => output_of(tree, None),
            None => Owner::Anything,
        };
        let mut taxonomy = Taxonomy {
            labels,
            label_of_class: vec![None; classes.len()],
            owner_of_class: vec![nothing_seen; classes.len()],
            explained: Vec::new(),
            animals: tree.map_or(Vec::new(), outputs_for_animals),
            none: tree.and_then(|tree| tree.outputs.iter().position(Option::is_none)),
            outputs: tree.map_or(0, |tree| tree.outputs.len()),
        };
        let file: File = toml::from_str(BUILT_IN).expect("a test parses it");
        let has_class =
            |(class, name): &(usize, String)| *class < classes.len() && classes.get(*class) == name;
        if !file.groups.values().flatten().all(has_class) {
            for class in 0..classes.len() {
                taxonomy.add_group(classes.get(class).to_string(), None, std::iter::once(class));
            }
            return taxonomy;
        }
        for (group, members) in &file.groups {
            let everyday = |table: &BTreeMap<String, Vec<String>>| {
                let (label, _) = table.iter().find(|(_, groups)| groups.contains(group))?;
                taxonomy.find(label).zip(tree)
            };
            let (same, kind) = (everyday(&file.same), everyday(&file.kinds));
            let members = members.iter().map(|(class, _)| *class);
            if let Some((label, tree)) = same {
                for class in members {
                    taxonomy.label_of_class[class] = Some(label);
                    taxonomy.owner_of_class[class] = output_of(tree, Some(label));
                }
                continue;
            }
            if let Some((label, tree)) = kind {
                members.clone().for_each(|class| {
                    taxonomy.owner_of_class[class] = output_of(tree, Some(label));
                });
            }
            taxonomy.add_group(group.clone(), kind.map(|(label, _)| label), members);
        }
        taxonomy
    }

    /// Adds a label for classes.
    fn add_group(&mut self, name: String, parent: Option<usize>, classes: impl Iterator<Item = usize>) {
        let classes: Vec<usize> = classes.collect();
        for &class in &classes {
            self.label_of_class[class] = Some(self.labels.len());
        }
        let threshold = if self.outputs > 0 { GROUP_THRESHOLD } else { 0.0 };
        let label = Label { name, parent, threshold, is_custom: false, outputs: Vec::new(), classes };
        self.labels.push(label);
    }

    /// Adds the user's groups. Returns the errors.
    fn add_custom(
        &mut self,
        tree: Option<&Tree>,
        classes: &Labels,
        custom: &BTreeMap<String, Vec<String>>,
    ) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let everyday = tree.map_or(0, |tree| tree.labels.len());
        let built_in = self.clone();
        // For each output and class, the custom group that has it.
        let mut group_of_output: Vec<Option<&str>> = vec![None; self.outputs];
        let mut group_of_class: Vec<Option<&str>> = vec![None; classes.len()];
        let mut groups = Vec::new();
        for (name, members) in custom {
            let mut problem = |rule: String| problems.push((name.clone(), rule));
            if built_in.labels[..everyday].iter().any(|label| label.name == *name) {
                problem("is the name of an everyday label; choose another one".into());
            }
            let mut group = Label {
                name: name.clone(),
                parent: None,
                threshold: 0.0,
                is_custom: true,
                outputs: Vec::new(),
                classes: Vec::new(),
            };
            let mut parents = Vec::new();
            for member in members {
                let label = built_in.find(member);
                let of_name = |class: &usize| classes.get(*class) == member;
                let of_class: Vec<usize> = (0..classes.len()).filter(of_name).collect();
                if let Some(label) = label {
                    group.outputs.extend(&built_in.labels[label].outputs);
                    let is_part = |class: &usize| {
                        built_in.label_of_class[*class].is_some_and(|of| built_in.is_within(of, label))
                    };
                    group.classes.extend((0..classes.len()).filter(is_part));
                    parents.push(built_in.labels[label].parent);
                } else if !of_class.is_empty() {
                    let of_label = |class: &usize| match built_in.label_of_class[*class] {
                        Some(label) if label < everyday => Some(label),
                        Some(label) => built_in.labels[label].parent,
                        None => None,
                    };
                    parents.extend(of_class.iter().map(of_label));
                    group.classes.extend(of_class);
                } else {
                    let names = (0..classes.len()).map(|class| classes.get(class));
                    let known: Vec<&str> = names.chain(built_in.names()).collect();
                    problem(format!(
                        "has {member:?}, which is no label and no class{}",
                        hint(member, &known)
                    ));
                }
            }
            let mut has_conflict = false;
            for &output in &group.outputs {
                let other = group_of_output[output].replace(name).filter(|other| *other != name);
                if let Some(other) = other.filter(|_| !std::mem::replace(&mut has_conflict, true)) {
                    problem(format!("has an everyday label that is in {other} already"));
                }
            }
            for &class in &group.classes {
                let other = group_of_class[class].replace(name).filter(|other| *other != name);
                if let Some(other) = other.filter(|_| !has_conflict) {
                    problem(format!("has {:?}, which is in {other} already", classes.get(class)));
                }
            }
            // Classes whose output is counted as a whole must not be counted again.
            let outputs = group.outputs.clone();
            group.classes.retain(|class| match self.owner_of_class[*class] {
                Owner::Output(output) => !outputs.contains(&output),
                Owner::Anything => true,
                Owner::Nothing => false,
            });
            group.parent = built_in.common_ancestor(&parents);
            groups.push(group);
        }
        self.replace_by(groups, &group_of_output, &group_of_class);
        problems
    }

    /// Adds the custom groups and removes the labels of which nothing is left.
    fn replace_by(
        &mut self,
        groups: Vec<Label>,
        group_of_output: &[Option<&str>],
        group_of_class: &[Option<&str>],
    ) {
        let is_left = |label: &Label| {
            let is_replaced = groups.iter().any(|group| group.name == label.name);
            let has_outputs = label.outputs.iter().any(|&output| group_of_output[output].is_none());
            let has_classes = label.classes.iter().any(|&class| group_of_class[class].is_none());
            !is_replaced && (has_outputs || has_classes)
        };
        let mut new_index = Vec::with_capacity(self.labels.len());
        let mut kept: Vec<Label> = Vec::new();
        for label in &self.labels {
            new_index.push(is_left(label).then_some(kept.len()));
            if is_left(label) {
                let mut label = label.clone();
                label.classes.retain(|&class| group_of_class[class].is_none());
                kept.push(label);
            }
        }
        let old = std::mem::replace(&mut self.labels, kept);
        // The nearest ancestor that is left.
        let left = |mut label: Option<usize>| {
            while let Some(index) = label {
                if let Some(index) = new_index[index] {
                    return Some(index);
                }
                label = old[index].parent;
            }
            None
        };
        for label in &mut self.labels {
            label.parent = left(label.parent);
        }
        for label in &mut self.label_of_class {
            *label = label.and_then(|label| new_index[label]);
        }
        for mut group in groups {
            group.parent = left(group.parent);
            let is_member = |(_, of): &(usize, &Option<&str>)| **of == Some(group.name.as_str());
            for (class, _) in group_of_class.iter().enumerate().filter(is_member) {
                self.label_of_class[class] = Some(self.labels.len());
            }
            self.labels.push(group);
        }
    }

    /// The deepest label that contains all of these.
    fn common_ancestor(&self, labels: &[Option<usize>]) -> Option<usize> {
        let mut ancestor = *labels.first()?;
        while let Some(label) = ancestor {
            if labels.iter().all(|other| other.is_some_and(|other| self.is_within(other, label))) {
                return Some(label);
            }
            ancestor = self.labels[label].parent;
        }
        None
    }

    /// The outputs about which the classes tell more: those of no label, those with kinds that are groups of
    /// classes, and animals, whose classes are finer names.
    fn find_explained(&self, tree: Option<&Tree>) -> Vec<usize> {
        let Some(tree) = tree else { return Vec::new() };
        let is_explained = |output: &usize| {
            if tree.outputs[*output].is_none() {
                return true;
            }
            let is_owned = |class: &usize| self.owner_of_class[*class] == Owner::Output(*output);
            let counts = |label: &Label| label.classes.iter().any(is_owned);
            self.animals.contains(output) || self.labels.iter().any(counts)
        };
        (0..tree.outputs.len()).filter(is_explained).collect()
    }

    /// The names of all labels.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.labels.iter().map(|label| label.name.as_str())
    }

    /// The everyday labels and the user's groups: what users of home automation ask for.
    pub fn default_labels(&self) -> Vec<String> {
        let is_default = |label: &&Label| label.is_custom || !label.outputs.is_empty();
        self.labels.iter().filter(is_default).map(|label| label.name.clone()).collect()
    }

    /// The name of a label.
    pub fn name(&self, label: usize) -> &str {
        &self.labels[label].name
    }

    /// The name of a label, or [`UNKNOWN`].
    pub fn name_or_unknown(&self, label: Option<usize>) -> &str {
        label.map_or(UNKNOWN, |label| self.name(label))
    }

    /// The label of this name. None if there is none.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.labels.iter().position(|label| label.name == name)
    }

    /// The label and those that contain it, from specific to general.
    pub fn lineage(&self, label: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(Some(label), |&label| self.labels[label].parent)
    }

    /// Whether `label` is `ancestor` or a kind of it.
    pub fn is_within(&self, label: usize, ancestor: usize) -> bool {
        self.lineage(label).any(|label| label == ancestor)
    }

    /// Whether a list of names contains the label, one that contains it, or [`ANY`]; [`UNKNOWN`] if there is
    /// no label.
    pub fn is_listed(&self, label: Option<usize>, names: &[String]) -> bool {
        let has = |name: &str| names.iter().any(|listed| listed == name);
        match label {
            Some(label) => has(ANY) || self.lineage(label).any(|label| has(self.name(label))),
            None => has(UNKNOWN),
        }
    }

    /// Whether the label has kinds of its own.
    pub fn has_kinds(&self, label: usize) -> bool {
        self.labels.iter().any(|other| other.parent == Some(label))
    }

    /// Whether the network's classes are worth their cost, given the probabilities of the head's outputs.
    pub fn wants_classes(&self, outputs: &[f32]) -> bool {
        let explained = self.explained.iter().map(|&output| outputs[output]).sum::<f32>();
        self.outputs == 0 || explained >= MIN_CLASSES_PROBABILITY
    }

    /// Whether the head's outputs name one of the most general labels, or none of them, with a high
    /// probability.
    pub fn is_sure(&self, outputs: &[f32]) -> bool {
        let is_root = |label: &&Label| label.parent.is_none() && !label.outputs.is_empty();
        let probability = |label: &Label| label.outputs.iter().map(|&output| outputs[output]).sum::<f32>();
        let named = self.labels.iter().filter(is_root).map(probability).fold(0.0, f32::max);
        let none = self.none.map_or(0.0, |output| outputs[output]);
        named.max(none) >= SURE_PROBABILITY
    }

    /// Returns the scores of all labels, 0 to 1 each, given the probabilities of the head's outputs (empty
    /// without a head) and the scores of the classes, if they are known.
    pub fn scores(&self, outputs: &[f32], classes: Option<&[f32]>) -> Vec<f32> {
        let outputs = &self.refine(outputs, classes)[..];
        let class_score = |class: &usize| {
            let score = classes.map_or(0.0, |classes| classes[*class]);
            match self.owner_of_class[*class] {
                Owner::Anything => score,
                Owner::Output(output) => score * outputs[output],
                Owner::Nothing => 0.0,
            }
        };
        let score = |label: &Label| {
            label.outputs.iter().map(|&output| outputs[output]).sum::<f32>()
                + label.classes.iter().map(class_score).sum::<f32>()
        };
        self.labels.iter().map(score).collect()
    }

    /// Divides the probability of an animal among its kinds by what the head and the classes say, half each
    /// if the classes see nothing but an animal. They know 400 kinds of animals from many more photographs
    /// than the head was trained on.
    fn refine<'a>(&self, outputs: &'a [f32], classes: Option<&[f32]>) -> Cow<'a, [f32]> {
        let Some(classes) = classes else { return Cow::Borrowed(outputs) };
        let mut by_classes = vec![0.0; outputs.len()];
        for (owner, score) in self.owner_of_class.iter().zip(classes) {
            if let Owner::Output(output) = *owner {
                by_classes[output] += score;
            }
        }
        let sum = |of: &[f32]| self.animals.iter().map(|&output| of[output]).sum::<f32>();
        let (animal, animal_by_classes) = (sum(outputs), sum(&by_classes));
        if animal_by_classes <= 0.0 {
            return Cow::Borrowed(outputs);
        }
        let weight = animal_by_classes / 2.0;
        let mut refined = outputs.to_vec();
        for &output in &self.animals {
            let share = animal * by_classes[output] / animal_by_classes;
            refined[output] = (1.0 - weight) * outputs[output] + weight * share;
        }
        Cow::Owned(refined)
    }

    /// The minimum score of a label, given the minimum for all labels.
    pub fn min_score(&self, label: usize, min_score: f32) -> f32 {
        self.labels[label].threshold.max(min_score)
    }

    /// Chooses the most specific label whose score is high enough, going from general to specific. Only
    /// labels that `is_allowed` can be chosen. `current` is kept rather than replaced if the scores are
    /// close.
    pub fn choose(
        &self,
        scores: &[f32],
        min_score: f32,
        current: Option<usize>,
        is_allowed: &dyn Fn(usize) -> bool,
    ) -> Option<usize> {
        let is_current = |label: usize| current.is_some_and(|current| self.is_within(current, label));
        let leads_on = |label: usize| {
            is_allowed(label)
                || (0..self.labels.len()).any(|other| is_allowed(other) && self.is_within(other, label))
        };
        let (mut chosen, mut parent) = (None, None);
        loop {
            let children = (0..self.labels.len()).filter(|&label| self.labels[label].parent == parent);
            let mut best: Option<usize> = None;
            for label in children.filter(|&label| leads_on(label)) {
                let keep = if is_current(label) { KEEP_FACTOR } else { 1.0 };
                if scores[label] < keep * self.min_score(label, min_score) {
                    continue;
                }
                let rank = |label: usize| {
                    let bonus = if is_current(label) { REPLACE_MARGIN } else { 0.0 };
                    (self.labels[label].is_custom, scores[label] + bonus)
                };
                if best.is_none_or(|best| rank(label) > rank(best)) {
                    best = Some(label);
                }
            }
            let Some(best) = best else { return chosen };
            if is_allowed(best) {
                chosen = Some(best);
            }
            parent = Some(best);
        }
    }

    /// The class with the highest score among those of a label, if its score is high enough. `current` is
    /// kept rather than replaced if the scores are close.
    pub fn finer_class(
        &self,
        label: usize,
        classes: &[f32],
        min_score: f32,
        current: Option<usize>,
    ) -> Option<usize> {
        let is_part = |class: &usize| self.label_of_class[*class] == Some(label);
        let rank = |class: usize| classes[class] + if current == Some(class) { REPLACE_MARGIN } else { 0.0 };
        (0..classes.len())
            .filter(is_part)
            .reduce(|best, class| if rank(class) > rank(best) { class } else { best })
            .filter(|&class| rank(class) >= min_score)
    }

    /// Validates a list of labels: each must be a label, [`ANY`] or [`UNKNOWN`]. Returns an error text for
    /// each that is not.
    pub fn validate_labels(&self, labels: &[String]) -> Vec<String> {
        let known: Vec<&str> = self.names().chain([ANY, UNKNOWN]).collect();
        let is_unknown = |label: &&String| !known.contains(&label.as_str());
        labels
            .iter()
            .filter(is_unknown)
            .map(|label| format!("has {label:?}, which is no label{}", hint(label, &known)))
            .collect()
    }
}

/// The everyday label whose kinds the classes tell apart.
const ANIMAL: &str = "animal";

/// The outputs for [`ANIMAL`] and its kinds.
fn outputs_for_animals(tree: &Tree) -> Vec<usize> {
    let is_animal = |output: &usize| {
        tree.outputs[*output].is_some_and(|label| tree.labels[root_of(tree, label)].name == ANIMAL)
    };
    (0..tree.outputs.len()).filter(is_animal).collect()
}

fn everyday_label(tree: &Tree, label: usize) -> Label {
    let is_within = |of: &Option<usize>| {
        of.is_some_and(|of| {
            std::iter::successors(Some(of), |&of| tree.labels[of].parent).any(|of| of == label)
        })
    };
    let outputs = (0..tree.outputs.len()).filter(|&output| is_within(&tree.outputs[output])).collect();
    let TreeLabel { name, parent, threshold, .. } = &tree.labels[label];
    Label {
        name: name.clone(),
        parent: *parent,
        threshold: *threshold,
        is_custom: false,
        outputs,
        classes: Vec::new(),
    }
}

fn root_of(tree: &Tree, mut label: usize) -> usize {
    while let Some(parent) = tree.labels[label].parent {
        label = parent;
    }
    label
}

/// The output that stands for a label itself, not for its kinds.
fn output_of(tree: &Tree, label: Option<usize>) -> Owner {
    let output = tree.outputs.iter().position(|of| *of == label);
    output.map_or(Owner::Nothing, Owner::Output)
}

fn hint(typed: &str, known: &[&str]) -> String {
    match nearest(typed, known) {
        Some(near) => format!("; did you mean {near:?}?"),
        None => "; models/groups.toml, models/labels.txt and docs/seeing.md list them".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vision::head::file::{HeadFile, tests as head};

    const LABELS: &[u8] = include_bytes!("../../models/labels.txt");
    const CAT: usize = 3;
    const NONE: usize = 4;

    fn classes() -> Labels {
        Labels::parse(LABELS, "labels.txt", 1000).unwrap()
    }

    /// Outputs: person, car, animal, cat, none.
    fn tree() -> Tree {
        HeadFile::parse(&head::file(&head::metadata(), &[0.5; 10]), "h").unwrap().tree
    }

    fn custom(groups: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
        let members = |members: &[&str]| members.iter().map(|member| member.to_string()).collect();
        groups.iter().map(|(name, list)| (name.to_string(), members(list))).collect()
    }

    fn everyday(groups: &[(&str, &[&str])]) -> Taxonomy {
        Taxonomy::new(Some(&tree()), &classes(), &custom(groups)).unwrap()
    }

    fn without_head(groups: &[(&str, &[&str])]) -> Taxonomy {
        Taxonomy::new(None, &classes(), &custom(groups)).unwrap()
    }

    fn class_scores(scores: &[(usize, f32)]) -> Vec<f32> {
        let mut classes = vec![0.0; 1000];
        scores.iter().for_each(|(class, score)| classes[*class] = *score);
        classes
    }

    fn chosen<'a>(taxonomy: &'a Taxonomy, outputs: &[f32], classes: Option<&[f32]>) -> &'a str {
        let scores = taxonomy.scores(outputs, classes);
        taxonomy.name_or_unknown(taxonomy.choose(&scores, 0.4, None, &|_| true))
    }

    #[test]
    fn built_in_groups_name_existing_classes_and_each_once() {
        let file: File = toml::from_str(BUILT_IN).unwrap();
        let labels = classes();
        let mut grouped = std::collections::BTreeSet::new();
        for (group, classes) in &file.groups {
            assert!(!classes.is_empty(), "{group}");
            for (class, name) in classes {
                assert_eq!(labels.get(*class), name, "{group} {class}");
                assert!(grouped.insert(*class), "{name} is in two groups, one is {group}");
            }
        }
        let mut related = std::collections::BTreeSet::new();
        for group in file.same.values().chain(file.kinds.values()).flatten() {
            assert!(file.groups.contains_key(group), "{group}");
            assert!(related.insert(group), "{group} belongs to two everyday labels");
        }
        for name in ["cat", "dog", "bird", "car", "truck", "bus", "motorcycle", "bicycle", "boat", "bottle"] {
            assert!(file.groups.contains_key(name), "{name}");
        }
    }

    #[test]
    fn the_most_specific_label_with_enough_evidence_is_chosen() {
        let taxonomy = everyday(&[]);
        // The thresholds are 0.5 for a vehicle and 0.7 for a car.
        assert_eq!(chosen(&taxonomy, &[0.0, 0.9, 0.0, 0.0, 0.1], None), "car");
        assert_eq!(chosen(&taxonomy, &[0.1, 0.6, 0.0, 0.0, 0.3], None), "vehicle");
        assert_eq!(chosen(&taxonomy, &[0.3, 0.3, 0.1, 0.1, 0.2], None), "unknown");
        assert_eq!(chosen(&taxonomy, &[0.0, 0.0, 0.2, 0.65, 0.15], None), "cat");
        assert_eq!(chosen(&taxonomy, &[0.0, 0.0, 0.5, 0.4, 0.1], None), "animal");
        let cat = taxonomy.find("cat").unwrap();
        let names: Vec<&str> = taxonomy.lineage(cat).map(|label| taxonomy.name(label)).collect();
        assert_eq!(names, ["cat", "animal"]);
        let listed = |name: &str| taxonomy.is_listed(Some(cat), &[name.to_string()]);
        assert!(listed("cat") && listed("animal") && !listed("vehicle") && !listed(UNKNOWN));
        assert!(listed(ANY) && !taxonomy.is_listed(None, &[ANY.to_string()]));
        assert!(taxonomy.is_listed(None, &[UNKNOWN.to_string()]));
    }

    #[test]
    fn an_established_label_is_kept_while_scores_are_close() {
        let taxonomy = everyday(&[]);
        let label = |name: &str| taxonomy.find(name);
        let next = |current: &str, outputs: [f32; 5]| {
            let scores = taxonomy.scores(&outputs, None);
            taxonomy.name_or_unknown(taxonomy.choose(&scores, 0.4, label(current), &|_| true))
        };
        assert_eq!(next("person", [0.4, 0.45, 0.0, 0.0, 0.15]), "person");
        assert_eq!(next("person", [0.3, 0.7, 0.0, 0.0, 0.0]), "car");
        assert_eq!(next("car", [0.0, 0.5, 0.0, 0.0, 0.5]), "car");
        assert_eq!(next("car", [0.0, 0.4, 0.0, 0.0, 0.6]), "vehicle");
        assert_eq!(next("vehicle", [0.0, 0.5, 0.0, 0.0, 0.5]), "vehicle");
        assert_eq!(next("car", [0.0, 0.3, 0.0, 0.0, 0.7]), "unknown");
    }

    #[test]
    fn groups_of_classes_name_what_the_head_has_no_label_for() {
        let taxonomy = everyday(&[]);
        let bottle = class_scores(&[(898, 0.8)]);
        assert_eq!(chosen(&taxonomy, &[0.0, 0.0, 0.0, 0.05, 0.95], Some(&bottle)), "bottle");
        assert_eq!(chosen(&taxonomy, &[0.9, 0.0, 0.0, 0.0, 0.1], Some(&bottle)), "person");
        let sorrel = class_scores(&[(339, 0.9)]);
        assert_eq!(chosen(&taxonomy, &[0.0, 0.0, 0.9, 0.0, 0.1], Some(&sorrel)), "horse");
        let perhaps_sorrel = class_scores(&[(339, 0.4)]);
        assert_eq!(chosen(&taxonomy, &[0.0, 0.0, 0.1, 0.8, 0.1], Some(&perhaps_sorrel)), "cat");
        let horse = taxonomy.find("horse").unwrap();
        assert!(taxonomy.is_within(horse, taxonomy.find("animal").unwrap()));
        assert_eq!(taxonomy.find("van"), None, "the same as a car");
    }

    #[test]
    fn the_classes_help_to_tell_animals_apart() {
        let taxonomy = everyday(&[]);
        // The head sees an animal, but not which; the classes see a cat.
        let outputs = [0.0, 0.0, 0.7, 0.2, 0.1];
        let tabby = class_scores(&[(281, 0.9)]);
        assert_eq!(chosen(&taxonomy, &outputs, None), "animal");
        assert_eq!(chosen(&taxonomy, &outputs, Some(&tabby)), "animal", "below the threshold of 0.6");
        assert_eq!(chosen(&taxonomy, &[0.0, 0.0, 0.5, 0.4, 0.1], Some(&tabby)), "cat");
        let unsure = class_scores(&[(281, 0.2), (898, 0.8)]);
        assert_eq!(chosen(&taxonomy, &[0.0, 0.0, 0.5, 0.4, 0.1], Some(&unsure)), "animal");
    }

    #[test]
    fn classes_are_wanted_if_they_can_tell_more() {
        let taxonomy = everyday(&[]);
        assert!(!taxonomy.wants_classes(&[0.9, 0.0, 0.0, 0.0, 0.1]));
        assert!(!taxonomy.wants_classes(&[0.0, 0.9, 0.0, 0.0, 0.1]));
        assert!(taxonomy.wants_classes(&[0.0, 0.0, 0.1, 0.8, 0.1]));
        assert!(taxonomy.wants_classes(&[0.2, 0.2, 0.0, 0.0, 0.6]));
        let with_jeeps = everyday(&[("jeeps", &["jeep"])]);
        assert!(with_jeeps.wants_classes(&[0.0, 0.9, 0.0, 0.0, 0.1]));
        assert!(without_head(&[]).wants_classes(&[]));
    }

    #[test]
    fn a_head_is_sure_of_a_general_label_or_of_none() {
        let taxonomy = everyday(&[]);
        assert!(taxonomy.is_sure(&[0.9, 0.05, 0.0, 0.0, 0.05]));
        assert!(taxonomy.is_sure(&[0.0, 0.0, 0.4, 0.5, 0.1]), "an animal of some kind");
        assert!(taxonomy.is_sure(&[0.1, 0.0, 0.0, 0.0, 0.9]));
        assert!(!taxonomy.is_sure(&[0.5, 0.1, 0.1, 0.1, 0.2]));
    }

    #[test]
    fn finer_names_are_the_best_class_of_a_label() {
        let taxonomy = everyday(&[]);
        let cat = taxonomy.find("cat").unwrap();
        let finer =
            |scores: &[(usize, f32)], current| taxonomy.finer_class(cat, &class_scores(scores), 0.4, current);
        assert_eq!(finer(&[(281, 0.2), (285, 0.7)], None), Some(285));
        assert_eq!(finer(&[(281, 0.3), (285, 0.35)], None), None);
        assert_eq!(finer(&[(281, 0.42), (285, 0.45)], Some(281)), Some(281));
        assert_eq!(finer(&[(898, 0.9)], None), None, "no cat");
    }

    #[test]
    fn without_a_head_a_groups_score_is_the_sum_of_its_classes() {
        let taxonomy = without_head(&[]);
        let cats = class_scores(&[(281, 0.25), (285, 0.5), (283, 0.125)]);
        assert_eq!(taxonomy.scores(&[], Some(&cats))[taxonomy.find("cat").unwrap()], 0.875);
        assert_eq!(chosen(&taxonomy, &[], Some(&cats)), "cat");
        assert!(taxonomy.find("van").is_some() && taxonomy.find("person").is_some());
    }

    #[test]
    fn a_custom_group_takes_its_members_from_the_other_labels() {
        let cats = class_scores(&[(281, 0.25), (285, 0.5)]);
        let taxonomy = without_head(&[("tom", &["tabby", "tiger cat"])]);
        let score =
            |taxonomy: &Taxonomy, name| taxonomy.scores(&[], Some(&cats))[taxonomy.find(name).unwrap()];
        assert_eq!((score(&taxonomy, "tom"), score(&taxonomy, "cat")), (0.25, 0.5));
        let taxonomy = without_head(&[("pet", &["cat", "beagle"])]);
        assert_eq!((score(&taxonomy, "pet"), taxonomy.find("cat")), (0.75, None));
    }

    #[test]
    fn a_custom_group_can_contain_everyday_labels_and_classes() {
        let pet = everyday(&[("pet", &["cat", "hamster"])]);
        assert_eq!(pet.find("cat"), None);
        let parents: Vec<&str> = pet.lineage(pet.find("pet").unwrap()).map(|label| pet.name(label)).collect();
        assert_eq!(parents, ["pet", "animal"]);
        let hamster = class_scores(&[(333, 1.0)]);
        let mut outputs = [0.0; 5];
        (outputs[CAT], outputs[2], outputs[NONE]) = (0.5, 0.25, 0.25);
        assert_eq!(pet.scores(&outputs, Some(&hamster))[pet.find("pet").unwrap()], 0.75);
        let anything = everyday(&[("moving", &["person", "vehicle"])]);
        assert_eq!((anything.find("car"), anything.find("vehicle")), (None, None));
        assert_eq!(chosen(&anything, &[0.4, 0.4, 0.0, 0.0, 0.2], None), "moving");
        let egyptian = everyday(&[("mine", &["Egyptian cat"])]);
        let scores = class_scores(&[(285, 0.9)]);
        assert_eq!(chosen(&egyptian, &[0.0, 0.0, 0.0, 0.9, 0.1], Some(&scores)), "mine");
        assert_eq!(chosen(&egyptian, &[0.0, 0.0, 0.0, 0.9, 0.1], None), "cat");
    }

    #[test]
    fn unknown_names_and_taken_names_are_errors() {
        let errors =
            |tree: Option<&Tree>, groups| Taxonomy::new(tree, &classes(), &custom(groups)).unwrap_err();
        let error = |name: &str, rule: &str| (name.to_string(), rule.to_string());
        assert_eq!(
            errors(None, &[("pet", &["tabbi"])]),
            [error("pet", "has \"tabbi\", which is no label and no class; did you mean \"tabby\"?")]
        );
        assert_eq!(
            errors(None, &[("a", &["tabby"]), ("b", &["tabby"])]),
            [error("b", "has \"tabby\", which is in a already")]
        );
        assert_eq!(
            errors(Some(&tree()), &[("person", &["groom"])]),
            [error("person", "is the name of an everyday label; choose another one")]
        );
        assert_eq!(
            errors(Some(&tree()), &[("a", &["animal"]), ("b", &["cat"])])[0],
            error("b", "has an everyday label that is in a already")
        );
        let taxonomy = everyday(&[]);
        assert_eq!(taxonomy.validate_labels(&["cat".into(), "bottle".into(), "unknown".into()]), [""; 0]);
        assert_eq!(
            taxonomy.validate_labels(&["vehicel".into()]),
            ["has \"vehicel\", which is no label; did you mean \"vehicle\"?"]
        );
    }

    #[test]
    fn each_class_of_another_network_is_a_label_of_its_own() {
        let labels = Labels::parse(b"open\nclosed\n", "l", 2).unwrap();
        let taxonomy = Taxonomy::new(None, &labels, &BTreeMap::new()).unwrap();
        assert_eq!(taxonomy.names().collect::<Vec<_>>(), ["open", "closed"]);
        assert_eq!(taxonomy.scores(&[], Some(&[0.25, 0.75])), [0.25, 0.75]);
    }

    #[test]
    fn only_allowed_labels_are_chosen() {
        let taxonomy = everyday(&[]);
        let scores = taxonomy.scores(&[0.0, 0.9, 0.0, 0.0, 0.1], None);
        let choose = |names: &[&str]| {
            let allowed = |label: usize| names.contains(&taxonomy.name(label));
            taxonomy.name_or_unknown(taxonomy.choose(&scores, 0.4, None, &allowed))
        };
        assert_eq!(choose(&["car"]), "car");
        assert_eq!(choose(&["vehicle"]), "vehicle");
        assert_eq!(choose(&["person"]), "unknown");
    }
}
