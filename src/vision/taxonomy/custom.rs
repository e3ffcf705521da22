//! The user's groups: they take their members from the other labels.

use super::{Label, Owner, Taxonomy, hint};
use crate::vision::{head::file::Tree, labels::Labels};
use std::collections::BTreeMap;

impl Taxonomy {
    /// Adds the user's groups. Returns the errors.
    pub(super) fn add_custom(
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
}
