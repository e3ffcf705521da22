//! MQTT 3.1.1 through rumqttc: the only code that names it. [`publisher`] is the daemon's side, [`subscriber`] that of
//! `watch` and `demo`; here is what both need to find a broker and to say why it does not answer.

pub mod publisher;
pub mod subscriber;

use crate::{
    config,
    error::{Error, Kind},
};
use rumqttc::{ConnectReturnCode, ConnectionError, MqttOptions, NetworkOptions, TlsConfiguration, Transport};

/// Both ways. Messages are small; rumqttc's own limit of 10 KiB would end a connection for a long list of labels.
const MAX_PACKET_BYTES: usize = 256 * 1024;

/// `host:port`, for messages.
pub fn broker(config: &config::Mqtt) -> String {
    format!("{}:{}", config.host, config.port)
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
        ConnectionError::Io(e) => e.to_string(),
        ConnectionError::NetworkTimeout => "it does not answer in time".to_string(),
        ConnectionError::FlushTimeout => "it does not take what is sent in time".to_string(),
        other => other.to_string(),
    }
}

/// rumqttc's options for any client of ours.
///
/// Errors ([`Kind::Input`]): a certificate authority that cannot be read.
fn client_options(config: &config::Mqtt, client_id: &str) -> Result<MqttOptions, Error> {
    let mut options = MqttOptions::new(client_id, &config.host, config.port);
    options.set_keep_alive(config.keep_alive);
    options.set_max_packet_size(MAX_PACKET_BYTES, MAX_PACKET_BYTES);
    options.set_clean_session(true);
    if let Some(login) = &config.login {
        options.set_credentials(&login.user, &login.password);
    }
    if let Some(tls) = &config.tls {
        let mut connector = native_tls::TlsConnector::builder();
        if let Some(file) = &tls.ca_file {
            let place = || format!("mqtt.ca_file {}", file.display());
            let pem = std::fs::read(file).map_err(|e| Error::caused(Kind::Input, place(), e))?;
            let authority = native_tls::Certificate::from_pem(&pem)
                .map_err(|e| Error::caused(Kind::Input, place(), e))?;
            connector.add_root_certificate(authority);
        }
        let connector =
            connector.build().map_err(|e| Error::caused(Kind::System, "TLS cannot be set up", e))?;
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
