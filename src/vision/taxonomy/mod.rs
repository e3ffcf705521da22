//! All labels that objects can have, from general to specific, and their scores.
//!
//! There are three kinds of labels:
//! - those of the everyday head, a tree: an animal may be a cat;
//! - groups of the network's classes, such as `bottle`, for what is none of the everyday labels, or for a
//!   kind of one, such as `horse`. A group counts only as far as the head sees no everyday label of its own;
//! - the user's groups of both.
//!
//! Without an everyday head, all labels are groups of classes.

mod custom;

#[cfg(test)]
pub mod tests;

use super::{
    head::file::{Tree, TreeLabel},
    labels::Labels,
};
use crate::config::{ANY, UNKNOWN, nearest};
use serde::Deserialize;
use std::{borrow::Cow, collections::BTreeMap};

/// The groups of the built-in network's classes.
const BUILT_IN: &str = include_str!("../../../models/groups.toml");
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
const REPLACE_MARGIN: f32 = 0.1;

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
    /// By group: the few things that its classes are, where its name promises more.
    partial: BTreeMap<String, String>,
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
    /// By group: the few things that its classes are, where its name promises more.
    partial: BTreeMap<String, String>,
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
            partial: BTreeMap::new(),
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
        taxonomy.partial = file.partial.clone();
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

    /// The label of the everyday head with this name.
    pub fn find_everyday(&self, name: &str) -> Option<usize> {
        self.find(name).filter(|&label| !self.labels[label].outputs.is_empty())
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

    /// The probabilities of the head's outputs if something is a label with this probability, and otherwise
    /// nothing that has one. The label's outputs share it as in `shares`, or alike if these are empty or
    /// zero. Empty without a head.
    pub fn outputs_of(&self, label: usize, probability: f32, shares: &[f32]) -> Vec<f32> {
        let mut outputs = vec![0.0; self.outputs];
        let of_label = &self.labels[label].outputs;
        let share = |output: usize| shares.get(output).copied().unwrap_or_default();
        let sum: f32 = of_label.iter().map(|&output| share(output)).sum();
        for &output in of_label {
            let part = if sum > 0.0 { share(output) / sum } else { 1.0 / of_label.len() as f32 };
            outputs[output] = probability * part;
        }
        if let Some(none) = self.none {
            outputs[none] += 1.0 - probability;
        }
        outputs
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

    /// Validates a list of labels: each must be a label, [`ANY`] or [`UNKNOWN`]. `of_others` are labels that
    /// other models give. Returns what is wrong with each label that this model cannot give.
    pub fn validate_labels(&self, labels: &[String], of_others: &[String]) -> Vec<LabelProblem> {
        let known: Vec<&str> = self.names().chain([ANY, UNKNOWN]).collect();
        let problem = |label: &String| {
            if let Some(which) = self.partial_label(label) {
                return Some(LabelProblem::Never(format!(
                    "has {label:?}, which this model hardly ever gives: of these, its classes know only {which}"
                )));
            }
            if known.contains(&label.as_str()) {
                None
            } else if of_others.contains(label) {
                Some(LabelProblem::Never(format!(
                    "has {label:?}, which this model cannot give: nothing is reported as that"
                )))
            } else {
                Some(LabelProblem::Unknown(format!(
                    "has {label:?}, which is no label{}",
                    hint(label, &known)
                )))
            }
        };
        labels.iter().filter_map(problem).collect()
    }

    /// What the classes of a label know, if that is little of what its name promises.
    fn partial_label(&self, label: &str) -> Option<&str> {
        let label = &self.labels[self.find(label)?];
        let is_group = label.outputs.is_empty() && !label.is_custom;
        self.partial.get(&label.name).filter(|_| is_group).map(String::as_str)
    }
}

/// What is wrong with a label of the configuration; text for the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelProblem {
    /// No model has such a label: it is misspelt.
    Unknown(String),
    /// The model does not give it, or hardly ever.
    Never(String),
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
