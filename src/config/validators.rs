//! Validators of single values: names, topics, hosts, polygons. Pure functions that return the broken rule.
//!
//! A validator gets one value only, so each layer can be checked by itself. Rules between keys are in
//! [`super::rules`].

use ipnet::IpNet;
use std::net::IpAddr;

/// Label of objects that have no label.
pub const UNKNOWN: &str = "unknown";
/// In a list of labels: every label, but not [`UNKNOWN`].
pub const ANY: &str = "any";

/// Maximum length of a name of a node or a camera, in bytes.
const MAX_NAME_BYTES: usize = 64;

/// Maximum length of a base topic, in bytes. MQTT allows 65535, but every message repeats it.
const MAX_TOPIC_BYTES: usize = 256;

/// Topics of the node itself, which are on the same level as those of cameras.
pub const RESERVED_NAMES: [&str; 5] = ["answer", "command", "gap", "stats", "status"];

/// One line of text.
pub(super) fn line(text: &str) -> Result<(), String> {
    if text.chars().any(char::is_control) {
        return Err("must be one line without control characters".into());
    }
    Ok(())
}

/// Text without NUL, because neither GStreamer nor the file system accepts it.
pub(super) fn lines(text: &str) -> Result<(), String> {
    if text.contains('\0') {
        return Err("must not contain a NUL character".into());
    }
    Ok(())
}

/// A topic level that is also usable in file names, environment variables and bridges to other brokers: no
/// spaces, no dots (NATS treats them as level separators), ASCII only.
pub(super) fn name(text: &str) -> Result<(), String> {
    let length_is_valid = (1..=MAX_NAME_BYTES).contains(&text.len());
    if !length_is_valid || !text.bytes().all(is_name_byte) {
        return Err(format!("must be a name of 1 to {MAX_NAME_BYTES} letters (a-z, A-Z), digits, - or _"));
    }
    Ok(())
}

/// A [`name`] that is not the name of one of the node's topics.
pub(super) fn camera_name(text: &str) -> Result<(), String> {
    name(text).map_err(|rule| rule.replace("a name", "a camera name"))?;
    if RESERVED_NAMES.contains(&text) {
        return Err(format!("is reserved: the node publishes its own messages under {text}"));
    }
    Ok(())
}

/// The name of a group: one line of text, except the word for objects without a label.
pub(super) fn group_name(text: &str) -> Result<(), String> {
    line(text)?;
    if text.trim().is_empty() {
        return Err("must have a name that is not empty".into());
    }
    if text == UNKNOWN {
        return Err(format!("is reserved: {UNKNOWN} stands for objects without a label"));
    }
    if text == ANY {
        return Err(format!("is reserved: {ANY} stands for every label"));
    }
    Ok(())
}

