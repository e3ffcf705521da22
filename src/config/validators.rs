//! The forms that a text must have: names, topics, hosts. Pure functions that say what would be right.
//!
//! A form is told the text alone, so it can be held against every layer by itself; what depends on a second key is in
//! [`super::rules`].

/// What things are called whose label is not known.
pub const UNKNOWN: &str = "unknown";

/// The longest name of a node or a camera, in bytes.
const NAME_BYTES: usize = 64;

/// The longest base topic, in bytes: MQTT allows 65535, but every message repeats it.
const TOPIC_BYTES: usize = 256;

/// Topics of the node itself stand where a camera's would.
const RESERVED_NAMES: [&str; 5] = ["answer", "command", "gap", "stats", "status"];

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

/// What a group may be called: anything that people say, but not what things without a label are called.
pub(super) fn group_name(text: &str) -> Result<(), String> {
    line(text)?;
    if text.trim().is_empty() {
        return Err("must have a name".into());
    }
    if text == UNKNOWN {
        return Err(format!("must have another name: things without a label are called {UNKNOWN}"));
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

/// `HOST` or `HOST:PORT`, an IPv6 address with a port in brackets; the port is `usual` where there is none.
pub(super) fn broker(text: &str, usual: u16) -> Result<(String, u16), String> {
    let rule = || "must be HOST or HOST:PORT, such as \"broker.lan:1883\" or \"[fe80::1]:1883\"".to_string();
    let (name, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => (address, rest.strip_prefix(':').or(rest.is_empty().then_some(""))),
        None if text.parse::<std::net::Ipv6Addr>().is_ok() => (text, Some("")),
        None => text.split_once(':').map_or((text, Some("")), |(name, port)| (name, Some(port))),
    };
    let port = match port.ok_or_else(rule)? {
        "" => usual,
        port => port.parse().ok().filter(|port| *port > 0).ok_or_else(rule)?,
    };
    host(name).map_err(|_| rule())?;
    Ok((name.to_string(), port))
}

/// An address of this machine and a port.
pub(super) fn listen(text: &str) -> Result<(), String> {
    if text.parse::<std::net::SocketAddr>().is_ok_and(|address| address.port() != 0) {
        return Ok(());
    }
    Err("must be an address and a port, such as \"127.0.0.1:9190\" or \"[::1]:9190\"".into())
}

/// The corners of a polygon in parts of the picture: three at least, within the picture, with sides that do not cross.
/// Gives them without a last one that only repeats the first, as in GeoJSON.
pub(super) fn polygon(corners: &[(f64, f64)]) -> Result<&[(f64, f64)], String> {
    let corners = match corners {
        [first, rest @ .., last] if rest.len() >= 2 && first == last => &corners[..corners.len() - 1],
        _ => corners,
    };
    if corners.len() < 3 {
        return Err("must have three corners or more, such as [[0, 0], [0.5, 0], [0.5, 1]]".into());
    }
    if let Some((x, y)) = corners.iter().find(|(x, y)| !(0.0..=1.0).contains(x) || !(0.0..=1.0).contains(y)) {
        return Err(format!(
            "must lie within the picture: [{x}, {y}] is outside; corners are parts of its width and height, 0 to 1"
        ));
    }
    let sides = corners.len();
    let side = |index: usize| (corners[index % sides], corners[(index + 1) % sides]);
    for a in 0..sides {
        for b in a + 1..sides {
            // Neighbours share a corner.
            let are_neighbours = b == a + 1 || a == 0 && b == sides - 1;
            if !are_neighbours && cross(side(a), side(b)) {
                let shown =
                    |(from, to): Side| format!("from [{}, {}] to [{}, {}]", from.0, from.1, to.0, to.1);
                return Err(format!(
                    "must not cross itself: the side {} meets the side {}; list the corners in their order around it",
                    shown(side(a)),
                    shown(side(b))
                ));
            }
        }
    }
    let twice_the_area: f64 = (0..sides).map(side).map(|(a, b)| a.0 * b.1 - b.0 * a.1).sum();
    if twice_the_area.abs() < 1e-6 {
        return Err("must enclose an area".into());
    }
    Ok(corners)
}

type Side = ((f64, f64), (f64, f64));

/// Whether two lines have a point in common.
fn cross((a, b): Side, (c, d): Side) -> bool {
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

/// `[left, top, width, height]` of a region in parts of the picture: within it, and more than a pixel of any camera.
pub(super) fn part(numbers: &[f64]) -> Result<(), String> {
    let [left, top, width, height] = numbers[..] else {
        return Err(
            "must be [left, top, width, height] in parts of the picture, such as [0.1, 0.2, 0.3, 0.4]".into(),
        );
    };
    if width < LEAST_PART || height < LEAST_PART {
        return Err(format!("must be at least {LEAST_PART} of the picture wide and high"));
    }
    // A hair's breadth for sums that are no exact fractions.
    if left < 0.0 || top < 0.0 || left + width > 1.0 + 1e-9 || top + height > 1.0 + 1e-9 {
        return Err("must lie within the picture: left + width and top + height are at most 1".into());
    }
    Ok(())
}

/// Five pixels of a small camera's picture; there is nothing to see in less.
const LEAST_PART: f64 = 0.01;

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
    fn brokers_have_the_usual_port_unless_they_say_another() {
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
    fn any_host_name_makes_a_node_name() {
        for (host, expected) in
            [("Pi-Yard.lan", "pi-yard"), ("küche", "k-che"), ("", "camfire"), ("a b", "a-b"), ("$x", "-x")]
        {
            assert_eq!(node_name(host), expected);
            assert!(name(expected).is_ok());
        }
    }

    #[test]
    fn groups_are_called_as_people_say() {
        for good in ["big cat", "a.b", "Meine Katze", "größer"] {
            assert_eq!(group_name(good), Ok(()), "{good}");
        }
        for bad in ["", "  ", "unknown", "a\nb"] {
            assert!(group_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn polygons_have_an_area_within_the_picture_and_do_not_cross_themselves() {
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
            (vec![(0.0, 0.0), (f64::NAN, 0.0), (1.0, 1.0)], "within the picture"),
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
    fn parts_lie_within_the_picture_and_can_be_seen() {
        assert!(part(&[0.0, 0.0, 1.0, 1.0]).is_ok() && part(&[0.7, 0.7, 0.3, 0.3]).is_ok());
        for bad in [&[0.5, 0.5, 0.6, 0.1][..], &[-0.1, 0.0, 0.5, 0.5], &[0.1, 0.1, 0.0001, 0.5], &[0.1, 0.1]]
        {
            assert!(part(bad).is_err(), "{bad:?}");
        }
    }
}
