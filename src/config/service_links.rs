//! Environment variables that container platforms set for their services, which are not settings.
//!
//! Kubernetes, and Docker's links before it, describe each service to every container: a service named
//! `camfire-mqtt` sets `CAMFIRE_MQTT_SERVICE_HOST=10.0.0.2` and `CAMFIRE_MQTT_PORT=tcp://10.0.0.2:1883`. The
//! value tells such a variable from a setting with a wrong name.

use std::net::IpAddr;

/// Whether a variable describes a service. `name` is without camfire's prefix: `MQTT_PORT`.
pub(super) fn is_service_link(name: &str, value: &str) -> bool {
    // The name of a service cannot end in a hyphen, so a suffix never follows two underscores.
    let has_service = |service: &str| !service.ends_with('_');
    let is_port = |text: &str| text.parse::<u16>().is_ok_and(|port| port > 0);
    let is_host = |text: &str| text.parse::<IpAddr>().is_ok() || text == "None";
    let is_url = |text: &str| {
        text.split_once("://").is_some_and(|(protocol, rest)| {
            let address = rest.rsplit_once(':').filter(|(_, port)| is_port(port));
            is_protocol(protocol) && address.is_some_and(|(host, _)| is_host(host.trim_matches(['[', ']'])))
        })
    };
    // A service named `camfire` has no name of its own here.
    let suffix = |suffix: &str| match name.strip_suffix(suffix) {
        Some("") => true,
        Some(service) => service.strip_suffix('_').is_some_and(has_service),
        None => false,
    };
    if suffix("SERVICE_HOST") {
        return is_host(value);
    }
    if let Some((service, port_name)) = name.split_once("SERVICE_PORT") {
        let is_own = service.is_empty() || service.strip_suffix('_').is_some_and(has_service);
        return is_own && (port_name.is_empty() || port_name.starts_with('_')) && is_port(value);
    }
    if suffix("PORT") && is_url(value) {
        return true;
    }
    // `MQTT_PORT_1883_TCP`, and the same with `_PROTO`, `_PORT` and `_ADDR`.
    let words: Vec<&str> = name.split('_').collect();
    match words[..] {
        [.., "PORT", port, protocol] => is_port(port) && is_protocol(protocol) && is_url(value),
        [.., "PORT", port, protocol, part] => {
            let is_part = match part {
                "PROTO" => is_protocol(value),
                "PORT" => is_port(value),
                "ADDR" => is_host(value),
                _ => false,
            };
            is_port(port) && is_protocol(protocol) && is_part
        }
        _ => false,
    }
}

fn is_protocol(text: &str) -> bool {
    ["tcp", "udp", "sctp"].iter().any(|protocol| text.eq_ignore_ascii_case(protocol))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_services_are_told_from_settings_with_a_wrong_name() {
        for service in ["", "MQTT_", "LOG_", "STATS_HTTP_", "A__B_"] {
            for (suffix, value) in [
                ("SERVICE_HOST", "10.0.0.2"),
                ("SERVICE_HOST", "fd00::2"),
                ("SERVICE_PORT", "1883"),
                ("SERVICE_PORT_MQTT_TLS", "8883"),
                ("PORT", "tcp://10.0.0.2:1883"),
                ("PORT", "udp://[fd00::2]:53"),
                ("PORT_1883_TCP", "tcp://10.0.0.2:1883"),
                ("PORT_1883_TCP_PROTO", "tcp"),
                ("PORT_1883_TCP_PORT", "1883"),
                ("PORT_1883_TCP_ADDR", "10.0.0.2"),
            ] {
                assert!(is_service_link(&format!("{service}{suffix}"), value), "{service}{suffix}={value}");
            }
        }
        for (name, value) in [
            ("MQTT_PORT", "1884"),
            ("MQTT_PORT", "broker.lan:1884"),
            ("MQTT_PORT", "mqtt://10.0.0.2:1883"),
            ("MQTT__PORT", "tcp://10.0.0.2:1883"),
            ("MQTT__SERVICE_HOST", "10.0.0.2"),
            ("MQTT_HOST", "10.0.0.2"),
            ("MQTT_SERVICE_HOST", "broker.lan"),
            ("MQTT_SERVICE_PORT", "tcp"),
            ("PORT_1883_TCP_USER", "me"),
            ("LOG_LEVEL", "debug"),
        ] {
            assert!(!is_service_link(name, value), "{name}={value}");
        }
    }
}
