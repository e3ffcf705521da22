//! Keys that were renamed before version 1.0. An old key is an error that names the new one.

/// Old and new path of every renamed key. `NAME` stands for the name of any camera.
pub(super) const RENAMED: [(&str, &str); 13] = [
    ("mqtt.most_packet_kib", "mqtt.max_packet_kib"),
    ("outbox.most_messages", "outbox.max_messages"),
    ("outbox.most_mib", "outbox.max_mib"),
    ("outbox.oldest", "outbox.max_age"),
    ("outbox.also", "outbox.durable_kinds"),
    ("objects.crops", "objects.inference_budget"),
    ("objects.max_inferences_per_frame", "objects.inference_budget"),
    ("objects.look_again", "objects.reclassify_after"),
    ("pictures.most_mib", "pictures.max_mib"),
    ("pictures.oldest", "pictures.max_age"),
    ("web.anyone", "web.allow_remote"),
    ("cameras.NAME.longest_pause", "cameras.NAME.max_backoff"),
    ("cameras.NAME.evidence", "cameras.NAME.heatmap"),
];

/// Returns the new path of a renamed key, or None if `path` is not an old key.
pub(super) fn new_path(path: &[&str]) -> Option<String> {
    let (pattern, camera) = match path {
        ["cameras", name, key] => (format!("cameras.NAME.{key}"), *name),
        _ => (path.join("."), "NAME"),
    };
    let (_, new) = RENAMED.iter().find(|(old, _)| *old == pattern)?;
    Some(new.replace("NAME", camera))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_paths_lead_to_new_ones() {
        for (path, expected) in [
            (&["outbox", "oldest"][..], Some("outbox.max_age")),
            (&["cameras", "yard", "longest_pause"], Some("cameras.yard.max_backoff")),
            (&["cameras", "yard", "oldest"], None),
            (&["outbox", "max_age"], None),
            (&["oldest"], None),
        ] {
            assert_eq!(new_path(path).as_deref(), expected, "{path:?}");
        }
    }
}
