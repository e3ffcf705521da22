//! MQTT 3.1.1 with rumqttc, which no other module uses.
//!
//! [`connection`] implements the daemon's connections, [`subscriber`] the client of `watch` and `demo`, and
//! [`probe`] finds out whether a port is for TLS. This file has what all need: the client's options and the
//! error texts.

pub mod connection;
mod probe;
pub mod subscriber;

use crate::{
    config,
    error::{Error, ErrorKind},
    files,
};
use rumqttc::{
    ConnectReturnCode, ConnectionError, MqttOptions, NetworkOptions, StateError, TlsConfiguration, Transport,
};
use std::path::Path;

/// Maximum size of a file with certificates or a key.
const MAX_CERTIFICATE_BYTES: u64 = 1 << 20;
/// Maximum size of a received packet.
const MAX_INCOMING_BYTES: usize = 64 << 20;

/// `host:port` of the first broker, for messages.
pub fn broker(config: &config::Mqtt) -> String {
    broker_name(&config.brokers[0])
}

/// `host:port` of a broker.
fn broker_name(broker: &config::Broker) -> String {
    let config::Broker { host, port } = broker;
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Error text for the user. The broker is its subject ("it").
pub fn describe(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ConnectionRefused(code) => match code {
            ConnectReturnCode::BadUserNamePassword => "it refuses user and password".to_string(),
            ConnectReturnCode::NotAuthorized => {
                "it refuses user and password, or the lack of them (not authorized)".to_string()
            }
            ConnectReturnCode::BadClientId => "it refuses the client id".to_string(),
            ConnectReturnCode::RefusedProtocolVersion => "it does not support MQTT 3.1.1".to_string(),
            ConnectReturnCode::ServiceUnavailable => "it is temporarily unavailable".to_string(),
            ConnectReturnCode::Success => "it refuses the connection with the code for success".to_string(),
        },
        ConnectionError::Io(e) | ConnectionError::MqttState(StateError::Io(e)) => e.to_string(),
        ConnectionError::MqttState(StateError::Deserialization(rumqttc::mqttbytes::Error::Io(e))) => {
            e.to_string()
        }
        ConnectionError::MqttState(StateError::AwaitPingResp) => "it does not answer".to_string(),
        ConnectionError::NetworkTimeout => "it does not answer in time".to_string(),
        ConnectionError::FlushTimeout => "it does not accept data in time".to_string(),
        other => other.to_string(),
    }
}

/// Checks what a connection needs of this machine: certificates and keys.
///
/// Errors ([`ErrorKind::Input`]): a certificate or a key cannot be read.
pub fn check(config: &config::Mqtt) -> Result<(), Error> {
    client_options(config, 0, &config.client_id).map(drop)
}

/// rumqttc's options for a client of one of the brokers.
///
/// Errors ([`ErrorKind::Input`]): a certificate or a key cannot be read.
fn client_options(config: &config::Mqtt, broker: usize, client_id: &str) -> Result<MqttOptions, Error> {
    let config::Broker { host, port } = &config.brokers[broker];
    let mut options = MqttOptions::new(client_id, host, *port);
    options.set_keep_alive(config.keep_alive);
    // The limit for received packets is high, because each retained message above it would end every
    // connection.
    options.set_max_packet_size(MAX_INCOMING_BYTES, config.max_packet_bytes);
    options.set_clean_session(true);
    if let Some(login) = &config.login {
        options.set_credentials(&login.user, &login.password);
    }
    if let Some(tls) = &config.tls {
        let connector = tls_connector(tls)?;
        options.set_transport(Transport::tls_with_config(TlsConfiguration::NativeConnector(connector)));
    }
    Ok(options)
}

/// The TLS settings in the form of the TLS library.
///
/// Errors ([`ErrorKind::Input`]): a certificate or a key cannot be read.
fn tls_connector(tls: &config::Tls) -> Result<native_tls::TlsConnector, Error> {
    let input = |location: String, error: native_tls::Error| Error::caused(ErrorKind::Input, location, error);
    let read = |key: &str, file: &Path| {
        let location = format!("{key} {}", file.display());
        files::read_bounded(file, MAX_CERTIFICATE_BYTES)
            .map_err(|e| Error::caused(ErrorKind::Input, location, e))
    };
    let identity_files = |cert: &Path, key: &Path| {
        format!("mqtt.cert_file {} with mqtt.key_file {}", cert.display(), key.display())
    };
    let mut connector = native_tls::TlsConnector::builder();
    if let Some(file) = &tls.ca_file {
        let authority = native_tls::Certificate::from_pem(&read("mqtt.ca_file", file)?)
            .map_err(|e| input(format!("mqtt.ca_file {}", file.display()), e))?;
        connector.add_root_certificate(authority);
    }
    if let Some((cert, key)) = &tls.identity {
        let (cert_pem, key_pem) = (read("mqtt.cert_file", cert)?, read("mqtt.key_file", key)?);
        let identity = native_tls::Identity::from_pkcs8(&cert_pem, &key_pem)
            .map_err(|e| input(identity_files(cert, key), e))?;
        connector.identity(identity);
    }
    if !tls.alpn.is_empty() {
        connector.request_alpns(&tls.alpn.iter().map(String::as_str).collect::<Vec<_>>());
    }
    connector.build().map_err(|e| {
        let location = tls.identity.as_ref().map(|(cert, key)| identity_files(cert, key));
        input(location.unwrap_or("TLS cannot be set up".to_string()), e)
    })
}

/// rumqttc's network options, with the time within which a connection must be established.
fn network_options(config: &config::Mqtt) -> NetworkOptions {
    let mut network = NetworkOptions::new();
    network.set_connection_timeout(config.connect_timeout.as_secs().max(1));
    network.set_tcp_nodelay(true);
    network
}