/// Derives the node's name from the host name: its first label, with invalid characters replaced, as a
/// [`name`].
pub(super) fn node_name(host: &str) -> String {
    let label = host.split('.').next().unwrap_or_default().to_lowercase();
    let name: String = label
        .chars()
        .map(|c| if u8::try_from(c).is_ok_and(is_name_byte) { c } else { '-' })
        .take(MAX_NAME_BYTES)
        .collect();
    if name.is_empty() { "camfire".into() } else { name }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

/// A topic prefix of one or more levels.
pub(super) fn topic(text: &str) -> Result<(), String> {
    let levels_are_valid = text.split('/').all(|level| !level.is_empty() && !level.contains(['+', '#']));
    if !levels_are_valid
        || text.starts_with('$')
        || text.len() > MAX_TOPIC_BYTES
        || text.chars().any(char::is_control)
    {
        return Err(
            "must be one or more topic levels, such as \"camfire\" or \"site/camfire\": no empty level, \
                    no slash at either end, no + or #, no leading $"
                .into(),
        );
    }
    Ok(())
}

/// A host name, an IPv4 or an IPv6 address.
pub(super) fn host(text: &str) -> Result<(), String> {
    let is_address = text.parse::<IpAddr>().is_ok();
    if !is_address && (text.is_empty() || !text.bytes().all(|b| is_name_byte(b) || b == b'.')) {
        return Err("must be a host name or an IP address, without scheme and port".into());
    }
    Ok(())
}

/// Splits `HOST` or `HOST:PORT` into host and port. An IPv6 address with a port is in brackets. Without a
/// port, `default_port` is returned.
pub fn broker(text: &str, default_port: u16) -> Result<(String, u16), String> {
    let rule = || "must be HOST or HOST:PORT, such as \"broker.lan:1883\" or \"[fe80::1]:1883\"".to_string();
    let (name, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => (address, rest.strip_prefix(':').or(rest.is_empty().then_some(""))),
        None if text.parse::<std::net::Ipv6Addr>().is_ok() => (text, Some("")),
        None => text.split_once(':').map_or((text, Some("")), |(name, port)| (name, Some(port))),
    };
    let port = match port.ok_or_else(rule)? {
        "" => default_port,
        port => port.parse().ok().filter(|port| *port > 0).ok_or_else(rule)?,
    };
    host(name).map_err(|_| rule())?;
    Ok((name.to_string(), port))
}

/// The address of a page, or nothing.
pub(super) fn optional_public_url(text: &str) -> Result<(), String> {
    if text.is_empty() { Ok(()) } else { public_url(text).map(drop) }
}

/// Splits the address under which users reach the page into the address without slashes at its end, and the
/// host, which is in brackets if it is an IPv6 address.
pub(super) fn public_url(text: &str) -> Result<(&str, String), String> {
    let rule = |what: &str| {
        format!(
            "must be the address of the page, such as \"https://cam.example.org\" or \"http://192.168.1.7:8080/cam\"{what}"
        )
    };
    if text.contains(['?', '#']) {
        return Err(rule(", without ? and #"));
    }
    let rest =
        text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")).ok_or_else(|| rule(""))?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err(rule(", without user and password"));
    }
    let (name, _) = broker(authority, 80).map_err(|_| rule(""))?;
    let is_v6 = name.contains(':');
    let is_path = path.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte));
    if !is_path || is_v6 != authority.starts_with('[') || authority.ends_with(':') {
        return Err(rule(""));
    }
    Ok((text.trim_end_matches('/'), if is_v6 { format!("[{name}]") } else { name }))
}

/// An IP address or a network. One of all addresses is refused: whoever named it would not have named
/// anything.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let network =
        network.map_err(|_| "must be an IP address or a network, such as \"127.0.0.1\" or \"10.0.0.0/8\"")?;
    if network.prefix_len() == 0 {
        return Err("is every address: name those of the proxies".into());
    }
    Ok(network)
}

/// An IP address and a port.
pub(super) fn listen(text: &str) -> Result<(), String> {
    if text.parse::<std::net::SocketAddr>().is_ok_and(|address| address.port() != 0) {
        return Ok(());
    }
    Err("must be an IP address and a port, such as \"127.0.0.1:9190\" or \"[::1]:9190\"".into())
}

/// The corners of a polygon, as fractions of the image: at least three, within the image, with sides that do
/// not intersect. Returns them without a last corner that only repeats the first, as in GeoJSON.
pub(super) fn polygon(corners: &[(f64, f64)]) -> Result<&[(f64, f64)], String> {
    let corners = match corners {
        [first, rest @ .., last] if rest.len() >= 2 && first == last => &corners[..corners.len() - 1],
        _ => corners,
    };
    if corners.len() < 3 {
        return Err("must have at least three corners, such as [[0, 0], [0.5, 0], [0.5, 1]]".into());
    }
    if let Some((x, y)) = corners.iter().find(|(x, y)| !(0.0..=1.0).contains(x) || !(0.0..=1.0).contains(y)) {
        return Err(format!(
            "must lie within the image: [{x}, {y}] is outside; corners are fractions of its width and height, 0 to 1"
        ));
    }
    let sides = corners.len();
    let side = |index: usize| (corners[index % sides], corners[(index + 1) % sides]);
    for a in 0..sides {
        for b in a + 1..sides {
            // Adjacent sides share a corner.
            let are_adjacent = b == a + 1 || a == 0 && b == sides - 1;
            if !are_adjacent && intersect(side(a), side(b)) {
                let shown =
                    |(from, to): Side| format!("from [{}, {}] to [{}, {}]", from.0, from.1, to.0, to.1);
                return Err(format!(
                    "must not intersect itself: the side {} meets the side {}; list the corners in their order around the polygon",
                    shown(side(a)),
                    shown(side(b))
                ));
            }
        }
    }
    let double_area: f64 = (0..sides).map(side).map(|(a, b)| a.0 * b.1 - b.0 * a.1).sum();
    if double_area.abs() < 1e-6 {
        return Err("must enclose an area".into());
    }
    Ok(corners)
}

