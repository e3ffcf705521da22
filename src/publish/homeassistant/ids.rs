//! Ids of devices and entities.

use crate::config::Config;

/// Separates the names in an [`id`].
pub(super) const SEPARATOR: &str = "_-";

/// One id made of several names. It consists of letters, digits, `-` and `_`, and is unique to these names:
/// an underscore in a name is doubled, and other bytes are `_` and two hexadecimal digits.
pub(super) fn id(names: &[&str]) -> String {
    let escape = |byte: u8| match byte {
        b'_' => "__".to_string(),
        b'-' => "-".to_string(),
        _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        _ => format!("_{byte:02x}"),
    };
    let names: Vec<String> = names.iter().map(|name| name.bytes().map(escape).collect()).collect();
    names.join(SEPARATOR)
}

/// Id of the node's device.
pub(super) fn node_id(config: &Config) -> String {
    id(&["camfire", &config.node.name])
}

/// Id of a camera's device.
pub(super) fn camera_id(config: &Config, camera: &str) -> String {
    id(&["camfire", &config.node.name, camera])
}

#[cfg(test)]
mod tests {
    use super::id;
    use std::collections::BTreeSet;

    #[test]
    fn ids_are_unique_to_their_names() {
        assert_eq!(id(&["camfire", "front-door", "a_b"]), "camfire_-front-door_-a__b");
        assert_eq!(id(&["große Katze"]), "gro_c3_9fe_20Katze");
        let lists: &[&[&str]] = &[
            &["a", "b"],
            &["a_b"],
            &["a_-b"],
            &["a_", "b"],
            &["a", "_b"],
            &["a-", "b"],
            &["a", "-b"],
            &["a b"],
            &["a_20b"],
        ];
        let ids: BTreeSet<String> = lists.iter().map(|names| id(names)).collect();
        assert_eq!(ids.len(), lists.len(), "{ids:?}");
    }
}
