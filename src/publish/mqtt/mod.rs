//! MQTT 3.1.1 through rumqttc: the only code that names it. [`line`] is the daemon's side, [`subscriber`] that of `watch`
//! and `demo`; here is what both need to find a broker and to say why it does not answer.

pub mod connection;
pub mod subscriber;

use crate::{
    config,
    error::{Error, ErrorKind},
};
use rumqttc::{
    ConnectReturnCode, ConnectionError, MqttOptions, NetworkOptions, StateError, TlsConfiguration, Transport,
};
use std::path::Path;

/// What comes may be so large.
const MOST_INCOMING_BYTES: usize = 64 << 20;

/// `host:port` of the first broker, for messages.
pub fn broker(config: &config::Mqtt) -> String {
    broker_name(&config.brokers[0])
}

/// `host:port` of a broker.
fn broker_name(broker: &config::Broker) -> String {
    let config::Broker { host, port } = broker;
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// A connection's failure in a user's words.
pub fn describe(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ConnectionRefused(code) => match code {
            ConnectReturnCode::BadUserNamePassword => "it refuses user and password".to_string(),
            ConnectReturnCode::NotAuthorized => {
                "it refuses user and password, or the lack of them (not authorized)".to_string()
            }
            ConnectReturnCode::BadClientId => "it refuses the client id".to_string(),
            ConnectReturnCode::RefusedProtocolVersion => "it does not speak MQTT 3.1.1".to_string(),
            ConnectReturnCode::ServiceUnavailable => "it is not available for now".to_string(),
            ConnectReturnCode::Success => "it refuses with a success code".to_string(),
        },
        ConnectionError::Io(e) | ConnectionError::MqttState(StateError::Io(e)) => e.to_string(),
        ConnectionError::MqttState(StateError::Deserialization(rumqttc::mqttbytes::Error::Io(e))) => {
            e.to_string()
        }
        ConnectionError::MqttState(StateError::AwaitPingResp) => "it does not answer".to_string(),
        ConnectionError::NetworkTimeout => "it does not answer in time".to_string(),
        ConnectionError::FlushTimeout => "it does not take what is sent in time".to_string(),
        other => other.to_string(),
    }
}

/// rumqttc's options for any client of ours, to one of the brokers.
///
/// Errors ([`ErrorKind::Input`]): a certificate or a key that cannot be read.
fn client_options(config: &config::Mqtt, broker: usize, client_id: &str) -> Result<MqttOptions, Error> {
    let config::Broker { host, port } = &config.brokers[broker];
    let mut options = MqttOptions::new(client_id, host, *port);
    options.set_keep_alive(config.keep_alive);
    // A stranger's retained giant must not end every connection that hears of it.
    options.set_max_packet_size(MOST_INCOMING_BYTES, config.max_packet_bytes);
    options.set_clean_session(true);
    if let Some(login) = &config.login {
        options.set_credentials(&login.user, &login.password);
    }
    if let Some(tls) = &config.tls {
        let mut connector = native_tls::TlsConnector::builder();
        let read = |key: &str, file: &Path| {
            let place = format!("{key} {}", file.display());
            std::fs::read(file).map_err(|e| Error::caused(ErrorKind::Input, place, e))
        };
        if let Some(file) = &tls.ca_file {
            let authority = native_tls::Certificate::from_pem(&read("mqtt.ca_file", file)?).map_err(|e| {
                Error::caused(ErrorKind::Input, format!("mqtt.ca_file {}", file.display()), e)
            })?;
            connector.add_root_certificate(authority);
        }
        if let Some((cert, key)) = &tls.identity {
            let (cert_pem, key_pem) = (read("mqtt.cert_file", cert)?, read("mqtt.key_file", key)?);
            let place = || format!("mqtt.cert_file {} with mqtt.key_file {}", cert.display(), key.display());
            let identity = native_tls::Identity::from_pkcs8(&cert_pem, &key_pem)
                .map_err(|e| Error::caused(ErrorKind::Input, place(), e))?;
            connector.identity(identity);
        }
        if !tls.alpn.is_empty() {
            connector.request_alpns(&tls.alpn.iter().map(String::as_str).collect::<Vec<_>>());
        }
        let place = tls.identity.as_ref().map_or("TLS cannot be set up".to_string(), |(cert, key)| {
            format!("mqtt.cert_file {} with mqtt.key_file {}", cert.display(), key.display())
        });
        let connector = connector.build().map_err(|e| Error::caused(ErrorKind::Input, place, e))?;
        options.set_transport(Transport::tls_with_config(TlsConfiguration::NativeConnector(connector)));
    }
    Ok(options)
}

/// How long a connection may take to stand, in rumqttc's form.
fn network_options(config: &config::Mqtt) -> NetworkOptions {
    let mut network = NetworkOptions::new();
    network.set_connection_timeout(config.connect_timeout.as_secs().max(1));
    network.set_tcp_nodelay(true);
    network
}