type Side = ((f64, f64), (f64, f64));

/// Whether two sides have a point in common.
fn intersect((a, b): Side, (c, d): Side) -> bool {
    let turn =
        |p: (f64, f64), q: (f64, f64), r: (f64, f64)| (q.0 - p.0) * (r.1 - p.1) - (q.1 - p.1) * (r.0 - p.0);
    let within = |p: (f64, f64), q: (f64, f64), r: (f64, f64)| {
        (p.0.min(q.0)..=p.0.max(q.0)).contains(&r.0) && (p.1.min(q.1)..=p.1.max(q.1)).contains(&r.1)
    };
    let (c_side, d_side, a_side, b_side) = (turn(a, b, c), turn(a, b, d), turn(c, d, a), turn(c, d, b));
    (c_side * d_side < 0.0 && a_side * b_side < 0.0)
        || c_side == 0.0 && within(a, b, c)
        || d_side == 0.0 && within(a, b, d)
        || a_side == 0.0 && within(c, d, a)
        || b_side == 0.0 && within(c, d, b)
}

/// `[left, top, width, height]` of a region, as fractions of the image: within the image, and not smaller
/// than [`MIN_REGION`].
pub(super) fn rectangle(numbers: &[f64]) -> Result<(), String> {
    let [left, top, width, height] = numbers[..] else {
        return Err(
            "must be [left, top, width, height] as fractions of the image, such as [0.1, 0.2, 0.3, 0.4]"
                .into(),
        );
    };
    if width < MIN_REGION || height < MIN_REGION {
        return Err(format!("must have a width and a height of at least {MIN_REGION}"));
    }
    // The tolerance is for sums that are not exact in binary, such as 0.7 + 0.3.
    if left < 0.0 || top < 0.0 || left + width > 1.0 + 1e-9 || top + height > 1.0 + 1e-9 {
        return Err("must lie within the image: left + width and top + height must not exceed 1".into());
    }
    Ok(())
}

