//! The daemon's connections through rumqttc: [`MqttDialer`] opens them, [`Pump`] turns them on a thread of its own.

use super::{broker_name, client_options, describe, network_options};
use crate::{
    config,
    publish::connection::{Connection, Dialer, LONGEST_RECEIVED, LinkEvent},
    wire::topics::{OFFLINE, Topics},
};
use crossbeam_channel::{Receiver, Sender};
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, LastWill, Outgoing, Packet, QoS, SubscribeFilter,
    SubscribeReasonCode,
};
use tokio::sync::{mpsc, oneshot};

/// Messages that rumqttc may hold: those on their way to be acknowledged, and some of which only the newest counts.
const REQUESTS: usize = 200;
/// Messages that may be unacknowledged; the publisher keeps to less.
const INFLIGHT: u16 = 200;

/// What may wait for the publisher: a broker that says more than that is made to wait itself.
const MOST_HAPPENED: usize = 1000;

/// Opens connections that announce their own death.
pub struct MqttDialer {
    config: config::Mqtt,
    will_topic: String,
    fresh: mpsc::UnboundedSender<Fresh>,
}

/// Turns one connection after another.
pub struct Pump {
    connections: mpsc::UnboundedReceiver<Fresh>,
    happened: Sender<(u64, LinkEvent)>,
}

/// A connection for the pump.
struct Fresh {
    number: u64,
    event_loop: EventLoop,
    /// Resolves when the other end is gone.
    abandoned: oneshot::Receiver<()>,
}

/// A dialler, the pump for what it opens, and what happens there.
pub fn connections(config: config::Mqtt, topics: &Topics) -> (MqttDialer, Pump, Receiver<(u64, LinkEvent)>) {
    let (fresh, connections) = mpsc::unbounded_channel();
    let (sender, happened) = crossbeam_channel::bounded(MOST_HAPPENED);
    let dialer = MqttDialer { config, will_topic: topics.node_status(), fresh };
    (dialer, Pump { connections, happened: sender }, happened)
}

impl Dialer for MqttDialer {
    fn brokers(&self) -> usize {
        self.config.brokers.len()
    }

    fn name(&self, broker: usize) -> String {
        broker_name(&self.config.brokers[broker])
    }

    fn dial(&mut self, broker: usize, number: u64) -> Result<Box<dyn Connection>, String> {
        let mut options = client_options(&self.config, broker, &self.config.client_id)
            .map_err(|error| error.to_string())?;
        options.set_inflight(INFLIGHT);
        options.set_last_will(LastWill::new(&self.will_topic, OFFLINE, QoS::AtLeastOnce, true));
        let (client, mut event_loop) = AsyncClient::new(options, REQUESTS);
        event_loop.set_network_options(network_options(&self.config));
        let (keep, abandoned) = oneshot::channel();
        let sent = self.fresh.send(Fresh { number, event_loop, abandoned });
        sent.map_err(|_| "the thread for connections has ended".to_string())?;
        Ok(Box::new(MqttConnection { client, _keep: keep }))
    }
}

struct MqttConnection {
    client: AsyncClient,
    /// Dropping it tells the pump.
    _keep: oneshot::Sender<()>,
}

impl Connection for MqttConnection {
    fn publish(&mut self, topic: &str, acknowledged: bool, retained: bool, payload: &[u8]) -> bool {
        let quality = if acknowledged { QoS::AtLeastOnce } else { QoS::AtMostOnce };
        self.client.try_publish(topic, quality, retained, payload).is_ok()
    }

    fn subscribe(&mut self, filters: &[String]) -> bool {
        let filters = filters.iter().map(|filter| SubscribeFilter::new(filter.clone(), QoS::AtLeastOnce));
        self.client.try_subscribe_many(filters).is_ok()
    }

    fn disconnect(&mut self) -> bool {
        self.client.try_disconnect().is_ok()
    }
}

impl Pump {
    /// Ends when the dialler is gone.
    ///
    /// Errors: no runtime can be had of the system.
    pub fn run(mut self) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            while let Some(fresh) = self.connections.recv().await {
                turn(fresh, &self.happened).await;
            }
        });
        Ok(())
    }
}

async fn turn(fresh: Fresh, happened: &Sender<(u64, LinkEvent)>) {
    let Fresh { number, mut event_loop, mut abandoned } = fresh;
    loop {
        let event = tokio::select! {
            biased;
            // A connection that was given up is dropped where it stands, whatever it waits for.
            _ = &mut abandoned => return,
            event = event_loop.poll() => event,
        };
        let told = match event {
            Ok(Event::Incoming(Packet::ConnAck(_))) => LinkEvent::Connected,
            Ok(Event::Incoming(Packet::PubAck(ack))) => LinkEvent::Acknowledged(ack.pkid),
            Ok(Event::Incoming(Packet::SubAck(ack))) => {
                let refused = ack.return_codes.contains(&SubscribeReasonCode::Failure);
                LinkEvent::Subscribed(!refused)
            }
            Ok(Event::Incoming(Packet::Publish(publish))) => LinkEvent::Received {
                topic: publish.topic,
                retained: publish.retain,
                payload: publish.payload[..publish.payload.len().min(LONGEST_RECEIVED)].to_vec(),
            },
            Ok(Event::Incoming(Packet::PingResp)) => LinkEvent::Alive,
            Ok(Event::Outgoing(Outgoing::Publish(id))) if id != 0 => LinkEvent::Sent(id),
            Ok(Event::Outgoing(Outgoing::Disconnect)) => LinkEvent::Disconnected,
            Ok(_) => continue,
            Err(error) => {
                let refused = matches!(error, ConnectionError::ConnectionRefused(_));
                LinkEvent::Failed { why: describe(&error), refused }
            }
        };
        let over = matches!(told, LinkEvent::Failed { .. } | LinkEvent::Disconnected);
        if happened.send((number, told)).is_err() || over {
            return;
        }
    }
}
