use super::*;
use crate::vision::head::file::{HeadFile, tests as head};

const LABELS: &[u8] = include_bytes!("../../../models/labels.txt");
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

pub fn everyday(groups: &[(&str, &[&str])]) -> Taxonomy {
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
    let score = |taxonomy: &Taxonomy, name| taxonomy.scores(&[], Some(&cats))[taxonomy.find(name).unwrap()];
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
    let errors = |tree: Option<&Tree>, groups| Taxonomy::new(tree, &classes(), &custom(groups)).unwrap_err();
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
    assert_eq!(taxonomy.validate_labels(&["cat".into(), "bottle".into(), "unknown".into()], &[]), []);
    let text = "has \"vehicel\", which is no label; did you mean \"vehicle\"?".to_string();
    assert_eq!(taxonomy.validate_labels(&["vehicel".into()], &[]), [LabelProblem::Unknown(text)]);
}

#[test]
fn labels_that_a_model_cannot_give_are_told_from_misspelt_ones() {
    let labels = ["person", "vehicle", "cat"].map(String::from);
    assert_eq!(everyday(&[]).validate_labels(&labels, &labels), [], "the everyday head has them");
    let without_head = Taxonomy::new(None, &classes(), &BTreeMap::new()).unwrap();
    let never = |text: &str| LabelProblem::Never(text.into());
    let vehicle = never("has \"vehicle\", which this model cannot give: nothing is reported as that");
    let person = never(
        "has \"person\", which this model hardly ever gives: of these, its classes know only baseball players, \
         bridegrooms and scuba divers",
    );
    assert_eq!(without_head.validate_labels(&labels, &labels), [person, vehicle]);
    let own = Taxonomy::new(None, &classes(), &custom(&[("person", &["jersey", "suit"])])).unwrap();
    assert_eq!(own.validate_labels(&labels[..1], &labels), [], "the user has said what it is");
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

#[test]
fn a_detected_label_is_shared_by_its_kinds_as_they_were_seen_before() {
    let taxonomy = everyday(&[]);
    let animal = taxonomy.find_everyday("animal").unwrap();
    let outputs = taxonomy.outputs_of(animal, 0.8, &[]);
    assert_eq!((outputs[2], outputs[CAT], outputs[0]), (0.4, 0.4, 0.0));
    assert!((outputs[NONE] - 0.2).abs() < 1e-6);
    let outputs = taxonomy.outputs_of(animal, 0.8, &[0.5, 0.0, 0.1, 0.3, 0.1]);
    assert!((outputs[CAT] - 0.6).abs() < 1e-6 && (outputs[2] - 0.2).abs() < 1e-6, "{outputs:?}");
    assert_eq!(taxonomy.find_everyday("bottle"), None, "a group of classes");
}