/// Minimum width and height of a region: about five pixels of a small camera's image, below which nothing can
/// be recognized.
const MIN_REGION: f64 = 0.01;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_topic_level() {
        for good in ["yard", "Front-Door_2", &"x".repeat(64)] {
            assert!(camera_name(good).is_ok(), "{good}");
        }
        for bad in
            ["", "a/b", "a+", "#", "$SYS", "a b", "a.b", "tür", "a\0", "status", "stats", &"x".repeat(65)]
        {
            assert!(camera_name(bad).is_err(), "{bad}");
        }
        assert!(name("status").is_ok(), "allowed as the name of a node");
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
    fn hosts_have_no_scheme_and_no_port() {
        for good in ["localhost", "broker.lan", "10.0.0.1", "::1", "fe80::1"] {
            assert!(host(good).is_ok(), "{good}");
        }
        for bad in ["", "mqtt://h", "h:1883", "a b", "u@h", "[::1]"] {
            assert!(host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn networks_are_addresses_or_prefixes_of_them() {
        for (text, inside, outside) in [
            ("127.0.0.1", "127.0.0.1", "127.0.0.2"),
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("::1", "::1", "::2"),
            ("fd00::/8", "fd12::1", "fe80::1"),
        ] {
            let network = network(text).unwrap();
            let contains = |address: &str| network.contains(&address.parse::<IpAddr>().unwrap());
            assert!(contains(inside) && !contains(outside), "{text}");
        }
        for bad in ["", "proxy.lan", "10.0.0.0/33", "10.0.0.1:80", "0.0.0.0/0", "::/0"] {
            assert!(network(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn brokers_without_a_port_have_the_default_port() {
        for (text, host, port) in [
            ("a.lan", "a.lan", 1883),
            ("a.lan:8883", "a.lan", 8883),
            ("10.0.0.1:1", "10.0.0.1", 1),
            ("fe80::1", "fe80::1", 1883),
            ("[fe80::1]:99", "fe80::1", 99),
            ("[fe80::1]", "fe80::1", 1883),
        ] {
            assert_eq!(broker(text, 1883), Ok((host.to_string(), port)), "{text}");
        }
        for bad in ["", "a:", "a:0", "a:99999", "mqtt://a", "[fe80::1", "[fe80::1]x", "a b"] {
            assert!(broker(bad, 1883).is_err() || bad == "a:", "{bad}");
        }
    }

    #[test]
    fn public_urls_are_addresses_of_web_pages() {
        for (text, expected, host) in [
            ("https://cam.example.org", "https://cam.example.org", "cam.example.org"),
            ("http://192.168.1.7:8080/cam/", "http://192.168.1.7:8080/cam", "192.168.1.7"),
            ("http://[fe80::1]:8080//", "http://[fe80::1]:8080", "[fe80::1]"),
            ("https://Cam.lan/a/b", "https://Cam.lan/a/b", "Cam.lan"),
        ] {
            assert_eq!(public_url(text), Ok((expected, host.to_string())), "{text}");
        }
        for bad in [
            "cam.example.org",
            "//cam.example.org",
            "/cam",
            "ftp://cam.example.org",
            "javascript:alert(1)",
            "https://",
            "https:///cam",
            "https://me@cam.lan",
            "https://me:secret@cam.lan",
            "https://cam.lan/?a=1",
            "https://cam.lan/#/events",
            "https://cam.lan:0",
            "https://cam.lan:",
            "https://fe80::1/",
            "https://[fe80::1",
            "https://[cam.lan]/",
            "https://[::1]:/",
            "https://cam.lan/\"><script>",
            "https://cam.lan:99999",
            "https://cam.lan/a b",
            "https://ca%6d.lan",
            "https://cam.lan\n",
        ] {
            assert!(public_url(bad).is_err() && optional_public_url(bad).is_err(), "{bad}");
        }
        assert_eq!(optional_public_url(""), Ok(()));
    }

    #[test]
    fn every_host_name_gives_a_valid_node_name() {
        for (host, expected) in
            [("Pi-Yard.lan", "pi-yard"), ("küche", "k-che"), ("", "camfire"), ("a b", "a-b"), ("$x", "-x")]
        {
            assert_eq!(node_name(host), expected);
            assert!(name(expected).is_ok());
        }
    }

    #[test]
    fn group_names_may_have_spaces_and_dots() {
        for good in ["big cat", "a.b", "Meine Katze", "größer"] {
            assert_eq!(group_name(good), Ok(()), "{good}");
        }
        for bad in ["", "  ", "unknown", "a\nb"] {
            assert!(group_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn polygons_enclose_an_area_within_the_image_and_do_not_intersect_themselves() {
        for good in [
            vec![(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)],
            vec![(0.1, 0.1), (0.9, 0.5), (0.1, 0.9), (0.3, 0.5)],
        ] {
            assert_eq!(polygon(&good), Ok(&good[..]), "{good:?}");
            let closed: Vec<_> = good.iter().chain(&good[..1]).copied().collect();
            assert_eq!(polygon(&closed), Ok(&good[..]), "closed as in GeoJSON");
        }
        for (bad, why) in [
            (vec![(0.0, 0.0), (1.0, 1.0)], "three corners"),
            (vec![(0.0, 0.0), (1.2, 0.0), (1.0, 1.0)], "[1.2, 0]"),
            (vec![(0.0, 0.0), (f64::NAN, 0.0), (1.0, 1.0)], "within the image"),
            (
                vec![(0.0, 0.0), (1.0, 1.0), (1.0, 0.0), (0.0, 1.0)],
                "from [0, 0] to [1, 1] meets the side from [1, 0]",
            ),
            (vec![(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)], "enclose"),
            (vec![(0.2, 0.2), (0.2, 0.2), (0.2, 0.2)], "enclose"),
        ] {
            let rule = polygon(&bad).unwrap_err();
            assert!(rule.contains(why), "{rule}");
        }
    }

    #[test]
    fn rectangles_lie_within_the_image_and_have_a_minimum_size() {
        assert!(rectangle(&[0.0, 0.0, 1.0, 1.0]).is_ok() && rectangle(&[0.7, 0.7, 0.3, 0.3]).is_ok());
        for bad in [&[0.5, 0.5, 0.6, 0.1][..], &[-0.1, 0.0, 0.5, 0.5], &[0.1, 0.1, 0.0001, 0.5], &[0.1, 0.1]]
        {
            assert!(rectangle(bad).is_err(), "{bad:?}");
        }
    }
}
