//! A client like any other: subscribes and hands over what comes, for `watch` and `demo`.

use super::{broker, client_options, describe, network_options};
use crate::{
    config,
    error::{Error, ErrorKind},
};
use rumqttc::{Client, Connection, Event, Packet, QoS, RecvTimeoutError};
use std::time::Duration;

/// A message as it came.
#[derive(Debug, Clone)]
pub struct Received {
    /// Where it was published.
    pub topic: String,
    /// What it says.
    pub payload: Vec<u8>,
}

/// A subscription that stands.
pub struct Subscriber {
    client: Client,
    connection: Connection,
    filters: Vec<String>,
    /// For errors.
    broker: String,
}

impl Subscriber {
    /// Connects and subscribes to `filters`; waits until the broker has said yes.
    ///
    /// Errors ([`ErrorKind::System`]): the broker is away or says no.
    pub fn connect(config: &config::Mqtt, filters: Vec<String>) -> Result<Subscriber, Error> {
        // Another client beside the daemon: a client id of its own, or the broker would end the daemon's connection.
        let client_id = format!("{}-watch-{}", config.client_id, std::process::id());
        let options = client_options(config, 0, &client_id)?;
        let (client, mut connection) = Client::new(options, filters.len() + 8);
        connection.eventloop.set_network_options(network_options(config));
        let mut subscriber = Subscriber { client, connection, filters, broker: broker(config) };
        // A first answer, so that a wrong address is an error and not silence.
        while !matches!(subscriber.turn(None)?, Some(Turn::Connected)) {}
        Ok(subscriber)
    }

    /// The next message; `None` if none came within `timeout`.
    ///
    /// Errors ([`ErrorKind::System`]): the connection was lost.
    pub fn next(&mut self, timeout: Option<Duration>) -> Result<Option<Received>, Error> {
        loop {
            match self.turn(timeout)? {
                Some(Turn::Message(message)) => return Ok(Some(message)),
                Some(Turn::Connected | Turn::Other) => {}
                None => return Ok(None),
            }
        }
    }

    fn turn(&mut self, timeout: Option<Duration>) -> Result<Option<Turn>, Error> {
        let lost = |error: &dyn std::fmt::Display| {
            Error::new(ErrorKind::System, format!("broker {}: {error}", self.broker))
        };
        let event = match timeout {
            None => self.connection.recv().map_err(|_| lost(&"the client has ended"))?,
            Some(timeout) => match self.connection.recv_timeout(timeout) {
                Ok(event) => event,
                Err(RecvTimeoutError::Timeout) => return Ok(None),
                Err(RecvTimeoutError::Disconnected) => return Err(lost(&"the client has ended")),
            },
        };
        match event.map_err(|e| lost(&describe(&e)))? {
            Event::Incoming(Packet::ConnAck(_)) => {
                for filter in &self.filters {
                    self.client.try_subscribe(filter, QoS::AtLeastOnce).map_err(|e| lost(&e))?;
                }
                Ok(Some(Turn::Connected))
            }
            Event::Incoming(Packet::Publish(publish)) => {
                Ok(Some(Turn::Message(Received { topic: publish.topic, payload: publish.payload.to_vec() })))
            }
            _ => Ok(Some(Turn::Other)),
        }
    }
}

enum Turn {
    Connected,
    Message(Received),
    Other,
}
