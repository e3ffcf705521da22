//! The forms that a text must have: names, topics, hosts. Pure functions that say what would be right.
//!
//! A form is told the text alone, so it can be held against every layer by itself; what depends on a second key is in
//! [`super::rules`].

/// The longest name of a node or a camera, in bytes.
const NAME_BYTES: usize = 64;

/// The longest base topic, in bytes: MQTT allows 65535, but every message repeats it.
const TOPIC_BYTES: usize = 256;

/// Topics of the node itself stand where a camera's would.
const RESERVED_NAMES: [&str; 2] = ["stats", "status"];

/// Anything that fits on a line.
pub(super) fn line(text: &str) -> Result<(), String> {
    if text.chars().any(char::is_control) {
        return Err("must be one line without control characters".into());
    }
    Ok(())
}

/// Anything but NUL, which neither GStreamer nor the file system can take.
pub(super) fn lines(text: &str) -> Result<(), String> {
    if text.contains('\0') {
        return Err("must not hold a NUL character".into());
    }
    Ok(())
}

/// One level of a topic that also suits file names, environment variables and the bridges to other brokers: no
/// spaces, no dots (NATS makes levels of them), nothing outside ASCII.
pub(super) fn name(text: &str) -> Result<(), String> {
    let fits = (1..=NAME_BYTES).contains(&text.len());
    if !fits || !text.bytes().all(is_name_byte) {
        return Err(format!("must be a name of 1 to {NAME_BYTES} letters (a-z, A-Z), digits, - or _"));
    }
    Ok(())
}

/// A [`name`] that no topic of the node has already.
pub(super) fn camera_name(text: &str) -> Result<(), String> {
    name(text).map_err(|rule| rule.replace("a name", "a camera name"))?;
    if RESERVED_NAMES.contains(&text) {
        return Err(format!("must have another name: the node itself publishes under {text}"));
    }
    Ok(())
}

/// The name of a node whose host is called `host`: its first label, made into a [`name`].
pub(super) fn node_name(host: &str) -> String {
    let label = host.split('.').next().unwrap_or_default().to_lowercase();
    let name: String = label
        .chars()
        .map(|c| if u8::try_from(c).is_ok_and(is_name_byte) { c } else { '-' })
        .take(NAME_BYTES)
        .collect();
    if name.is_empty() { "camfire".into() } else { name }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

/// The first levels of a topic.
pub(super) fn topic(text: &str) -> Result<(), String> {
    let levels_are_sound = text.split('/').all(|level| !level.is_empty() && !level.contains(['+', '#']));
    if !levels_are_sound
        || text.starts_with('$')
        || text.len() > TOPIC_BYTES
        || text.chars().any(char::is_control)
    {
        return Err(
            "must be one or more topic levels, such as \"camfire\" or \"site/camfire\": no empty level, \
                    no slash at either end, no + or #, no $ in front"
                .into(),
        );
    }
    Ok(())
}

/// A host name, an IPv4 or an IPv6 address, and nothing around it.
pub(super) fn host(text: &str) -> Result<(), String> {
    let is_address = text.parse::<std::net::IpAddr>().is_ok();
    if !is_address && (text.is_empty() || !text.bytes().all(|b| is_name_byte(b) || b == b'.')) {
        return Err("must be a host name or an address alone: no scheme, no port".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_plain_topic_level() {
        for good in ["yard", "Front-Door_2", &"x".repeat(64)] {
            assert!(camera_name(good).is_ok(), "{good}");
        }
        for bad in
            ["", "a/b", "a+", "#", "$SYS", "a b", "a.b", "tür", "a\0", "status", "stats", &"x".repeat(65)]
        {
            assert!(camera_name(bad).is_err(), "{bad}");
        }
        assert!(name("status").is_ok(), "a node may be called so");
    }

    #[test]
    fn topics_have_no_wildcards_and_no_empty_levels() {
        for good in ["camfire", "site/camfire", "a b/c"] {
            assert!(topic(good).is_ok(), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "a/+", "a/#", "$SYS/a", "a\n", &"x".repeat(257)] {
            assert!(topic(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts_stand_alone() {
        for good in ["localhost", "broker.lan", "10.0.0.1", "::1", "fe80::1"] {
            assert!(host(good).is_ok(), "{good}");
        }
        for bad in ["", "mqtt://h", "h:1883", "a b", "u@h", "[::1]"] {
            assert!(host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn any_host_name_makes_a_node_name() {
        for (host, expected) in
            [("Pi-Yard.lan", "pi-yard"), ("küche", "k-che"), ("", "camfire"), ("a b", "a-b"), ("$x", "-x")]
        {
            assert_eq!(node_name(host), expected);
            assert!(name(expected).is_ok());
        }
    }
}
